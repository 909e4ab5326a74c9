import { describe, expect, test } from 'vitest';
import { RCX, RDI, RSI, SS } from '../engine/layout.ts';
import { Machine } from '../machine.ts';
import { GP, PF, SS_FAULT } from '../outcome.ts';
import {
  CR0_PE,
  CR0_PG,
  CR0_WP,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  FLAG_CF,
  FLAG_ZF,
  HLT,
  type Processor,
} from '../processor.ts';
import { runProcessor } from '../run.ts';
import { invlpg, tlbContextChanged } from './tlb.ts';

const CODE = 0x1000;
const TABLES = 0x8000;
const HANDLER = 0x7000;

/**
 * A 64-bit machine, the first 2 MiB mapped one to one in 4 KiB pages, that executes code at 0x1000 until HLT. Faults end at
 * a HLT too, with the vector in `fault`.
 */
class Runner {
  readonly machine: Machine = new Machine({ processors: 1, ramSize: 4 << 20, profile: 'pc' });
  readonly p: Processor = this.machine.processors[0]!;

  constructor() {
    const { machine, p } = this;
    const { memory } = machine;
    machine.activate(p);
    memory.write64(TABLES, BigInt(TABLES + 0x1000) | 3n);
    memory.write64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 3n);
    memory.write64(TABLES + 0x2000, BigInt(TABLES + 0x3000) | 3n);
    for (let i = 0; i < 512; i++) memory.write64(TABLES + 0x3000 + i * 8, BigInt(i * 4096) | 3n);
    p.cr0 = CR0_PE | CR0_PG | CR0_WP;
    p.cr3 = BigInt(TABLES);
    p.cr4 = CR4_PAE;
    p.efer = EFER_LME | EFER_LMA;
    for (const s of p.segments) Object.assign(s, { selector: 16, base: 0n, limit: 0xffff_ffff, attributes: 0xc093 });
    Object.assign(p.segments[1]!, { selector: 8, attributes: 0xa09b });
    p.flagsRest = 2;
    p.setGpr(4, 0x6000n);
    // A GDT with the code segment, and gates for the faults that lead to HLTs.
    memory.write64(0x5008, 0x00af_9b00_0000_ffffn);
    Object.assign(p.gdtr, { base: 0x5000n, limit: 15 });
    for (const vector of [SS_FAULT, GP, PF]) {
      const to = HANDLER + vector * 16;
      memory.write64(0x4000 + vector * 16, BigInt(to & 0xffff) | (8n << 16n) | (0x8e00n << 32n));
      memory.writeBytes(to, Uint8Array.of(0xf4, 0xf4));
    }
    Object.assign(p.idtr, { base: 0x4000n, limit: 0xfff });
    p.syncSegments();
    tlbContextChanged(p);
  }

  /** Changes the page-table entry of a page. */
  protect(page: number, entry: bigint): void {
    this.machine.memory.write64(TABLES + 0x3000 + (page >> 12) * 8, entry);
    invlpg(this.p, BigInt(page));
  }

  /** Runs code from `at`; returns the vector of the fault, or -1. */
  run(code: number[], at = CODE): number {
    const { p, machine } = this;
    machine.memory.writeBytes(at, Uint8Array.from([...code, 0xf4]));
    p.rip = BigInt(at);
    p.activity = 0;
    runProcessor(p, machine.clock.now() + 10_000);
    expect(p.activity).toBe(HLT);
    const handler = Number(p.rip) - 1 - HANDLER;
    return handler >= 0 && handler < 0x1000 ? handler / 16 : -1;
  }
}

const bytesOf = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24];
/** mov rax, [at] */
const load = (at: number): number[] => [0x48, 0x8b, 0x04, 0x25, ...bytesOf(at)];
/** mov [at], rax */
const store = (at: number): number[] => [0x48, 0x89, 0x04, 0x25, ...bytesOf(at)];
/** inc dword [at] */
const increment = (at: number): number[] => [0xff, 0x04, 0x25, ...bytesOf(at)];

describe('generated code and the MMU together', () => {
  test('page-crossing load, store and read-modify-write', () => {
    const r = new Runner();
    r.machine.memory.write64(0x2ffd, 0x1122_3344_5566_7788n);
    expect(r.run([...load(0x2ffd), ...store(0x3ff9), ...increment(0x2fff)])).toBe(-1);
    expect(r.p.gpr(0)).toBe(0x1122_3344_5566_7788n);
    expect(r.machine.memory.read64(0x3ff9)).toBe(0x1122_3344_5566_7788n);
    expect(r.machine.memory.read64(0x2ffd)).toBe(0x1122_3344_5567_7788n);
  });

  test('a store into the next instruction of the same page takes effect', () => {
    const r = new Runner();
    // mov byte [next], 0x43; next: inc eax (ff c0) becomes inc ebx by its last byte
    r.p.setGpr(0, 0n);
    r.p.setGpr(3, 0n);
    const change = [0xc6, 0x04, 0x25, ...bytesOf(CODE + 9), 0xc3, 0xff, 0xc0];
    expect(r.run(change)).toBe(-1);
    expect([r.p.gpr(0), r.p.gpr(3)]).toEqual([0n, 1n]);
    expect(r.run(change)).toBe(-1);
    expect([r.p.gpr(0), r.p.gpr(3)]).toEqual([0n, 2n]);
  });

  test('code in a page whose TLB entry was writable: a later store is still noticed', () => {
    const r = new Runner();
    const target = 0x2000;
    r.run([...store(target)]);
    // inc eax at 0x2000, then rewrite it to inc ebx and run it again
    r.p.setGpr(0, 5n);
    r.run([0xff, 0xc0], target);
    expect(r.p.gpr(0)).toBe(6n);
    r.run([0xc6, 0x04, 0x25, ...bytesOf(target + 1), 0xc3]);
    r.p.setGpr(3, 0n);
    r.p.rip = BigInt(target);
    r.p.activity = 0;
    runProcessor(r.p, r.machine.clock.now() + 1000);
    expect([r.p.gpr(0), r.p.gpr(3)]).toEqual([6n, 1n]);
  });

  test('REPE CMPSB with both operands in device memory, and across pages', () => {
    const r = new Runner();
    r.machine.memory.bus = { read: (hpa) => BigInt(hpa & 0xff), write: () => {} };
    r.protect(0x20_0000 - 0x1000, 0xfee0_0003n);
    r.p.setGpr(RSI, 0x1f_f010n);
    r.p.setGpr(RDI, 0x1f_f110n);
    r.p.setGpr(RCX, 5n);
    expect(r.run([0xf3, 0xa6])).toBe(-1);
    expect([r.p.gpr(RCX), r.p.gpr(RSI), r.p.gpr(RDI), r.p.rflags & (FLAG_ZF | FLAG_CF)]).toEqual([
      0n,
      0x1f_f015n,
      0x1f_f115n,
      FLAG_ZF,
    ]);
    r.machine.memory.write64(0x2ffd, 1n);
    r.machine.memory.write64(0x10_3ffd, 2n);
    r.p.setGpr(RSI, 0x2ffdn);
    r.p.setGpr(RDI, 0x10_3ffdn);
    expect(r.run([0x48, 0xa7])).toBe(-1);
    expect([r.p.gpr(RSI), r.p.gpr(RDI), r.p.rflags & (FLAG_ZF | FLAG_CF)]).toEqual([0x3005n, 0x10_4005n, FLAG_CF]);
  });

  test('REP MOVSB into a page that ends the copy with a fault: registers say how far it came', () => {
    const r = new Runner();
    r.protect(0x3000, 0x3001n);
    r.p.setGpr(RSI, 0x2000n);
    r.p.setGpr(RDI, 0x2ff0n);
    r.p.setGpr(RCX, 0x100n);
    expect(r.run([0xf3, 0xa4])).toBe(PF);
    expect([r.p.gpr(RCX), r.p.gpr(RDI), r.p.cr2]).toEqual([0xf0n, 0x3000n, 0x3000n]);
  });

  test('non-canonical addresses: #GP, through RBP and RSP #SS', () => {
    const r = new Runner();
    r.p.setGpr(3, 0x8000_0000_0000n);
    expect(r.run([0x48, 0x8b, 0x03])).toBe(GP);
    r.p.setGpr(5, 0x8000_0000_0000n);
    r.p.setGpr(4, 0x6000n);
    expect(r.run([0x48, 0x8b, 0x45, 0x00])).toBe(SS_FAULT);
    expect(r.p.segments[SS]!.base).toBe(0n);
  });

  test('a page-crossing PUSH through a missing second page leaves RSP as it was', () => {
    const r = new Runner();
    r.protect(0x3000, 0n);
    r.p.setGpr(4, 0x3004n);
    expect(r.run([0x50])).toBe(PF);
    // The frame lies below 0x3000, where delivery aligns the stack to; RSP is its fourth word from the error code.
    expect([r.machine.memory.read64(0x2ff0), r.p.cr2]).toEqual([0x3004n, 0x3000n]);
  });
});
