/**
 * The processor's own accesses by KeyID: with 0 as all software's, with a TD's private one through keyed memory. An access
 * with a private KeyID to a line that is another KeyID's is a machine check, which ends the TD before anything happens.
 */
import type { Hpa } from '../../util/address.ts';
import type { Processor } from '../processor.ts';
import { KEYID_BITS, KEYID_SHIFT } from '../seam/key-id.ts';

const KEY_SHIFT_HIGH = KEYID_SHIFT - 32;
/** The KeyID in the upper half of a physical address. */
export const KEY_MASK_HIGH: number = ((1 << KEYID_BITS) - 1) << KEY_SHIFT_HIGH;

/** Whether an access to bytes of one page is a machine check; then the exit is recorded, and p.outcome is VMEXIT. */
export function machineChecks(p: Processor, hpa: Hpa, size: number, keyId: number): boolean {
  if (keyId === 0 || p.machine.memory.keyed.owns(hpa, size, keyId)) return false;
  p.outcome = p.vtx.machineCheck();
  return true;
}

/** 32 bits, unsigned. */
export function readWord(p: Processor, hpa: Hpa, keyId: number): number {
  const { memory } = p.machine;
  return keyId === 0 ? memory.read32(hpa) : memory.keyed.read32(hpa, keyId);
}

export function writeWord(p: Processor, hpa: Hpa, keyId: number, value: number): void {
  const { memory } = p.machine;
  if (keyId === 0) memory.write32(hpa, value);
  else memory.keyed.write32(hpa, keyId, value);
}

/** 1, 2, 4 or 8 bytes, zero-extended. */
export function readValue(p: Processor, hpa: Hpa, keyId: number, size: number): bigint {
  const { memory } = p.machine;
  if (keyId !== 0) return memory.keyed.read(hpa, keyId, size);
  switch (size) {
    case 1:
      return BigInt(memory.read8(hpa));
    case 2:
      return BigInt(memory.read16(hpa));
    case 4:
      return BigInt(memory.read32(hpa));
    default:
      return memory.read64(hpa);
  }
}

/** Writes the low 1, 2, 4 or 8 bytes of a value. */
export function writeValue(p: Processor, hpa: Hpa, keyId: number, size: number, value: bigint): void {
  const { memory } = p.machine;
  if (keyId !== 0) return memory.keyed.write(hpa, keyId, size, value);
  switch (size) {
    case 1:
      return memory.write8(hpa, Number(value & 0xffn));
    case 2:
      return memory.write16(hpa, Number(value & 0xffffn));
    case 4:
      return memory.write32(hpa, Number(value & 0xffff_ffffn));
    default:
      return memory.write64(hpa, BigInt.asUintN(64, value));
  }
}

export function readRange(p: Processor, hpa: Hpa, keyId: number, length: number): Uint8Array {
  const { memory } = p.machine;
  return keyId === 0 ? memory.readBytes(hpa, length) : memory.keyed.readBytes(hpa, keyId, length);
}

export function writeRange(p: Processor, hpa: Hpa, keyId: number, bytes: Uint8Array): void {
  const { memory } = p.machine;
  if (keyId === 0) memory.writeBytes(hpa, bytes);
  else memory.keyed.writeBytes(hpa, keyId, bytes);
}

/**
 * The upper half of a secure EPT entry without the TD's KeyID; one with another KeyID keeps it, as bits that no address
 * has.
 */
export function withoutKey(upper: number, keyId: number): number {
  const found = (upper & KEY_MASK_HIGH) >>> KEY_SHIFT_HIGH;
  return found === keyId ? upper & ~KEY_MASK_HIGH : upper;
}
