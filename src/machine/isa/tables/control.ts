/** Near control transfer. @sdm "CALL", "Jcc", "JMP", "LOOP/LOOPcc", "RET" */
import { EXIT, LINEAR_SHIFT, RCX, RSP, SS } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import {
  add,
  and,
  type Expr,
  isZero,
  ne,
  negate,
  sar,
  shl,
  sub,
  truncate,
  u8,
  u64,
  type Width,
  zeroExtend,
} from '../expr.ts';
import { STATUS } from '../flags.ts';
import { define } from '../row.ts';

const near = { dst: 'r', force64: true } as const;

/**
 * A near branch target: an offset in CS of the operand size; in 64-bit mode a non-canonical one is #GP(0) on the branch itself
 * (also when it came from the stack, so it is no fault of a segment).
 */
function targetOf(cpu: Cpu, value: Expr<Width>): Expr<64> {
  const target = cpu.code.let(zeroExtend(value, 64));
  if (cpu.mode64) {
    // Few targets lie beyond 48 bits, and then the paging mode decides.
    cpu.if(ne(sar(shl(target, u8(16)), u8(16)), target), () => {
      const shift = cpu.state(LINEAR_SHIFT, 64);
      cpu.faultIf(ne(sar(shl(target, shift), shift), target), EXIT.alignment);
    });
  }
  return target;
}
const returnAddress = (cpu: Cpu): Expr<Width> => truncate(cpu.nextRip(), cpu.operandSize);

define(
  'J',
  { ...near, reads: STATUS, flow: 'branch' },
  `
    70+cc Jb
    0F 80+cc Jz`,
  (cpu) => cpu.jumpIf(cpu.evaluate(cpu.condition)),
);

define(
  'JMP',
  { ...near, flow: 'jump' },
  `
    EB Jb
    E9 Jz`,
  (cpu) => cpu.jump(),
);

define('JMP', { ...near, flow: 'indirect' }, 'FF /4 Ev', (cpu) => cpu.jumpTo(targetOf(cpu, cpu.read(0))));

define('CALL', { ...near, flow: 'call', implicitMemory: true }, 'E8 Jz', (cpu) => {
  cpu.push(returnAddress(cpu));
  cpu.call();
});

/** The stack is checked before the target. */
define('CALL', { ...near, flow: 'indirect', implicitMemory: true }, 'FF /2 Ev', (cpu) => {
  const to = cpu.read(0);
  const top = cpu.stackOffset(sub(cpu.gpr64(RSP), u64(cpu.operandSize / 8)));
  const host = cpu.writable(SS, top, cpu.operandSize);
  const target = targetOf(cpu, to);
  cpu.storeAt(host, returnAddress(cpu));
  cpu.setStackPointer(top);
  cpu.callTo(target);
});

/** The return address is checked before RSP moves; `extra` is what RET imm16 releases. */
const ret = (cpu: Cpu, extra: Expr<64> | null): void => {
  const bytes = cpu.operandSize / 8;
  const top = cpu.stackOffset(cpu.gpr64(RSP));
  const target = targetOf(cpu, cpu.load(SS, top, cpu.operandSize));
  const popped = add(top, u64(bytes));
  cpu.setStackPointer(cpu.stackOffset(extra === null ? popped : add(popped, extra)));
  cpu.returnTo(target);
};
define('RET', { ...near, flow: 'return', implicitMemory: true }, 'C3', (cpu) => ret(cpu, null));
define('RET', { ...near, flow: 'return', implicitMemory: true }, 'C2 Iw', (cpu) =>
  ret(cpu, zeroExtend(cpu.read(0), 64)),
);

/** JCXZ, JECXZ, JRCXZ and the loops count in rCX by the address size. */
const loop =
  (also: (cpu: Cpu) => Expr<1> | null) =>
  (cpu: Cpu): void => {
    const left = cpu.cutToAddressSize(sub(cpu.gpr64(RCX), u64(1)));
    const more = negate(isZero(left));
    const condition = also(cpu);
    const taken = cpu.code.let(condition === null ? more : and(more, condition));
    cpu.setAddressRegister(RCX, left);
    cpu.jumpIf(taken);
  };
const counted = { ...near, flow: 'branch', implicitMemory: true } as const;
define(
  'LOOPNE',
  { ...counted, reads: STATUS },
  'E0 Jb',
  loop((cpu) => cpu.evaluate(5)),
);
define(
  'LOOPE',
  { ...counted, reads: STATUS },
  'E1 Jb',
  loop((cpu) => cpu.evaluate(4)),
);
define(
  'LOOP',
  counted,
  'E2 Jb',
  loop(() => null),
);
define('JRCXZ', counted, 'E3 Jb', (cpu) => cpu.jumpIf(isZero(cpu.addressRegister(RCX))));
