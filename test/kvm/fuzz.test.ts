/** Hostile guests and hostile arguments, by seed: nothing throws, and the host goes on. */
import { expect, test } from 'vitest';
import { Timer } from '../../src/devices/clock.ts';
import type { Vcpu, VcpuExit } from '../../src/kvm/index.ts';
import { Random } from '../../src/util/random.ts';
import { CODE, GuestLab, imm32 } from './guest-lab.ts';
import { ok } from './lab.ts';

const ROUNDS = 60;
const RUNS = 25;
/** Nanoseconds that one run may take. */
const BUDGET = 30_000;

/** 64 bits that are likely to matter: small, all ones, single bits, addresses, anything. */
function value(random: Random): bigint {
  switch (random.below(6)) {
    case 0:
      return BigInt(random.below(0x100));
    case 1:
      return 0xffff_ffff_ffff_ffffn;
    case 2:
      return 1n << BigInt(random.below(64));
    case 3:
      return BigInt(random.below(0x20000));
    case 4:
      return BigInt(random.u32());
    default:
      return random.u64();
  }
}

function randomRegs(random: Random, vcpu: Vcpu): void {
  const regs = ok(vcpu.getRegs());
  for (const name of Object.keys(regs) as (keyof typeof regs)[]) regs[name] = value(random);
  if (random.below(8) > 0) regs.rip = BigInt(CODE);
  if (random.below(8) > 0) regs.rflags &= 0xad5n;
  expect(typeof vcpu.setRegs(regs)).toBe('number');
}

function randomSregs(random: Random, vcpu: Vcpu): void {
  const sregs = ok(vcpu.getSregs());
  for (const name of ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer', 'apicBase'] as const)
    if (random.below(4) === 0) sregs[name] = value(random);
  if (random.below(3) === 0) {
    // Modes that pass the checks, with tables of random content.
    const paging = random.below(3);
    sregs.cr0 = 0x8000_0011n;
    sregs.cr3 = BigInt(random.below(16)) << 12n;
    sregs.cr4 = paging === 0 ? 0n : 0x20n;
    sregs.efer = paging === 2 ? 0x500n : 0n;
  }
  for (const name of ['cs', 'ds', 'es', 'fs', 'gs', 'ss', 'tr', 'ldt'] as const) {
    if (random.below(4) !== 0) continue;
    const segment = sregs[name];
    segment.base = value(random);
    segment.limit = random.u32();
    segment.selector = random.below(0x10000);
    for (const bit of ['type', 'present', 'dpl', 'db', 's', 'l', 'g', 'avl', 'unusable'] as const)
      segment[bit] = random.below(bit === 'type' ? 16 : bit === 'dpl' ? 4 : 2);
  }
  if (random.below(3) === 0) sregs.idt = { base: value(random), limit: random.below(0x10000) };
  if (random.below(3) === 0) sregs.gdt = { base: value(random), limit: random.below(0x10000) };
  expect(typeof vcpu.setSregs(sregs)).toBe('number');
}

function randomIoctl(random: Random, lab: GuestLab): void {
  const { vcpu, vm } = lab;
  switch (random.below(14)) {
    case 0:
      return void vcpu.setMsrs([{ index: random.u32(), data: value(random) }]);
    case 1:
      return void vcpu.setMsrs([
        { index: (random.below(2) ? 0xc000_0080 : 0x170) + random.below(0x20), data: value(random) },
      ]);
    case 2:
      return void vcpu.getMsrs([random.u32(), random.below(0x900)]);
    case 3:
      return void vcpu.setDebugregs({
        db: [value(random), value(random), value(random), value(random)],
        dr6: value(random),
        dr7: value(random),
      });
    case 4: {
      const events = vcpu.getVcpuEvents();
      events.exception = {
        injected: random.below(2) === 1,
        pending: false,
        nr: random.below(40),
        hasErrorCode: random.below(2) === 1,
        errorCode: random.u32(),
      };
      events.nmi = { injected: random.below(4) === 0, pending: random.below(4) === 0, masked: random.below(2) === 1 };
      events.interrupt = {
        injected: random.below(4) === 0,
        nr: random.below(256),
        soft: random.below(2) === 1,
        shadow: random.below(4),
      };
      return void vcpu.setVcpuEvents(events);
    }
    case 5:
      return void vcpu.setXcrs([{ xcr: random.below(2), value: value(random) }]);
    case 6:
      return void vcpu.setMpState(random.below(8));
    case 7:
      return void vcpu.setXsave(Uint8Array.from({ length: 4096 }, () => random.below(256)));
    case 8:
      return void vcpu.translate(value(random));
    case 9:
      return void vm.setUserMemoryRegion({
        slot: random.below(4) + 1,
        flags: random.below(8),
        guestPhysAddr: Number(value(random) & 0xfff_ffff_f000n),
        memorySize: random.below(4) * 0x1000,
        userspaceAddr: lab.memory,
      });
    case 10:
      return void vcpu.setTscKhz(random.u32());
    case 11:
      return void vcpu.setGuestDebug({
        control: random.below(16) | (random.below(16) << 16),
        debugreg: [value(random)],
      });
    case 12:
      return void vcpu.interrupt(random.below(300) - 20);
    default:
      return void vm.enableCap(random.below(250), [value(random)]);
  }
}

const GDT = 0x5000;
const IDT = 0x6000;
const HANDLER = 0x1100;

/** Descriptor tables that work: every exception goes to the middle of the random code. */
function tables(lab: GuestLab): void {
  const flat = [255, 255, 0, 0, 0, 0x9b, 0xcf, 0, 255, 255, 0, 0, 0, 0x93, 0xcf, 0];
  lab.vm.mm.write(lab.memory + GDT, Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, ...flat]));
  const gate = [HANDLER & 255, HANDLER >> 8, 8, 0, 0, 0x8e, 0, 0];
  lab.vm.mm.write(
    lab.memory + IDT,
    Uint8Array.from({ length: 256 * 8 }, (_, i) => gate[i & 7]!),
  );
}

/** Instructions that exit or change modes, among random bytes. */
const SPICE: readonly (readonly number[])[] = [
  [0x0f, 0xa2],
  [0x0f, 0x30],
  [0x0f, 0x32],
  [0x0f, 0x01, 0xc1],
  [0x0f, 0x01, 0xd1],
  [0x0f, 0x22, 0xc0],
  [0x0f, 0x22, 0xd8],
  [0x0f, 0x22, 0xe0],
  [0x0f, 0x23, 0xf8],
  [0x0f, 0x00, 0xd8],
  [0x0f, 0x01, 0x18],
  [0x0f, 0x09],
  [0xf3, 0x6c],
  [0xf3, 0x6e],
  [0xec],
  [0xee],
  [0xcd, 0x80],
  [0xcf],
  [0xf4],
  [0xfb],
  [0xf3, 0x90],
  [0xa1, ...imm32(0xfee0_0020)],
  [0xa3, ...imm32(0xd000_0000)],
  [0x0f, 0xae, 0x28],
  [0x0f, 0xc7, 0xf8],
];

function randomCode(random: Random): number[] {
  const code: number[] = [];
  while (code.length < 600) {
    if (random.below(3) === 0) code.push(...SPICE[random.below(SPICE.length)]!);
    else for (let i = random.below(4); i >= 0; i--) code.push(random.below(256));
  }
  return code;
}

function answer(random: Random, exit: VcpuExit): void {
  if (exit.kind === 'io' || exit.kind === 'mmio') exit.data[0] = random.below(256);
}

test.each([1, 2, 3, 4])('seed %i', async (seed) => {
  const random = new Random(seed);
  const labs = [new GuestLab(), new GuestLab({ irqchip: true })];
  const start = labs.map((lab) => ({
    ...ok(lab.vcpu.getSregs()),
    gdt: { base: BigInt(GDT), limit: 0x17 },
    idt: { base: BigInt(IDT), limit: 0x7ff },
  }));
  const calm = labs[0]!.vcpu.getVcpuEvents();
  const kinds = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    const lab = labs[round & 1]!;
    lab.vm.mm.write(
      lab.memory,
      Uint8Array.from({ length: 0x1000 }, () => random.below(256)),
    );
    lab.load(...randomCode(random));
    tables(lab);
    lab.vcpu.setSregs(start[round & 1]!);
    lab.vcpu.setVcpuEvents(calm);
    lab.vcpu.setMpState(0);
    lab.vcpu.setGuestDebug({ control: 0, debugreg: [] });
    if (random.below(3) === 0) randomSregs(random, lab.vcpu);
    randomRegs(random, lab.vcpu);
    for (let i = random.below(4); i > 0; i--) randomIoctl(random, lab);
    for (let run = 0; run < RUNS; run++) {
      const { timers } = lab.host;
      const alarm = new Timer(() => lab.vcpu.kick());
      timers.setTimer(alarm, timers.now() + BUDGET);
      const exit = await lab.vcpu.run();
      timers.cancel(alarm);
      const kind = typeof exit === 'number' ? `${exit}` : exit.kind;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      if (typeof exit === 'number') break;
      answer(random, exit);
      if (exit.kind !== 'io' && exit.kind !== 'mmio' && exit.kind !== 'debug') break;
    }
  }
  // Most of what can happen did.
  expect(kinds.size).toBeGreaterThan(3);
  // An honest guest still runs on the same host.
  const honest = new GuestLab({ host: labs[0]!.host });
  honest.load(0xb8, ...imm32(42), 0xf4);
  await honest.run();
  expect(ok(honest.vcpu.getRegs()).rax).toBe(42n);
});
