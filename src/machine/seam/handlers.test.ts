import { describe, expect, test } from 'vitest';
import { RAX, RBX, RCX } from '../engine/layout.ts';
import { CR4_VMXE, FLAG_CF, FLAG_ZF, STATUS_FLAGS } from '../processor.ts';
import type { ProfileName } from '../profiles.ts';
import { TestProcessor } from '../system/test-processor.ts';
import { FAULTED, NON_ROOT, OUTSIDE, ROOT } from '../vtx/operation.ts';
import './handlers.ts';
import { withKeyId } from './key-id.ts';
import './pconfig.ts';
import { seamcall } from './seamcall.ts';

const SEAMCALL = '66 0f 01 cf';
const SEAMRET = '66 0f 01 cd';
const SEAMOPS = '66 0f 01 ce';
const TDCALL = '66 0f 01 cc';
const PCONFIG = '0f 01 c5';
const UD = '#6';
const GP = '#13(0)';
const CARRY = 1;
const OTHER_FLAGS = STATUS_FLAGS & ~FLAG_CF;

function at(operation: 0 | 1 | 2, profile: ProfileName = 'tdx-host'): TestProcessor {
  const t = new TestProcessor(profile).longMode();
  t.p.cr4 |= CR4_VMXE;
  t.p.vtx.operation = operation;
  t.changed();
  return t;
}

/** Adds RCX to RAX. */
function withModule(t: TestProcessor): TestProcessor {
  t.machine.seam.install({ seamcall: (p) => p.setGpr(RAX, p.gpr(RAX) + p.gpr(RCX)) });
  return t;
}

describe('SEAMCALL', () => {
  test('is #UD outside VMX operation, outside 64-bit mode and without SEAM', () => {
    expect(at(OUTSIDE).outcome(SEAMCALL)).toBe(UD);
    expect(at(ROOT, 'pc').outcome(SEAMCALL)).toBe(UD);
    expect(at(NON_ROOT, 'pc').outcome(SEAMCALL)).toBe(UD);
    const t = at(ROOT).protectedMode();
    expect(t.outcome(SEAMCALL)).toBe(UD);
    expect(t.cpl(3).outcome(SEAMCALL)).toBe(UD);
  });

  test('exits with reason 76 in an ordinary guest, at any CPL', () => {
    expect(at(NON_ROOT).outcome(SEAMCALL)).toBe('exit 76');
    expect(at(NON_ROOT).cpl(3).outcome(SEAMCALL)).toBe('exit 76');
  });

  test('is #GP(0) above CPL 0', () => {
    expect(withModule(at(ROOT)).cpl(3).outcome(SEAMCALL)).toBe(GP);
  });

  test('without a module is VMfailInvalid: CF set, the other arithmetic flags clear, RAX as it was', () => {
    const t = at(ROOT);
    t.p.rflags |= OTHER_FLAGS;
    t.p.setGpr(RAX, 33n);
    expect(t.outcome(SEAMCALL)).toBe('done');
    expect([t.p.rflags & STATUS_FLAGS, t.p.gpr(RAX)]).toEqual([CARRY, 33n]);
  });

  test('for P-SEAMLDR is VMfailInvalid', () => {
    const t = withModule(at(ROOT));
    t.p.setGpr(RAX, 1n << 63n);
    expect(t.outcome(SEAMCALL)).toBe('done');
    expect([t.p.rflags & STATUS_FLAGS, t.p.gpr(RAX)]).toEqual([CARRY, 1n << 63n]);
  });

  test('runs the module: its status in RAX, CF clear, the other flags as they were', () => {
    const t = withModule(at(ROOT));
    t.p.rflags |= STATUS_FLAGS;
    t.p.setGpr(RAX, 33n);
    t.p.setGpr(RCX, 5n);
    expect(t.outcome(SEAMCALL)).toBe('done');
    expect([t.p.rflags & STATUS_FLAGS, t.p.gpr(RAX)]).toEqual([OTHER_FLAGS, 38n]);
  });
});

describe('SEAMCALL of root software in TypeScript', () => {
  test('gives 0, 1 or the fault', () => {
    expect(seamcall(at(OUTSIDE).p)).toBe(FAULTED | 6);
    expect(seamcall(at(ROOT, 'pc').p)).toBe(FAULTED | 6);
    expect(seamcall(at(ROOT).p)).toBe(1);
    expect(seamcall(withModule(at(ROOT)).p)).toBe(0);
  });

  test('a machine without SEAM takes no module', () => {
    expect(() => withModule(at(ROOT, 'pc'))).toThrow('no SEAM');
  });
});

describe('instructions of SEAM itself', () => {
  test('are #UD in root operation and in an ordinary guest', () => {
    for (const code of [SEAMRET, SEAMOPS, TDCALL]) {
      expect(withModule(at(ROOT)).outcome(code)).toBe(UD);
      expect(at(NON_ROOT).outcome(code)).toBe(UD);
      expect(at(OUTSIDE).outcome(code)).toBe(UD);
    }
  });

  test('TDCALL in a TD exits with reason 77 in every mode, and is #GP(0) above CPL 0', () => {
    const t = at(NON_ROOT);
    t.p.vtx.selectSeam(33);
    expect(t.outcome(TDCALL)).toBe('exit 77');
    expect(t.p.vtx.exit.instructionLength).toBe(4);
    expect(t.cpl(3).outcome(TDCALL)).toBe(GP);
    expect(t.cpl(0).protectedMode().outcome(TDCALL)).toBe('exit 77');
  });

  test('SEAMCALL in a TD exits with reason 76', () => {
    const t = at(NON_ROOT);
    t.p.vtx.selectSeam(33);
    expect(t.outcome(SEAMCALL)).toBe('exit 76');
  });
});

describe('PCONFIG', () => {
  const STRUCTURE = 0x4000;
  const COMMAND = { direct: 0, random: 1, clear: 2, none: 3 };
  const AES_128 = 1;

  function program(t: TestProcessor, keyId: number, command: number, algorithm = AES_128): TestProcessor {
    t.machine.memory.fill(STRUCTURE, 256);
    t.machine.memory.write16(STRUCTURE, keyId);
    t.machine.memory.write32(STRUCTURE + 2, command | (algorithm << 8));
    t.p.setGpr(RAX, 0n);
    t.p.setGpr(RBX, BigInt(STRUCTURE));
    return t;
  }

  test('gives a shared KeyID a key of its own, and takes it away', () => {
    const t = program(at(OUTSIDE), 5, COMMAND.random);
    const { memory } = t.machine;
    expect(t.outcome(PCONFIG)).toBe('done');
    expect([t.p.gpr(RAX), t.p.rflags & FLAG_ZF]).toEqual([0n, 0]);
    memory.write32(withKeyId(0x8000, 5), 7);
    expect([memory.read32(0x8000), memory.read32(withKeyId(0x8000, 5))]).toEqual([0, 7]);
    expect(program(t, 5, COMMAND.clear).outcome(PCONFIG)).toBe('done');
    memory.write32(withKeyId(0x9000, 5), 7);
    expect(memory.read32(0x9000)).toBe(7);
  });

  test.each([
    ['KeyID 0', 0, COMMAND.direct, AES_128, 3n],
    ['a private KeyID', 32, COMMAND.direct, AES_128, 3n],
    ['an unknown command', 5, 4, AES_128, 1n],
    ['an unknown algorithm', 5, COMMAND.direct, 4, 4n],
  ])('refuses %s with ZF and a reason', (_name, keyId, command, algorithm, reason) => {
    const t = program(at(OUTSIDE), keyId, command, algorithm);
    expect(t.outcome(PCONFIG)).toBe('done');
    expect([t.p.gpr(RAX), t.p.rflags & FLAG_ZF]).toEqual([reason, FLAG_ZF]);
  });

  test('faults: CPL, unknown leaf, alignment, reserved bytes; #UD in a guest and without TME-MK', () => {
    expect(program(at(OUTSIDE), 5, 0).cpl(3).outcome(PCONFIG)).toBe(GP);
    const leaf = program(at(OUTSIDE), 5, 0);
    leaf.p.setGpr(RAX, 1n);
    expect(leaf.outcome(PCONFIG)).toBe(GP);
    const unaligned = program(at(OUTSIDE), 5, 0);
    unaligned.p.setGpr(RBX, BigInt(STRUCTURE + 64));
    expect(unaligned.outcome(PCONFIG)).toBe(GP);
    const reserved = program(at(OUTSIDE), 5, 0);
    reserved.machine.memory.write8(STRUCTURE + 20, 1);
    expect(reserved.outcome(PCONFIG)).toBe(GP);
    expect(program(at(NON_ROOT), 5, 0).outcome(PCONFIG)).toBe(UD);
    expect(program(at(OUTSIDE, 'pc'), 5, 0).outcome(PCONFIG)).toBe(UD);
  });
});
