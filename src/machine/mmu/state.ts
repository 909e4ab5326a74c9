/**
 * The memory management unit of one processor: the controls in force in decoded form, its TLB contexts, and the result
 * of the last walk.
 *
 * Linear addresses travel as two unsigned 32-bit halves here, guest- and host-physical addresses as numbers.
 */
import type { Gva } from '../../util/address.ts';
import type { Machine } from '../machine.ts';
import { PROFILES } from '../profiles.ts';
import { KEYID_BITS, KEYID_SHIFT } from '../seam/key-id.ts';
import { EptCache } from './ept-cache.ts';
import { joinLinear } from './halves.ts';
import { banksOf, type TlbBanks } from './tlb-banks.ts';
import { type PrivilegeClass, SUPERVISOR, TlbContext } from './tlb-context.ts';

/** Paging modes. */
export const PAGING_OFF = 0;
export const PAGING_32BIT = 1;
export const PAGING_PAE = 2;
export const PAGING_4LEVEL = 3;
export const PAGING_5LEVEL = 4;
export type PagingMode = 0 | 1 | 2 | 3 | 4;

/** What an access needs, as the walk takes it. */
export const NEED_WRITE = 1;
export const NEED_FETCH = 2;
/** The access is a user-mode access. */
export const NEED_USER = 4;
/** SMAP is in force for this supervisor access. */
export const NEED_SMAP = 8;

/** The upper bit of the KeyID: set in all private ones, clear in the shared. */
const PRIVATE_KEYS: number = 2 ** (KEYID_SHIFT + KEYID_BITS - 1 - 32);

export class Mmu {
  readonly tlb: TlbBanks;
  /** Contexts that may have entries; the current one is among them. */
  readonly contexts: TlbContext[] = [];
  context: TlbContext;
  /** Privilege class of explicit accesses. */
  class: PrivilegeClass = SUPERVISOR;
  /** Privilege class of implicit supervisor accesses (descriptor tables, TSS): RFLAGS.AC does not count for them. */
  implicitClass: PrivilegeClass = SUPERVISOR;

  // ---- what the derived state below was made from
  cr0 = -1;
  cr3 = -1n;
  cr4 = 0;
  efer = 0;
  vpid = 0;
  eptp = 0n;

  // ---- controls in force
  paging: PagingMode = PAGING_OFF;
  /** Address in CR3, for the mode. */
  root = 0;
  writeProtect = false;
  smep = false;
  smap = false;
  /** The page-fault error code has the I/D bit. */
  reportsFetch = false;
  /** CR4.PGE: entries may call pages global. */
  pge = false;
  /** CR4.PSE: 32-bit paging has 4 MiB pages. */
  pse = false;
  /** Reserved bits in the upper half of an entry of 8 bytes. */
  reservedHigh = 0;
  /** CR4.PKE with IA-32e paging: user pages have protection keys. */
  protectionKeys = false;
  /** A canonical address has, in its upper half shifted right by this (signed), only zeros or only ones. */
  canonicalShift = 15;
  ept = false;
  eptCache: EptCache;
  readonly eptCaches: EptCache[] = [];
  /** Bits of a physical address, MAXPHYADDR. */
  readonly physicalBits: number;
  /** Bits of the upper half of an entry that lie above physicalBits and below bit 52. */
  aboveWidth = 0;
  /** Bytes of RAM. */
  readonly ramSize: number;
  /** By page frame: the KeyID that owns it (keyed-memory.ts). */
  readonly owners: Uint16Array;
  /** Bits of the upper half of a host-physical address that software outside SEAM may not set: private KeyIDs. */
  readonly privateKeys: number;
  /** KeyID of the TD's private memory; 0 outside SEAM. */
  hkid = 0;
  /** Guest-physical addresses from here on are shared memory; Infinity outside SEAM. */
  sharedBase: number = Number.POSITIVE_INFINITY;

  // ---- the address being walked, and the result
  linearLow = 0;
  linearHigh = 0;
  /** Host-physical address of the byte. */
  hpa = 0;
  /** KeyID that the last translated address is accessed with, beside a shared one in the address. */
  keyId = 0;
  gpa = 0;
  /** log2 of the guest page's size. */
  pageShift = 12;
  /** Rights by the guest's tables. */
  user = true;
  writable = true;
  noExecute = false;
  /** Protection key of the user page; 0 where there are none. */
  key = 0;
  /** What PKRU denies that key: 1 all data accesses, 2 writes. */
  keyDenies = 0;
  /** The guest's tables call the page global. */
  global = false;
  /** The guest's dirty flag is set, or there is none. */
  dirty = true;
  /** EPT rights (R W X in bits 2:0) of the last EPT walk, and EPT_DIRTY if writes need set no flag. */
  eptRights = 0;

  /** The address being walked. */
  get linear(): Gva {
    return joinLinear(this.linearLow, this.linearHigh);
  }

  constructor(machine: Machine) {
    this.tlb = banksOf(machine.memory);
    this.ramSize = machine.memory.ramSize;
    this.owners = machine.memory.keyed.owners;
    this.privateKeys = machine.memory.hasKeyIds ? PRIVATE_KEYS : 0;
    this.physicalBits = PROFILES[machine.options.profile].physicalAddressBits;
    this.context = new TlbContext(this.tlb, 0, -1, PAGING_OFF, 0);
    this.context.current = true;
    this.contexts.push(this.context);
    this.eptCache = new EptCache(-1);
  }
}
