/**
 * Every instruction of the tables that takes a memory operand, once on RAM by the processor and once on a device by KVM's
 * emulator: registers, flags and what is written must be the same.
 */
import { expect, test } from 'vitest';
import { encode, type OperandValue } from '../../machine/isa/assembler/encode.ts';
import '../../machine/isa/index.ts';
import { ASSIST, type Row, rows } from '../../machine/isa/row.ts';
import { Random } from '../../util/random.ts';
import type { VcpuExit } from '../virt/kvm_run.ts';
import { CODE, GuestLab, MMIO, ok } from './testing/guest_lab.ts';

const RAM = 0x9000;
const SIZE = 64;
const HLT = 0xf4;
const MEMORY: OperandValue = {
  kind: 'memory',
  memory: { base: 7, index: -1, scale: 0, disp: 16, ripRelative: false, segment: 3 },
};

function operandsOf(row: Row): OperandValue[] | undefined {
  const values = row.operands.map(({ letter }): OperandValue | undefined => {
    if ('EMWQ'.includes(letter)) return MEMORY;
    if ('GVPBH'.includes(letter)) return { kind: 'register', register: 3 };
    if (letter === 'I') return { kind: 'immediate', value: 5n };
    return letter === 'fixed' || letter === 'X' || letter === 'Y' ? { kind: 'implicit' } : undefined;
  });
  return values.every((value) => value !== undefined) && values.includes(MEMORY)
    ? (values as OperandValue[])
    : undefined;
}

/** The encodings under test, each in its operand sizes. */
function cases(): { text: string; code: Uint8Array; skilled: boolean }[] {
  const found: { text: string; code: Uint8Array; skilled: boolean }[] = [];
  for (const row of rows) {
    const operands = operandsOf(row);
    // LEA gives the address, which is another one here.
    if (operands === undefined || row.operation.mnemonic === 'LEA') continue;
    if (row.operation.flow !== 'next' || row.only === 'no64' || row.form === 'reg') continue;
    const sizes = row.operands.some(({ size }) => 'vzy'.includes(size)) ? ([16, 32, 64] as const) : ([32] as const);
    for (const operandSize of sizes) {
      if (operandSize === 16 && row.prefix !== '') continue;
      const code = encode({ row, mode: 64, operandSize, addressSize: 64, operands });
      found.push({
        text: `${row.operation.mnemonic} ${row.text}/${operandSize}`,
        code,
        // Arithmetic on vectors, and what the processor itself leaves to others, has no business with a device.
        skilled: row.operation.semantics === ASSIST || row.operation.unit !== '',
      });
    }
  }
  return found;
}

/** Runs the code once with its operand at `base`; everything that came of it, as text. */
async function outcome(lab: GuestLab, code: Uint8Array, base: number, seed: number, bits: boolean): Promise<string> {
  const random = new Random(seed);
  const data = Uint8Array.from({ length: SIZE }, () => random.u32() & 0xff);
  lab.write(CODE, Uint8Array.of(...code, HLT));
  lab.write(RAM, data);
  const word = (): bigint => (BigInt(random.u32()) << 32n) | BigInt(random.u32());
  lab.setRegs({ rip: BigInt(CODE), rflags: 2n | (word() & 0x8d5n), rsp: 0x8000n, rdi: BigInt(base) });
  // A bit offset in RBX stays near.
  lab.setRegs({ rax: word(), rbx: bits ? word() & 0xffn : word(), rcx: word(), rdx: word(), rsi: 0n, rbp: 0x8000n });
  const fpu = ok(lab.vcpu.getFpu());
  for (let i = 0; i < 256; i++) fpu.xmm[i] = random.u32() & 0x3f;
  fpu.fpr.fill(0);
  lab.vcpu.setFpu({ ...fpu, fcw: 0x37f, fsw: 0, ftwx: 0, mxcsr: 0x1f80, lastIp: 0n, lastDp: 0n, lastOpcode: 0 });
  let exit: VcpuExit | number = 0;
  for (let i = 0; i < 40; i++) {
    exit = await lab.vcpu.run();
    if (typeof exit === 'number' || exit.kind !== 'mmio') break;
    const at = exit.physAddr - MMIO;
    if (exit.isWrite) data.set(exit.data.subarray(0, exit.len), at);
    else exit.data.set(data.subarray(at, at + exit.len));
  }
  if (typeof exit === 'number') return `errno ${exit}`;
  if (exit.kind !== 'hlt') {
    // Whatever the processor was delivering is over.
    lab.restart();
    return exit.kind;
  }
  const memory = base === RAM ? lab.read(RAM, SIZE) : Array.from(data, (b) => b.toString(16).padStart(2, '0')).join('');
  const after = ok(lab.vcpu.getFpu());
  const { rdi, ...regs } = ok(lab.vcpu.getRegs());
  return JSON.stringify({
    ...Object.fromEntries(Object.entries(regs).map(([name, value]) => [name, (value as bigint).toString(16)])),
    rdi: Number(rdi) - base,
    memory,
    xmm: Buffer.from(after.xmm).toString('hex'),
    fpr: Buffer.from(after.fpr).toString('hex'),
    fsw: after.fsw,
    mxcsr: after.mxcsr,
  });
}

test('emulated on a device = executed on memory', { timeout: 120_000 }, async () => {
  const lab = new GuestLab('f4');
  const all = cases();
  const different: string[] = [];
  const refused = new Set<string>();
  let same = 0;
  for (const [seed, { text, code, skilled }] of all.entries()) {
    const bits = /^BT[SRC]? /.test(text);
    const native = await outcome(lab, code, RAM, seed, bits);
    const emulated = await outcome(lab, code, MMIO, seed, bits);
    if (emulated === 'internal-error' && skilled) continue;
    if (emulated === 'internal-error') refused.add(text);
    else if (native === emulated) same++;
    else different.push(`${text}\n  ${native}\n  ${emulated}`);
  }
  expect(different).toEqual([]);
  expect([...refused].filter((text) => !/^(CMPXCHG16B|DIV|IDIV) /.test(text))).toEqual([]);
  expect(same).toBeGreaterThan(350);
});
