/**
 * What is around the blocks of a region: the entry, which tests the budget and loads locals, and the epilogue that all
 * ways out join.
 */
import type { Code } from '../../isa/code.ts';
import type { CodeMode } from '../code-mode.ts';
import {
  BUDGET,
  CC_A,
  CC_B,
  CC_KIND,
  EXIT,
  GPR,
  PAGE_RIP,
  REASON,
  REGION_ENTRIES,
  REGION_INSNS,
  STOPPED_AT,
} from '../layout.ts';
import { type Bytes, I32, type ModuleBuilder } from '../wasm.ts';
import type { Region } from './region.ts';
import { IP, type RegionLocals, TLB } from './region-locals.ts';

/** Where records, their table and their entry counters lie. */
export interface RegionSite {
  readonly mode: CodeMode;
  /** Address of the code page's table. */
  readonly table: number;
  /** Record of an instruction, by page offset. */
  recordAt(offset: number): number;
  /** Record that executes the region's first instruction in the interpreter. */
  readonly declined: number;
  /** Address of a record's entry counter: (record >>> 3) + this. */
  readonly counters: number;
  /** Count entries and instructions. */
  readonly counting: boolean;
  /** Handler number of the function table's first entry, and the lowest that is a region. */
  readonly firstFunction: number;
  readonly firstRegion: number;
}

/** A region's function under construction. */
export interface RegionFunction {
  readonly code: Code;
  readonly locals: RegionLocals;
  readonly region: Region;
  readonly site: RegionSite;
}

/** Emits the whole function around `body`, which leaves by a branch to `exit`, or to `saved` where the flags are in memory. */
export function defineRegion(
  f: RegionFunction,
  module: ModuleBuilder,
  func: number,
  name: string,
  body: () => void,
): void {
  const { code, locals, region, site } = f;
  const { out } = code;
  // The dispatch has counted the record of the region; it counts again whatever it goes on with.
  out.i32(0).memory(0x28, BUDGET).i32(1).u8(0x6a).teeLocal(locals.left);
  out.i32(region.entry.longest).u8(0x48);
  code.hintUnlikely();
  code.block(0x04, 'if');
  out.i32(0).getLocal(locals.left).memory(0x36, BUDGET).i32(site.declined).u8(0x0f);
  code.end();
  if (site.counting) {
    addTo(out, REGION_ENTRIES, () => out.i64(1n));
    addTo(out, REGION_INSNS, () => out.getLocal(locals.left).u8(0xac));
  }
  out.i32(0).memory(0x29, PAGE_RIP).setLocal(locals.page);
  locals.gprs.forEach((local, r) => {
    if (local >= 0)
      out
        .i32(0)
        .memory(0x29, GPR + r * 8)
        .setLocal(local);
  });
  code.block(0x02, 'saved');
  code.block(0x02, 'exit');
  body();
  code.end();
  if (locals.writesFlags) {
    out.i32(0).getLocal(locals.kind).memory(0x36, CC_KIND);
    out.i32(0).getLocal(locals.a).memory(0x37, CC_A);
    out.i32(0).getLocal(locals.b).memory(0x37, CC_B);
  }
  code.end();
  for (const r of locals.dirty)
    out
      .i32(0)
      .getLocal(locals.gprs[r]!)
      .memory(0x37, GPR + r * 8);
  out.i32(0).getLocal(locals.left).memory(0x36, BUDGET);
  if (site.counting) addTo(out, REGION_INSNS, () => out.i64(0n).getLocal(locals.left).u8(0xac).u8(0x7d));
  emitDeparture(f, module.type([I32, I32], [I32]));
  module.define(func, [I32, I32], [I32], code.locals, out, name, code.unlikely);
}

/** With `why` 0 goes on at record `next`, by a tail call if that is a region, and counts its entry; else leaves, stopped there. */
function emitDeparture({ code, locals, site }: RegionFunction, regionType: number): void {
  const { out } = code;
  out.getLocal(locals.why).u8(0x45);
  code.block(0x04, 'if');
  out.getLocal(locals.next).memory(0x2f, 0).teeLocal(locals.target).i32(site.firstRegion).u8(0x4f);
  code.block(0x04, 'if');
  // The region takes for granted that its record has been counted.
  out.i32(0).getLocal(locals.left).i32(1).u8(0x6b).memory(0x36, BUDGET);
  out.getLocal(locals.next).getLocal(TLB);
  out.getLocal(locals.target).i32(site.firstFunction).u8(0x6b);
  out.u8(0x13).unsigned(regionType).u8(0);
  code.end();
  // IP is free here: it holds the counter's address.
  out.getLocal(locals.next).i32(3).u8(0x76).teeLocal(IP);
  out.getLocal(IP).memory(0x2f, site.counters).i32(1).u8(0x6a).teeLocal(locals.target);
  out.memory(0x3b, site.counters);
  out.getLocal(locals.target).i32(0xffff).u8(0x71);
  code.block(0x04, 'if');
  out.getLocal(locals.next).u8(0x0f);
  code.end();
  out.i32(EXIT.hot).setLocal(locals.why);
  code.end();
  out.i32(0).getLocal(locals.why).memory(0x36, REASON);
  out.i32(0).getLocal(locals.next).memory(0x36, STOPPED_AT);
  out.i32(0);
}

/** Adds what `value` pushes (i64) to a counter. */
function addTo(out: Bytes, counter: number, value: () => void): void {
  out.i32(0).i32(0).memory(0x29, counter);
  value();
  out.u8(0x7c).memory(0x37, counter);
}
