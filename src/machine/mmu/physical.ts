/** Moving the bytes of one access between a buffer and host-physical memory, RAM or bus. */
import type { Hpa } from '../../util/address.ts';
import type { Processor } from '../processor.ts';
import { readValue, writeValue } from './keyed-access.ts';

/** The largest access a bus takes at once that fits into `length`. */
const unit = (length: number): 1 | 2 | 4 | 8 => (length >= 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1);

/** Reads `length` bytes of one page, by KeyID, into memory at byte offset `to`. */
export function readInto(p: Processor, to: number, hpa: Hpa, keyId: number, length: number): void {
  const { view } = p.machine.memory;
  for (let done = 0; done < length; ) {
    const size = unit(length - done);
    const value = readValue(p, hpa + done, keyId, size);
    if (size === 8) view.setBigUint64(to + done, value, true);
    else if (size === 4) view.setUint32(to + done, Number(value), true);
    else if (size === 2) view.setUint16(to + done, Number(value), true);
    else view.setUint8(to + done, Number(value));
    done += size;
  }
}

/** Writes `length` bytes at byte offset `from` of memory to one page, by KeyID. */
export function writeFrom(p: Processor, from: number, hpa: Hpa, keyId: number, length: number): void {
  const { view } = p.machine.memory;
  for (let done = 0; done < length; ) {
    const size = unit(length - done);
    const at = from + done;
    let value: bigint;
    if (size === 8) value = view.getBigUint64(at, true);
    else
      value = BigInt(size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : view.getUint8(at));
    writeValue(p, hpa + done, keyId, size, value);
    done += size;
  }
}
