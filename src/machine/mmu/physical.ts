/** Moving the bytes of one access between a buffer and host-physical memory, RAM or bus. */
import type { Hpa } from '../../util/address.ts';
import type { PhysicalMemory } from '../memory.ts';

/** The largest access a bus takes at once that fits into `length`. */
const unit = (length: number): 1 | 2 | 4 | 8 => (length >= 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1);

/** Reads `length` bytes of one page into memory at byte offset `to`. */
export function readInto(memory: PhysicalMemory, to: number, hpa: Hpa, length: number): void {
  const { view } = memory;
  for (let done = 0; done < length; ) {
    const size = unit(length - done);
    const at = hpa + done;
    if (size === 8) view.setBigUint64(to + done, memory.read64(at), true);
    else if (size === 4) view.setUint32(to + done, memory.read32(at), true);
    else if (size === 2) view.setUint16(to + done, memory.read16(at), true);
    else view.setUint8(to + done, memory.read8(at));
    done += size;
  }
}

/** Writes `length` bytes at byte offset `from` of memory to one page. */
export function writeFrom(memory: PhysicalMemory, from: number, hpa: Hpa, length: number): void {
  const { view } = memory;
  for (let done = 0; done < length; ) {
    const size = unit(length - done);
    const at = hpa + done;
    if (size === 8) memory.write64(at, view.getBigUint64(from + done, true));
    else if (size === 4) memory.write32(at, view.getUint32(from + done, true));
    else if (size === 2) memory.write16(at, view.getUint16(from + done, true));
    else memory.write8(at, view.getUint8(from + done));
    done += size;
  }
}
