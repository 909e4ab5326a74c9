/**
 * The posted-interrupt descriptor: 64 bytes of host memory that software posts interrupts into and a processor takes
 * them from.
 *
 *   0 PIR, a bit for each vector | 32 ON (bit 0), SN (bit 1) | 34 notification vector | 36 notification destination
 *
 * @sdm "Posted-Interrupt Processing"
 * @upstream arch/x86/include/asm/posted_intr.h struct pi_desc
 */
import type { Host } from '../../../host/host.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import type { PhysicalMemory } from '../../../machine/memory.ts';
import type { Hpa } from '../../../util/address.ts';

const CONTROL = 32;
const NV = 34;
const NDST = 36;
const ON = 1;
const SN = 2;
/** 32-bit words of the PIR. */
const PIR_WORDS = 8;

/** A descriptor. @upstream struct pi_desc */
export class PiDesc {
  /** Physical address, aligned to 64 bytes. */
  readonly hpa: Hpa;
  readonly #memory: PhysicalMemory;

  constructor(memory: PhysicalMemory, hpa: Hpa) {
    this.#memory = memory;
    this.hpa = hpa;
  }

  /** A word of the PIR, 0 to 7. */
  pir(word: number): number {
    return this.#memory.read32(this.hpa + 4 * word);
  }
  setPir(word: number, value: number): void {
    this.#memory.write32(this.hpa + 4 * word, value);
  }
  /** ON and SN. */
  get control(): number {
    return this.#memory.read8(this.hpa + CONTROL);
  }
  set control(value: number) {
    this.#memory.write8(this.hpa + CONTROL, value);
  }
  /** Notification vector. */
  get nv(): number {
    return this.#memory.read8(this.hpa + NV);
  }
  set nv(value: number) {
    this.#memory.write8(this.hpa + NV, value);
  }
  /** APIC identifier of the processor to notify, in the format of the machine's APIC mode. */
  get ndst(): number {
    return this.#memory.read32(this.hpa + NDST);
  }
  set ndst(value: number) {
    this.#memory.write32(this.hpa + NDST, value);
  }
}

/** A zeroed descriptor, alone in its page; undefined without memory. */
export function vtPiDescAlloc(host: Host): PiDesc | undefined {
  const page = host.pages.alloc(PAGE_OWNER.kernel);
  return page === undefined ? undefined : new PiDesc(host.machine.memory, page);
}

export function vtPiDescFree(host: Host, desc: PiDesc): void {
  host.pages.free(desc.hpa);
}

function testAndSet(desc: PiDesc, bit: number): boolean {
  const { control } = desc;
  if (control & bit) return true;
  desc.control = control | bit;
  return false;
}

function testAndClear(desc: PiDesc, bit: number): boolean {
  const { control } = desc;
  if ((control & bit) === 0) return false;
  desc.control = control & ~bit;
  return true;
}

/** Posts a vector; whether it was posted already. @upstream pi_test_and_set_pir() */
export function piTestAndSetPir(vector: number, desc: PiDesc): boolean {
  const word = vector >>> 5;
  const bit = 1 << (vector & 31);
  const before = desc.pir(word);
  if (before & bit) return true;
  desc.setPir(word, (before | bit) >>> 0);
  return false;
}
/** Posts a vector. */
export function piSetPir(vector: number, desc: PiDesc): void {
  piTestAndSetPir(vector, desc);
}
/** Whether a vector is posted. */
export const piTestPir = (vector: number, desc: PiDesc): boolean =>
  ((desc.pir(vector >>> 5) >>> (vector & 31)) & 1) !== 0;

/** @upstream pi_is_pir_empty() */
export function piIsPirEmpty(desc: PiDesc): boolean {
  for (let word = 0; word < PIR_WORDS; word++) if (desc.pir(word) !== 0) return false;
  return true;
}
/** Nothing is posted any more. */
export function piClearPir(desc: PiDesc): void {
  for (let word = 0; word < PIR_WORDS; word++) desc.setPir(word, 0);
}

/** Outstanding notification. @upstream pi_test_on() */
export const piTestOn = (desc: PiDesc): boolean => (desc.control & ON) !== 0;
/** @upstream pi_test_and_set_on() */
export const piTestAndSetOn = (desc: PiDesc): boolean => testAndSet(desc, ON);
/** @upstream pi_set_on() */
export function piSetOn(desc: PiDesc): void {
  testAndSet(desc, ON);
}
/** @upstream pi_clear_on() */
export function piClearOn(desc: PiDesc): void {
  testAndClear(desc, ON);
}

/** Notifications are suppressed. @upstream pi_test_sn() */
export const piTestSn = (desc: PiDesc): boolean => (desc.control & SN) !== 0;
/** @upstream pi_test_and_clear_sn() */
export const piTestAndClearSn = (desc: PiDesc): boolean => testAndClear(desc, SN);
/** @upstream pi_set_sn() */
export function piSetSn(desc: PiDesc): void {
  testAndSet(desc, SN);
}
/** @upstream pi_clear_sn() */
export function piClearSn(desc: PiDesc): void {
  testAndClear(desc, SN);
}
