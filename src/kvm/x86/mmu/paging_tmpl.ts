/**
 * Walking the guest's own page tables in software: for the emulator and KVM_TRANSLATE.
 *
 * @upstream arch/x86/kvm/mmu/paging_tmpl.h FNAME(walk_addr_generic)
 */
import { type Gpa, PAGE_SIZE } from '../../../util/address.ts';
import { guestPage, kvmReadGuest32, kvmReadGuest64 } from '../../virt/guest_memory.ts';
import {
  isLongMode,
  isPae,
  isPaging,
  kvmReadCr0Bits,
  kvmReadCr3,
  kvmReadCr4,
  kvmRegisterIsAvailable,
} from '../kvm_cache_regs.ts';
import { VCPU_EXREG_PDPTR, type X86Vcpu } from '../kvm_host.ts';
import {
  PFERR_FETCH_MASK,
  PFERR_PK_MASK,
  PFERR_PRESENT_MASK,
  PFERR_RSVD_MASK,
  PFERR_USER_MASK,
  PFERR_WRITE_MASK,
} from './pferr.ts';

const PT_PRESENT = 1n;
const PT_WRITABLE = 2n;
const PT_USER = 4n;
const PT_ACCESSED = 0x20n;
const PT_DIRTY = 0x40n;
const PT_LARGE = 0x80n;
const PT_NX: bigint = 1n << 63n;
const ADDRESS_MASK = 0xf_ffff_ffff_f000n;
/** Levels below the PDPTE registers. */
const PAE_LEVELS = 2;
const PAE_RESERVED = 0x7ff0_0000_0000_0000n;
/** Of a directory entry that maps 4 MiB; bits 20:13 are address bits. */
const PDE_PSE36_RESERVED = 0x20_0000;
const LARGEST_PAGE_LEVEL = 3;
const CR0_WP = 0x10000;
const CR4_PSE = 0x10;
const CR4_LA57 = 0x1000;
const CR4_SMEP = 0x100000;
const CR4_SMAP = 0x200000;
const CR4_PKE = 0x400000;
const PT_PKEY_SHIFT = 59n;
const EFER_NX = 0x800;
const RFLAGS_AC = 0x40000;
/** The access is the processor's own (descriptor tables): SMAP applies whatever RFLAGS.AC says. */
export const PFERR_IMPLICIT_ACCESS = 0x1000;

/**
 * Translates a linear address.
 *
 * @param access PFERR_WRITE_MASK, PFERR_FETCH_MASK, PFERR_USER_MASK as wanted
 * @returns the guest-physical address, or −1 with arch.walkFault saying which page fault it is
 */
export function kvmMmuGvaToGpa(vcpu: X86Vcpu, gva: bigint, access: number): Gpa {
  if (!isPaging(vcpu)) return Number(gva & 0xffff_ffffn);
  return new Walk(vcpu, gva, access).run();
}

/** Bits that no entry may have set: above the physical width, NX without EFER.NXE, 62:52 under PAE paging. */
function reservedBits({ arch }: X86Vcpu, levels: number): bigint {
  const aboveWidth = ((1n << 52n) - 1n) & ~((1n << BigInt(arch.maxphyaddr)) - 1n);
  return aboveWidth | (arch.efer & EFER_NX ? 0n : PT_NX) | (levels === PAE_LEVELS ? PAE_RESERVED : 0n);
}

/** Bits that are reserved because of what the entry maps: a page of 2 MiB or 1 GiB is aligned, and there is none above. */
function reservedBySize(entry: bigint, level: number): bigint {
  if (level === 1 || !(entry & PT_LARGE)) return 0n;
  return level > LARGEST_PAGE_LEVEL ? PT_LARGE : ((1n << BigInt(9 * level + 3)) - 1n) & ~0x1fffn;
}

class Walk {
  readonly #vcpu: X86Vcpu;
  readonly #gva: bigint;
  readonly #access: number;
  #rights: bigint = PT_WRITABLE | PT_USER;
  #nx = false;
  /** Entries used, the root's first. */
  readonly #entries: { readonly address: Gpa; readonly entry: bigint }[] = [];

  constructor(vcpu: X86Vcpu, gva: bigint, access: number) {
    this.#vcpu = vcpu;
    this.#gva = gva;
    this.#access = access;
  }

  run(): Gpa {
    const vcpu = this.#vcpu;
    const cr4 = kvmReadCr4(vcpu);
    const cr3 = kvmReadCr3(vcpu);
    if (isLongMode(vcpu)) return this.#wide(cr4 & CR4_LA57 ? 5 : 4, Number(cr3 & ADDRESS_MASK));
    if (!isPae(vcpu)) return this.#legacy(Number(cr3 & 0xffff_f000n), (cr4 & CR4_PSE) !== 0);
    if (!kvmRegisterIsAvailable(vcpu, VCPU_EXREG_PDPTR)) vcpu.kvm.ops.cacheReg(vcpu, VCPU_EXREG_PDPTR);
    const pdpte = vcpu.arch.pdptrs[Number((this.#gva >> 30n) & 3n)]!;
    if ((pdpte & PT_PRESENT) === 0n) return this.#fault(0);
    return this.#wide(2, Number(pdpte & ADDRESS_MASK));
  }

  /** Tables of 512 entries of 8 bytes. */
  #wide(levels: number, root: Gpa): Gpa {
    const vcpu = this.#vcpu;
    const reserved = reservedBits(vcpu, levels);
    let table = root;
    for (let level = levels; ; level--) {
      const shift = 12n + 9n * BigInt(level - 1);
      const address = table + Number((this.#gva >> shift) & 0x1ffn) * 8;
      const entry = kvmReadGuest64(vcpu.kvm, address);
      if (entry === undefined || (entry & PT_PRESENT) === 0n) return this.#fault(0);
      if (entry & reserved || entry & reservedBySize(entry, level)) {
        return this.#fault(PFERR_PRESENT_MASK | PFERR_RSVD_MASK);
      }
      this.#rights &= entry;
      if (entry & PT_NX) this.#nx = true;
      const large = level > 1 && level <= LARGEST_PAGE_LEVEL && (entry & PT_LARGE) !== 0n;
      this.#entries.push({ address, entry });
      if (level > 1 && !large) {
        table = Number(entry & ADDRESS_MASK);
        continue;
      }
      const denied = this.#deniedByKey(Number((entry >> PT_PKEY_SHIFT) & 15n));
      if (denied || !this.#allowed()) return this.#fault(PFERR_PRESENT_MASK | (denied ? PFERR_PK_MASK : 0));
      this.#updateAccessedDirtyBits(8);
      const offsetMask = (1n << shift) - 1n;
      return Number((entry & ADDRESS_MASK & ~offsetMask) | (this.#gva & offsetMask));
    }
  }

  /** Two levels of 1024 entries of 4 bytes. */
  #legacy(root: Gpa, pse: boolean): Gpa {
    const { kvm } = this.#vcpu;
    const gva = Number(this.#gva & 0xffff_ffffn);
    const directory = root + (gva >>> 22) * 4;
    const pde = kvmReadGuest32(kvm, directory);
    if (pde === undefined || !(pde & 1)) return this.#fault(0);
    this.#rights &= BigInt(pde);
    this.#entries.push({ address: directory, entry: BigInt(pde) });
    if (pse && pde & 0x80) {
      if (pde & PDE_PSE36_RESERVED) return this.#fault(PFERR_PRESENT_MASK | PFERR_RSVD_MASK);
      if (!this.#allowed()) return this.#fault(PFERR_PRESENT_MASK);
      this.#updateAccessedDirtyBits(4);
      // Bits 20:13 are bits 39:32 of the address.
      return ((pde >>> 13) & 0xff) * 0x1_0000_0000 + ((pde & 0xffc0_0000) >>> 0) + (gva & 0x3f_ffff);
    }
    const address = ((pde & 0xffff_f000) >>> 0) + ((gva >>> 12) & 0x3ff) * 4;
    const pte = kvmReadGuest32(kvm, address);
    if (pte === undefined || !(pte & 1)) return this.#fault(0);
    this.#rights &= BigInt(pte);
    this.#entries.push({ address, entry: BigInt(pte) });
    if (!this.#allowed()) return this.#fault(PFERR_PRESENT_MASK);
    this.#updateAccessedDirtyBits(4);
    return ((pte & 0xffff_f000) >>> 0) + (gva & 0xfff);
  }

  #allowed(): boolean {
    const vcpu = this.#vcpu;
    const user = (this.#access & PFERR_USER_MASK) !== 0;
    const userPage = (this.#rights & PT_USER) !== 0n;
    if (user && !userPage) return false;
    if (this.#access & PFERR_WRITE_MASK && !(this.#rights & PT_WRITABLE)) {
      if (user || kvmReadCr0Bits(vcpu, CR0_WP)) return false;
    }
    const cr4 = kvmReadCr4(vcpu);
    if (this.#access & PFERR_FETCH_MASK) {
      if (this.#nx) return false;
      if (!user && userPage && cr4 & CR4_SMEP) return false;
    } else if (!user && userPage && cr4 & CR4_SMAP) {
      const implicit = (this.#access & PFERR_IMPLICIT_ACCESS) !== 0;
      if (implicit || !(vcpu.kvm.ops.getRflags(vcpu) & RFLAGS_AC)) return false;
    }
    return true;
  }

  /** Whether PKRU forbids the access to a page with this key. */
  #deniedByKey(key: number): boolean {
    const vcpu = this.#vcpu;
    if (!isLongMode(vcpu) || !(kvmReadCr4(vcpu) & CR4_PKE)) return false;
    if (!(this.#rights & PT_USER) || this.#access & PFERR_FETCH_MASK) return false;
    const denies = (vcpu.arch.pkru >>> (key * 2)) & 3;
    if (denies & 1) return true;
    if (!(denies & 2) || !(this.#access & PFERR_WRITE_MASK)) return false;
    return (this.#access & PFERR_USER_MASK) !== 0 || kvmReadCr0Bits(vcpu, CR0_WP) !== 0;
  }

  /** Once the access is allowed: every entry was used, the last one perhaps for a write. @upstream update_accessed_dirty_bits() */
  #updateAccessedDirtyBits(size: 4 | 8): void {
    const last = this.#entries.length - 1;
    for (const [i, { address, entry }] of this.#entries.entries()) {
      const dirty = i === last && this.#access & PFERR_WRITE_MASK ? PT_DIRTY : 0n;
      this.#setFlags(address, entry, PT_ACCESSED | dirty, size);
    }
  }

  #setFlags(address: Gpa, entry: bigint, flags: bigint, size: 4 | 8): void {
    if ((entry & flags) === flags) return;
    const { kvm } = this.#vcpu;
    const page = guestPage(kvm, address, true);
    if (page === undefined) return;
    const at = page + (address % PAGE_SIZE);
    const { memory } = kvm.host.machine;
    if (size === 8) memory.write64(at, entry | flags);
    else memory.write32(at, Number(entry | flags));
  }

  #fault(errorCode: number): -1 {
    const { walkFault, efer } = this.#vcpu.arch;
    const fetchTold = ((efer & EFER_NX) !== 0 && isPae(this.#vcpu)) || (kvmReadCr4(this.#vcpu) & CR4_SMEP) !== 0;
    walkFault.errorCode =
      errorCode |
      (this.#access & (PFERR_WRITE_MASK | PFERR_USER_MASK)) |
      (fetchTold ? this.#access & PFERR_FETCH_MASK : 0);
    walkFault.address = this.#gva;
    return -1;
  }
}
