/** An exit that leaves the guest's state in the processor is, to everybody who may look, like any other. */
import { expect, test } from 'vitest';
import { Random } from '../../util/random.ts';
import { KERNEL_GS, R8, R9, RBX } from '../engine/layout.ts';
import { CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME, EFER_NXE, plainSegment, plainTable } from '../processor.ts';
import { ENTRY_CONTROL, EXIT_CONTROL, SECONDARY } from './controls.ts';
import { releaseGuest } from './exit.ts';
import { F, type FieldName } from './field-slots.ts';
import { encodingByName } from './fields.ts';
import { VM_SUCCEED } from './operation.ts';
import { REASON } from './reasons.ts';
import { bytes, change, FREE_PAGE, guest, OTHER_REGION, run, set, VMCS_REGION } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const CPUID = '0f a2';
const STEPS = [
  '0f 01 10', // lgdt [rax]
  '0f 01 1e', // lidt [rsi]
  '0f 01 17', // lgdt [rdi]
  '41 8e e8', // mov gs, r8d: null
  '41 8e d8', // mov ds, r8d
  '41 0f 00 d0', // lldt r8w
  '0f 23 fb', // mov dr7, rbx
  '41 0f 22 e1', // mov cr4, r9
  '0f 01 f8', // swapgs
  '51', // push rcx
  'f9', // stc
  'fd', // std
  'fb', // sti
];
const EFER = EFER_LME | EFER_LMA | EFER_NXE;
const GUEST_FIELDS = Object.keys(F).filter((name) => name.startsWith('GUEST_')) as FieldName[];
/** Values that pass the checks of VM entry. */
const WRITES: readonly (readonly [FieldName, number | bigint])[] = [
  ['GUEST_GS_BASE', 0x1234_5000n],
  ['GUEST_DS_LIMIT', 0xffff_ffff],
  ['GUEST_SYSENTER_ESP', 0xffff_8000_0000_4444n],
  ['GUEST_SYSENTER_CS', 0x30],
  ['GUEST_DR7', 0x400],
  ['GUEST_RFLAGS', 0x246],
  ['GUEST_RSP', 0x8800],
  ['GUEST_IDTR_LIMIT', 0x7ff],
  ['GUEST_PAT', 0x0606_0606_0606_0606n],
  ['GUEST_CS_ACCESS_RIGHTS', 0xa09b],
  ['GUEST_CR3', 0x1_0000],
  ['GUEST_INTERRUPTIBILITY', 0],
  ['HOST_GDTR_BASE', 0xffff_fe00_0000_2000n],
  ['EXCEPTION_BITMAP', 0x4002],
];

/** Between two entries: what KVM and others do. */
function act(v: Vtx, random: Random, seen: unknown[]): void {
  for (let n = random.below(4); n > 0; n--) {
    switch (random.below(6)) {
      case 0:
      case 1:
        for (const name of GUEST_FIELDS) if (random.below(8) === 0) seen.push([name, v.vmread(encodingByName(name))]);
        break;
      case 2:
      case 3: {
        const [name, value] = WRITES[random.below(WRITES.length)]!;
        set(v, name, value);
        break;
      }
      case 4:
        // Another VMCS comes and goes.
        if (random.below(4) === 0) {
          expect(v.vmptrld(OTHER_REGION)).toBe(VM_SUCCEED);
          seen.push(hostOf(v));
        }
        expect(v.vmptrld(VMCS_REGION)).toBe(VM_SUCCEED);
        break;
      default:
        if (random.below(4) !== 0) break;
        expect(v.vmclear(VMCS_REGION)).toBe(VM_SUCCEED);
        seen.push(hostOf(v), v.p.machine.memory.readBytes(VMCS_REGION, 0x800).join());
        expect(v.vmptrld(VMCS_REGION)).toBe(VM_SUCCEED);
    }
  }
}

/** What of the processor the exit loads. */
function hostOf({ p }: Vtx): unknown {
  const segments = [...p.segments, p.ldtr, p.tr].map(plainSegment);
  const msrs = [0x174, 0x175, 0x176, 0x1d9, 0x277].map((index) => p.msrs.get(index));
  const { cr0, cr3, cr4, efer, dr7, cpl, rip, rflags, activity, interruptShadow, nmiBlocked } = p;
  const registers = { cr0, cr3, cr4, efer, dr7, cpl, rip, rflags, activity, interruptShadow, nmiBlocked };
  return { segments, tables: [p.gdtr, p.idtr].map(plainTable), msrs, registers, rsp: p.gpr(4) };
}

/** Everything that was seen of a run, and how many exits left the guest where it was. */
function runs(seed: number, keeps: boolean): { seen: unknown[]; stayed: number } {
  const random = new Random(seed);
  const steps = Array.from({ length: 24 }, () => STEPS[random.below(STEPS.length)]!);
  const v = guest(steps.map((step) => `${step} ${CPUID}`).join(' '), 0, SECONDARY.VPID);
  const { p } = v;
  const { memory } = p.machine;
  for (const at of [0, 0x100, 0x200])
    memory.write64(FREE_PAGE + at, (BigInt(FREE_PAGE + at) << 16n) | BigInt(0x100 + at));
  set(v, 'VPID', 1);
  change(v, 'ENTRY_CONTROLS', ENTRY_CONTROL.LOAD_DEBUG | ENTRY_CONTROL.LOAD_PAT | ENTRY_CONTROL.LOAD_EFER);
  const { SAVE_DEBUG, SAVE_PAT, SAVE_EFER, LOAD_PAT, LOAD_EFER } = EXIT_CONTROL;
  change(v, 'EXIT_CONTROLS', SAVE_DEBUG | SAVE_PAT | SAVE_EFER | LOAD_PAT | LOAD_EFER);
  for (const name of ['GUEST_EFER', 'HOST_EFER'] as const) set(v, name, EFER);
  for (const name of ['GUEST_PAT', 'HOST_PAT'] as const) set(v, name, 0x0007_0406_0007_0406n);
  p.setGpr(RBX, 0x700n);
  p.setGpr(R8, 0n);
  p.setGpr(R9, BigInt(CR4_PAE | CR4_VMXE | 0x80));
  p.write64(KERNEL_GS, 0x7000n);
  const seen: unknown[] = [];
  let stayed = 0;
  for (const step of steps) {
    v.keepsGuest = keeps;
    const exit = run(v);
    v.keepsGuest = false;
    seen.push([step, exit]);
    expect(exit.reason).toBe(REASON.CPUID);
    if (v.resident !== null) stayed++;
    set(v, 'GUEST_RIP', exit.rip + bytes(CPUID).length);
    act(v, random, seen);
  }
  releaseGuest(v);
  seen.push(
    hostOf(v),
    GUEST_FIELDS.map((name) => [name, v.vmread(encodingByName(name))]),
  );
  return { seen, stayed };
}

test.each([1, 2, 3, 4, 5, 6])('exits, reads and writes of fields, changes of the VMCS at random (seed %i)', (seed) => {
  const usual = runs(seed, false);
  const resident = runs(seed, true);
  expect(usual.stayed).toBe(0);
  expect(resident.stayed).toBe(24);
  expect(resident.seen).toEqual(usual.seen);
});
