import { expect, test } from 'vitest';
import { Random } from '../../util/random.ts';
import { SHUTDOWN } from '../processor.ts';
import { runProcessor } from '../run.ts';
import { enter } from './entry.ts';
import { encodingByName, FIELDS } from './fields.ts';
import { NON_ROOT, ROOT, VM_FAIL_VALID, VM_SUCCEED } from './operation.ts';
import { CODE, failure, guestWith, VMCS_REGION } from './test-guest.ts';
import type { Vtx } from './vtx.ts';

const ROUNDS = 1500;
const STEPS = 200;

const next = (random: Random, below: number): number => random.below(below);

/** A value with few bits wrong, or any value. */
function mutate(random: Random, value: bigint): bigint {
  if (next(random, 4) === 0) return random.u64();
  return value ^ (1n << BigInt(next(random, 64)));
}

function damage(v: Vtx, random: Random): void {
  for (let n = next(random, 4); n >= 0; n--) {
    const { encoding } = FIELDS[next(random, FIELDS.length)]!;
    const value = v.vmread(encoding);
    if (value !== undefined) v.vmwrite(encoding, mutate(random, value));
  }
}

/** Comes back to root operation, or to the shutdown of a VMX abort. */
function comeBack(v: Vtx): void {
  if (v.operation !== NON_ROOT) return;
  runProcessor(v.p, v.p.machine.clock.now() + STEPS);
  if (v.operation !== NON_ROOT) return;
  v.externalInterruptExit(-1);
  v.takeVmExit();
}

test('a VMCS with anything in it enters, or fails in one of the three ways', () => {
  const random = new Random(2);
  const outcomes = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    const code = Array.from({ length: 64 }, () => next(random, 256));
    const v = guestWith(code);
    damage(v, random);
    const result = enter(v, true, true);
    if (result === VM_FAIL_VALID) {
      expect([7, 8]).toContain(failure(v));
      outcomes.add(`fail ${failure(v)}`);
      continue;
    }
    expect(result).toBe(VM_SUCCEED);
    comeBack(v);
    if (v.abort !== 0) {
      expect(v.p.activity).toBe(SHUTDOWN);
      continue;
    }
    expect(v.operation).toBe(ROOT);
    outcomes.add(v.vmread(encodingByName('EXIT_REASON'))! >> 31n === 1n ? 'late failure' : 'exit');
  }
  expect([...outcomes].toSorted()).toEqual(['exit', 'fail 7', 'fail 8', 'late failure']);
});

test('guest state that an exit has saved can be entered again', () => {
  const random = new Random(3);
  for (let round = 0; round < ROUNDS / 3; round++) {
    const code = Array.from({ length: 256 }, () => next(random, 256));
    const v = guestWith(code);
    v.p.setGpr(3, BigInt(CODE));
    for (let again = 0; again < 3; again++) {
      // All checks are made afresh on what the region holds.
      v.vmclear(VMCS_REGION);
      v.vmptrld(VMCS_REGION);
      expect(enter(v, true, true)).toBe(VM_SUCCEED);
      expect(v.operation).toBe(NON_ROOT);
      comeBack(v);
      const reason = v.vmread(encodingByName('EXIT_REASON'))!;
      if (reason === 2n) break;
    }
  }
});
