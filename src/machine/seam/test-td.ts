/**
 * For tests: a TDX host with a small TD in 64-bit mode, without a module.
 *
 *   TD's linear addresses: 0 to 2 MiB private memory, 2 to 4 MiB shared memory
 *   guest-physical         the same, with the shared bit (47) for the second
 *   host-physical          private 4 MiB + n (the TD's), shared 6 MiB + n (the host's)
 */
import { assemble } from '../isa/assembler/assemble.ts';
import { Machine, type MachineOptions } from '../machine.ts';
import { reset } from '../processor/reset.ts';
import { CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE, type Processor } from '../processor.ts';
import { VMCS_REVISION } from '../vtx/capabilities.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, PIN, PRIMARY, SECONDARY } from '../vtx/controls.ts';
import { F, type FieldName } from '../vtx/field-slots.ts';
import { VM_SUCCEED } from '../vtx/operation.ts';
import { Vmcs } from '../vtx/vmcs.ts';
import { withKeyId } from './key-id.ts';

export const HKID = 35;
const RAM = 16 << 20;
const MEGABYTE = 1 << 20;
export const PRIVATE_BASE: number = 4 * MEGABYTE;
export const SHARED_BASE: number = 6 * MEGABYTE;
/** Where shared memory begins for the TD's software. */
export const SHARED_LINEAR: number = 2 * MEGABYTE;
export const SHARED_BIT: bigint = 2n ** 47n;

const VMXON_REGION = 0x1000;
export const VMCS_PAGE = 0x10_0000;
export const VE_PAGE = 0x10_1000;
export const BITMAP_PAGE = 0x10_2000;
const SEPT = [0x10_3000, 0x10_4000, 0x10_5000] as const;
const SHARED_EPT = [0x20_0000, 0x20_1000, 0x20_2000] as const;
/** Guest-physical. */
export const TABLES = 0x1_0000;
export const CODE = 0x1000;
const STACK = 0x8000;

const RWX = 7n;
const WB = 6n << 3n;
const LEAF = 0x80n;

const GUEST: Partial<Record<FieldName, number | bigint>> = {
  VMCS_LINK_POINTER: 0xffff_ffff_ffff_ffffn,
  GUEST_CR0: 0x8001_0033,
  GUEST_CR3: TABLES,
  GUEST_CR4: CR4_PAE | CR4_VMXE,
  GUEST_EFER: EFER_LME | EFER_LMA,
  GUEST_PAT: 0x0007_0406_0007_0406n,
  GUEST_DR7: 0x400,
  GUEST_RFLAGS: 2,
  GUEST_RIP: CODE,
  GUEST_RSP: STACK,
  GUEST_CS_SELECTOR: 0x10,
  GUEST_CS_ACCESS_RIGHTS: 0xa09b,
  GUEST_TR_SELECTOR: 0x40,
  GUEST_TR_LIMIT: 0x67,
  GUEST_TR_ACCESS_RIGHTS: 0x8b,
  GUEST_LDTR_ACCESS_RIGHTS: 0x1_0000,
};

export class TestTd {
  readonly machine: Machine;
  readonly p: Processor;
  readonly vmcs: Vmcs = new Vmcs(VMCS_PAGE);

  constructor(options: Partial<MachineOptions> = {}) {
    this.machine = new Machine({ processors: 1, ramSize: RAM, profile: 'tdx-host', ...options });
    this.p = this.machine.processors[0]!;
    this.#enterRoot();
    this.#buildMemory();
    this.#buildVmcs();
  }

  /** A 64-bit host in VMX root operation. */
  #enterRoot(): void {
    const { p, machine } = this;
    machine.activate(p);
    reset(p);
    p.cr0 = 0x8005_0033;
    p.cr4 = CR4_PAE | CR4_VMXE;
    p.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    p.segments[1]!.attributes = 0xa09b;
    machine.memory.write32(VMXON_REGION, VMCS_REVISION);
    if (p.vtx.vmxon(VMXON_REGION) !== VM_SUCCEED) throw new Error('VMXON failed');
  }

  #buildMemory(): void {
    const { memory } = this.machine;
    const { keyed } = memory;
    for (let page = PRIVATE_BASE; page < SHARED_BASE; page += 4096) keyed.take(page, HKID);
    for (const page of [VMCS_PAGE, VE_PAGE, BITMAP_PAGE, ...SEPT]) keyed.take(page, HKID);
    const own = (hpa: number): bigint => BigInt(withKeyId(hpa, HKID));
    keyed.write64(SEPT[0], HKID, own(SEPT[1]) | RWX);
    keyed.write64(SEPT[1], HKID, own(SEPT[2]) | RWX);
    keyed.write64(SEPT[2], HKID, own(PRIVATE_BASE) | RWX | WB | LEAF);
    memory.write64(SHARED_EPT[0] + 8 * 256, BigInt(SHARED_EPT[1]) | RWX);
    memory.write64(SHARED_EPT[1], BigInt(SHARED_EPT[2]) | RWX);
    memory.write64(SHARED_EPT[2] + 8, BigInt(SHARED_BASE) | RWX | WB | LEAF);
    this.poke64(TABLES, BigInt(TABLES + 0x1000) | 7n);
    this.poke64(TABLES + 0x1000, BigInt(TABLES + 0x2000) | 7n);
    this.poke64(TABLES + 0x2000, 0xe7n);
    this.poke64(TABLES + 0x2008, BigInt(SHARED_LINEAR) | SHARED_BIT | 0xe7n);
  }

  #buildVmcs(): void {
    const { capabilities } = this.p.vtx;
    this.set('PIN_CONTROLS', capabilities.pin.mustBeOne | PIN.EXTERNAL_INTERRUPT_EXITING | PIN.NMI_EXITING);
    this.set('PRIMARY_CONTROLS', capabilities.primary.mustBeOne | PRIMARY.SECONDARY | PRIMARY.HLT);
    this.set('SECONDARY_CONTROLS', SECONDARY.EPT | SECONDARY.VPID | SECONDARY.UNRESTRICTED_GUEST);
    const exit = EXIT_CONTROL.HOST_64 | EXIT_CONTROL.LOAD_EFER | EXIT_CONTROL.SAVE_EFER;
    this.set('EXIT_CONTROLS', capabilities.exit.mustBeOne | exit);
    this.set('ENTRY_CONTROLS', capabilities.entry.mustBeOne | ENTRY_CONTROL.LOAD_EFER | ENTRY_CONTROL.IA32E_GUEST);
    for (const name of ['ES', 'CS', 'SS', 'DS', 'FS', 'GS'] as const) {
      this.set(`GUEST_${name}_LIMIT`, 0xffff_ffff);
      this.set(`GUEST_${name}_ACCESS_RIGHTS`, 0xc093);
    }
    for (const [name, value] of Object.entries(GUEST)) this.set(name as FieldName, value);
    this.set('VPID', 1);
    this.set('EPT_POINTER', BigInt(withKeyId(SEPT[0], HKID)) | 0x1en);
    this.set('SHARED_EPT_POINTER', SHARED_EPT[0]);
    this.set('TD_HKID', HKID);
    this.set('VE_INFORMATION_ADDRESS', VE_PAGE);
  }

  set(name: FieldName, value: number | bigint): void {
    this.vmcs.set64(F[name], BigInt.asUintN(64, BigInt(value)));
    this.vmcs.touch(F[name]);
  }
  change(name: FieldName, on: number, off = 0): void {
    this.set(name, ((this.vmcs.low(F[name]) | on) & ~off) >>> 0);
  }
  get(name: FieldName): bigint {
    return this.vmcs.u64[F[name]]!;
  }

  /** Private memory by guest-physical address, as the TD has it. */
  peek64(gpa: number): bigint {
    return this.machine.memory.keyed.read64(PRIVATE_BASE + gpa, HKID);
  }
  poke64(gpa: number, value: bigint): void {
    this.machine.memory.keyed.write64(PRIVATE_BASE + gpa, HKID, value);
  }
  /** Puts a program at CODE, where the TD goes on. */
  load(source: string): this {
    const { bytes } = assemble(source, 64, BigInt(CODE));
    this.machine.memory.keyed.writeBytes(PRIVATE_BASE + CODE, HKID, bytes);
    this.set('GUEST_RIP', CODE);
    return this;
  }
  /** Goes on behind the instruction that exited. */
  advance(): void {
    this.set('GUEST_RIP', this.get('GUEST_RIP') + this.get('EXIT_INSTRUCTION_LENGTH'));
  }
  /** Another page of the secure EPT: makes a 4 KiB piece of private memory absent, by splitting the 2 MiB page. */
  unmap(gpa: number, entry: bigint): void {
    const table = 0x10_6000;
    const { keyed } = this.machine.memory;
    keyed.take(table, HKID);
    for (let i = 0; i < 512; i++)
      keyed.write64(table + 8 * i, HKID, BigInt(withKeyId(PRIVATE_BASE + 4096 * i, HKID)) | RWX | WB | LEAF);
    keyed.write64(table + 8 * (gpa / 4096), HKID, entry);
    keyed.write64(SEPT[2], HKID, BigInt(withKeyId(table, HKID)) | RWX);
  }
  /** Removes the shared mapping and leaves this entry. */
  unmapShared(entry: bigint): void {
    this.machine.memory.write64(SHARED_EPT[2] + 8, entry);
  }
}
