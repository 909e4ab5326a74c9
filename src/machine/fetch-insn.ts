/** Fetching and decoding the instruction at RIP through the processor's own eyes: for single steps and page-crossing instructions. */

import type { Hpa } from '../util/address.ts';
import { ACCESS, RAM_BASE, STOPPED_AT } from './engine/layout.ts';
import { TOO_LONG, TRUNCATED } from './isa/decode.ts';
import type { Insn } from './isa/insn.ts';
import { loadLinearBytes } from './mmu/access.ts';
import { translate } from './mmu/translate.ts';
import { GP, UD } from './outcome.ts';
import type { Processor } from './processor.ts';

const MAX_LENGTH = 15;

/** The instruction at RIP, fetched as the processor fetches: bytes beyond its end are not touched. */
export function fetchInsn(p: Processor): Insn | undefined {
  const { engine } = p.machine;
  const size = p.codeSize;
  const linear = engine.linearRip();
  const inPage = 4096 - Number(linear & 0xfffn);
  const fetch = (length: number): Uint8Array | undefined => loadLinearBytes(p, linear, length, false, true);
  let bytes = fetch(Math.min(MAX_LENGTH, inPage));
  if (bytes === undefined) return undefined;
  let insn = engine.decodeBytes(bytes, size);
  if (insn === TRUNCATED && inPage < MAX_LENGTH) {
    bytes = fetch(MAX_LENGTH);
    // The second page may be missing although the instruction ends before it needs all 15 bytes: fetch what it needs.
    for (let n = inPage + 1; bytes === undefined && n < MAX_LENGTH; n++) {
      const some = fetch(n);
      if (some === undefined) return undefined;
      insn = engine.decodeBytes(some, size);
      if (typeof insn !== 'string') return insn;
    }
    if (bytes === undefined) return undefined;
    insn = engine.decodeBytes(bytes, size);
  }
  if (typeof insn !== 'string') return insn;
  if (insn === TOO_LONG) p.raise(GP, 0);
  else p.raise(UD);
  return undefined;
}

/**
 * As fetchInsn, for an instruction that a straddle record announced: what was decoded last time is taken again if the
 * bytes behind the page boundary are still the same. (A write before the boundary makes a new record.)
 */
export function fetchStraddling(p: Processor): Insn | undefined {
  const { engine, memory } = p.machine;
  const record = p.read32(STOPPED_AT);
  const linear = engine.linearRip();
  const inPage = 4096 - Number(linear & 0xfffn);
  const known = engine.pages.straddling.get(record);
  if (known !== undefined) {
    const second = translate(p, linear + BigInt(inPage), ACCESS.fetch, false);
    if (second === undefined) return undefined;
    if (isCode(p, second) && known.tail.every((byte, i) => memory.bytes[RAM_BASE + second + i] === byte))
      return known.insn;
  }
  const insn = fetchInsn(p);
  if (insn === undefined || insn.length <= inPage) return insn;
  const tail = loadLinearBytes(p, linear + BigInt(inPage), insn.length - inPage, false, true);
  if (tail !== undefined) engine.pages.straddling.set(record, { insn, tail });
  const second = translate(p, linear + BigInt(inPage), ACCESS.fetch, false);
  if (second !== undefined && isCode(p, second)) engine.pages.addCrossing(record, insn, second);
  return insn;
}

/** Whether the page just translated may hold decoded code: RAM, and wholly of the KeyID that fetches. */
const isCode = ({ machine: { memory }, mmu }: Processor, hpa: Hpa): boolean =>
  memory.isRam(hpa, MAX_LENGTH) && mmu.owners[hpa >>> 12] === mmu.keyId;
