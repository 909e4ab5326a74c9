/**
 * The APIC-access page: accesses to it go to the virtual-APIC page, or exit.
 *
 * It is recognized by the physical address that a translation ends at, so a page that is one has no TLB entries and none
 * in the EPT cache. (As on processors, software that makes a page the APIC-access page invalidates what is cached of it.)
 *
 * @sdm "Virtualizing Memory-Mapped APIC Accesses"
 */
import type { Hpa } from '../../util/address.ts';
import { ACCESS } from '../engine/layout.ts';
import { PRIMARY, SECONDARY } from './controls.ts';
import { RF_KEEP, RF_SET } from './exit-info.ts';
import { REASON } from './reasons.ts';
import { VAPIC } from './virtual-apic.ts';
import type { Vtx } from './vtx.ts';

const PAGE = 4096;

/** Access types of the exit qualification, bits 15:12. */
const TYPE_READ = 0;
const TYPE_WRITE = 1;
const TYPE_FETCH = 2;
const TYPE_DELIVERY = 3;
const TYPE_PHYSICAL_DELIVERY = 10;
const TYPE_PHYSICAL = 15;

const range = (from: number, to: number): number[] =>
  Array.from({ length: (to - from) / 16 + 1 }, (_, i) => from + 16 * i);

/** Registers whose accesses are virtualized with APIC-register virtualization, beside those that only reads reach. */
const REGISTERS: readonly number[] = [
  0x20,
  VAPIC.TPR,
  VAPIC.EOI,
  0xd0,
  0xe0,
  0xf0,
  0x280,
  VAPIC.ICR_LOW,
  VAPIC.ICR_HIGH,
  ...range(0x320, 0x380),
  0x3e0,
];
const WRITABLE: ReadonlySet<number> = new Set(REGISTERS);
const READABLE: ReadonlySet<number> = new Set([...REGISTERS, 0x30, ...range(0x100, 0x270)]);

/** Whether a physical address lies in the APIC-access page in force. */
export const inApicAccessPage = (v: Vtx, hpa: Hpa): boolean =>
  v.apicAccessPage >= 0 && hpa >= v.apicAccessPage && hpa < v.apicAccessPage + PAGE;

function virtualized(v: Vtx, register: number, write: boolean): boolean {
  const { secondary } = v;
  if (secondary & SECONDARY.APIC_REGISTER_VIRTUALIZATION) return (write ? WRITABLE : READABLE).has(register);
  if (register === VAPIC.TPR) return true;
  const delivery = (secondary & SECONDARY.VIRTUAL_INTERRUPT_DELIVERY) !== 0;
  return write && delivery && (register === VAPIC.EOI || register === VAPIC.ICR_LOW);
}

/** Whether the access needs an exit. @sdm "Virtualizing Reads from the APIC-Access Page", "Virtualizing Writes to the APIC-Access Page" */
function mustExit(v: Vtx, offset: number, size: number, access: number): boolean {
  if ((v.primary & PRIMARY.TPR_SHADOW) === 0 || access === ACCESS.fetch) return true;
  if (size > 4 || (offset & 15) + size > 4) return true;
  const written = v.apicWrite >= 0;
  const same = v.apicWrite === offset && v.apicWriteSize === size;
  if (access !== ACCESS.write && (written || !virtualized(v, offset & 0xff0, false))) return true;
  return access !== ACCESS.read && ((written && !same) || !virtualized(v, offset & 0xff0, true));
}

function exit(v: Vtx, type: number, offset: number): void {
  v.record(REASON.APIC_ACCESS, BigInt((type << 12) | offset), v.p.delivering === null ? RF_SET : RF_KEEP);
}

/**
 * Where a linear access to the APIC-access page goes instead: an address in the virtual-APIC page, or -1 where it exits
 * (the exit is recorded). After a write has been made call `noteApicWrite`.
 * @param access a value of ACCESS
 */
export function virtualizeAccess(v: Vtx, hpa: Hpa, size: number, access: number): Hpa {
  const offset = hpa % PAGE;
  if (!mustExit(v, offset, size, access)) return v.virtualApicPage + offset;
  const type =
    v.p.delivering !== null
      ? TYPE_DELIVERY
      : access === ACCESS.fetch
        ? TYPE_FETCH
        : access === ACCESS.read
          ? TYPE_READ
          : TYPE_WRITE;
  exit(v, type, offset);
  return -1;
}

/** A virtualized write has reached the virtual-APIC page: its emulation follows at the next boundary. */
export function noteApicWrite(v: Vtx, offset: number, size: number): void {
  v.apicWrite = offset;
  v.apicWriteSize = size;
  v.p.eventsPending = true;
}

/** An access that no linear address stands behind (paging structures) is never virtualized: the exit is recorded. */
export function guestPhysicalApicAccess(v: Vtx): void {
  exit(v, v.p.delivering === null ? TYPE_PHYSICAL : TYPE_PHYSICAL_DELIVERY, 0);
}
