/** CMPXCHG8B and CMPXCHG16B. @sdm "CMPXCHG8B/CMPXCHG16B" */
import { EXIT, RAX, RBX, RCX, RDX } from '../../engine/layout.ts';
import { add, and, eq, isZero, negate, or, truncate, u32 } from '../expr.ts';
import { at, flagsFromWord, STATUS, ZF } from '../flags.ts';
import { define } from '../row.ts';
import { lane, withLane } from '../vector.ts';

const traits = { lock: true, reads: STATUS, writes: STATUS } as const;
const setZero = (word: ReturnType<typeof u32>, equal: ReturnType<typeof eq>) =>
  flagsFromWord(or(and(word, u32(STATUS & ~ZF)), at(equal, ZF)));

define('CMPXCHG16B', { ...traits, feature: 'cx16' }, 'REX.W 0F C7 /1 Mdq', (cpu) => {
  const linear = cpu.code.let(cpu.operandAddress(128, true));
  cpu.faultIf(negate(isZero(and(truncate(linear, 32), u32(15)))), EXIT.alignment);
  const host = cpu.modifiable(linear, 128);
  const old = cpu.loadAt(host, 128);
  const low = cpu.code.let(lane(old, 64, 0)),
    high = cpu.code.let(lane(old, 64, 1));
  const equal = cpu.code.let(and(eq(low, cpu.gpr64(RAX)), eq(high, cpu.gpr64(RDX))));
  const fresh = withLane(withLane(old, 0, cpu.gpr64(RBX)), 1, cpu.gpr64(RCX));
  cpu.if(
    equal,
    () => cpu.storeAt(host, fresh),
    () => {
      cpu.setGpr(RAX, low);
      cpu.setGpr(RDX, high);
    },
  );
  cpu.setFlags(setZero(cpu.statusWord(), equal));
});

define('CMPXCHG8B', traits, 'W0 0F C7 /1 Mq', (cpu) => {
  const host = cpu.modifiable(cpu.operandAddress(64, true), 64);
  const low = cpu.loadAt(host, 32),
    high = cpu.loadAt(add(host, u32(4)), 32);
  const equal = cpu.code.let(and(eq(low, cpu.gpr(RAX, 32)), eq(high, cpu.gpr(RDX, 32))));
  cpu.if(
    equal,
    () => {
      cpu.storeAt(host, cpu.gpr(RBX, 32));
      cpu.storeAt(add(host, u32(4)), cpu.gpr(RCX, 32));
    },
    () => {
      cpu.setGprPart(RAX, low);
      cpu.setGprPart(RDX, high);
    },
  );
  cpu.setFlags(setZero(cpu.statusWord(), equal));
});
