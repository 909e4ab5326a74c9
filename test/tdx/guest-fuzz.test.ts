/**
 * A TD that does what chance says: TDCALLs with any operands, any MSR, any CPUID leaf, any value for control registers.
 * The module must answer each with a status, a fault or an exit, and the TD must go on.
 */
import { expect, test } from 'vitest';
import { Random } from '../../src/util/random.ts';
import { DATA, END, LATE_PAGE, loadProgram, SHARED_BIT } from './guest-program.ts';
import { type Exit, type Td, TdHost, type Vcpu } from './td-builder.ts';

const ITERATIONS = 1000;
const EPT_VIOLATION = 48;
const TDCALL = 77;

/**
 * Asks the host for RAX (R12), RCX (R13), RDX (R14), R8 and R9, executes something, and reports RAX. A fault ends the
 * attempt: its handler reports the vector in R15.
 */
const program = (attempt: string): string => `
        mov esp, ${DATA + 0x1000}
    again:
        xor r15d, r15d
    report:
        mov esp, ${DATA + 0x1000}
        mov r10, 0
        mov r11, 0x5555
        mov r12, rax
        xor eax, eax
        mov ecx, 0xff00
        tdcall
        mov rax, r12
        mov rcx, r13
        mov rdx, r14
        ${attempt}
        jmp again
    ve: mov r15, 20
        mov eax, 3
        tdcall
        mov rax, rcx
        jmp report
    gp: mov r15, 13
        jmp report
    ud: mov r15, 6
        jmp report
    pf: mov r15, 14
        jmp report
    ${END}`;

function start(attempt: string): { host: TdHost; td: Td; vcpu: Vcpu } {
  const host = new TdHost(1);
  const td = host.createTd();
  loadProgram(td, program(attempt), { 6: 'ud', 13: 'gp', 14: 'pf', 20: 've' });
  const vcpu = td.createVcpu();
  td.augPage(LATE_PAGE);
  td.finalize();
  expect(vcpu.enter().r11).toBe(0x5555n);
  return { host, td, vcpu };
}

/** Numbers that matter to an interface, and others. */
function operand(random: Random): bigint {
  const interesting = [
    0n,
    1n,
    2n,
    3n,
    7n,
    64n,
    0xfffn,
    BigInt(DATA),
    BigInt(LATE_PAGE),
    0xffff_f000n,
    SHARED_BIT,
    1n << 63n,
  ];
  const pick = interesting[random.below(interesting.length)]!;
  switch (random.below(5)) {
    case 0:
      return random.u64();
    case 1:
      return BigInt.asUintN(64, -pick);
    case 2:
      return pick | BigInt(random.u32() & 0xfff);
    case 3:
      return pick | SHARED_BIT;
    default:
      return pick;
  }
}

/** Identifiers of metadata that exist or nearly do. */
const field = (random: Random): bigint => {
  const known = [0x1110_0003_0000_0000n, 0x9110_0003_0000_0010n, 0xa020_0000_0000_0007n, 0x0a00_0003_0000_0008n, -1n];
  return BigInt.asUintN(64, known[random.below(known.length)]! + BigInt(random.below(40)));
};

test('TDCALLs', () => {
  const random = new Random(7);
  const { td, vcpu } = start('tdcall');
  const leaves = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 20, 22, 23, 24, 25, 26, 27, 28, 99];
  const statuses = new Set<bigint>();
  let exits = 0;
  for (let i = 0; i < ITERATIONS; i++) {
    const leaf = leaves[random.below(leaves.length)]!;
    const metadata = leaf >= 7 && leaf <= 12;
    const version = random.below(8) === 0 ? BigInt(random.below(3)) << 16n : 0n;
    const registers: Partial<Exit> = {
      r12: BigInt(leaf) | version,
      r13: metadata && random.below(4) > 0 ? 0n : operand(random),
      r14: metadata ? field(random) : operand(random),
      r8: operand(random),
      r9: operand(random),
    };
    let exit = vcpu.enter(registers);
    if (exit.reason === EPT_VIOLATION) {
      // An operand that is nowhere. The TD would try for ever: another one takes its place.
      exits++;
      expect(exit.status).toBe('TDX_SUCCESS');
      const { keyed } = td.host.module.platform;
      const tdvps = td.host.module.tdvpsAt(vcpu.tdvpr);
      keyed.write64(tdvps.address(0x980), td.hkid, 1n);
      exit = vcpu.enter();
    }
    expect([exit.status, exit.reason, exit.r11]).toEqual(['TDX_SUCCESS', TDCALL, 0x5555n]);
    statuses.add(exit.r12 >> 32n);
  }
  expect(exits).toBeGreaterThan(0);
  // Success, invalid operands, fields that are not there, not readable, not writable …
  for (const code of [0n, 0xc000_0100n, 0xc000_0c00n, 0xc000_0c02n]) expect(statuses).toContain(code);
});

/** Runs attempts that end with a value or a fault; gives how often each vector came. */
function faults(attempt: string, next: (random: Random) => Partial<Exit>): Map<bigint, number> {
  const random = new Random(11);
  const { vcpu } = start(attempt);
  const vectors = new Map<bigint, number>();
  for (let i = 0; i < ITERATIONS; i++) {
    const exit = vcpu.enter(next(random));
    expect([exit.status, exit.reason, exit.r11]).toEqual(['TDX_SUCCESS', TDCALL, 0x5555n]);
    vectors.set(exit.r15, (vectors.get(exit.r15) ?? 0) + 1);
  }
  return vectors;
}

const ranges = [0, 0x180, 0x480, 0x800, 0x980, 0xda0, 0xc000_0080, 0xc000_0100, 0x4000_0000, 0x8000_0000];
const near = (random: Random): bigint => BigInt(ranges[random.below(ranges.length)]! + random.below(0x40));

test('reads of MSRs', () => {
  const vectors = faults('rdmsr', (random) => ({ r13: random.below(8) === 0 ? BigInt(random.u32()) : near(random) }));
  expect([...vectors.keys()].sort()).toEqual([0n, 13n, 20n]);
});

test('CPUID', () => {
  const vectors = faults('cpuid', (random) => ({
    r12: random.below(8) === 0 ? BigInt(random.u32()) : near(random),
    r13: BigInt(random.below(4) === 0 ? random.u32() : random.below(40)),
  }));
  expect([...vectors.keys()].sort()).toEqual([0n, 20n]);
});

test('writes of control registers, XCR0 and harmless MSRs', () => {
  // CR0 and CR4 come back at once, so that the program goes on in the mode it is written for.
  const crs = faults(
    `
        mov rbx, cr4
        mov rsi, cr0
        test r9, 1
        jz other
        mov cr4, rax
        mov cr4, rbx
        jmp again
    other: mov cr0, rax
        mov cr0, rsi`,
    (random) => {
      // Paging, protection and long mode stay.
      const keep = 0x8000_0033n;
      const cr0 = (keep | (BigInt(random.u32()) & ~(1n << BigInt(random.below(32))))) & 0xffff_ffffn;
      const cr4 = 0x640660n ^ (1n << BigInt(random.below(34)));
      const isCr4 = random.below(2) === 1;
      const stays = isCr4 ? (cr4 | 0x20n) & ~0x1000n : cr0 | keep;
      return { r9: isCr4 ? 1n : 0n, r12: stays };
    },
  );
  expect([...crs.keys()].every((vector) => [0n, 13n, 20n].includes(vector))).toBe(true);
  const xcr0 = faults('xsetbv', (random) => ({
    r12: BigInt(random.below(16)),
    r13: BigInt(random.below(2)),
    r14: random.below(4) === 0 ? 1n : 0n,
  }));
  expect([...xcr0.keys()].sort()).toEqual([0n, 13n]);
});
