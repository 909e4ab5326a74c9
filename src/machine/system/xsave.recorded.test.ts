import { expect, test } from 'vitest';
import { TestProcessor } from './test-processor.ts';
import { RECORDED } from './xsave.recorded.ts';
import { AREA_BYTES, fnv1a, XSAVE_KINDS, xsaveCase } from './xsave-cases.ts';

const SAVE = ['0f ae 21', '0f ae 31', '0f c7 21', '0f ae 01'];
const XRSTOR = '0f ae 29';
const ZEROS = 0x3000;
const FROM = 0x5000;
const TO = 0x7000;

/** What is in the area after restoring and saving as the case says. */
function saved(seed: number): Uint8Array {
  const { from, to, restore, save, kind, wide } = xsaveCase(seed);
  const t = new TestProcessor().longMode();
  const { p, machine } = t;
  p.xcr0 = 0x207n;
  machine.memory.writeBytes(FROM, from);
  machine.memory.writeBytes(TO, to);
  const run = (code: string, area: number, mask: number) => {
    p.setGpr(1, BigInt(area));
    p.setGpr(0, BigInt(mask));
    p.setGpr(2, 0n);
    expect(t.outcome(wide ? `48 ${code}` : code)).toBe('done');
  };
  run(XRSTOR, ZEROS, 0x207);
  run(XRSTOR, FROM, restore);
  run(SAVE[kind]!, TO, save);
  return machine.memory.readBytes(TO, AREA_BYTES);
}

test.each(XSAVE_KINDS.map((name, kind) => [name, kind] as const))(
  '%s stores what a real processor stores',
  (_name, kind) => {
    const hashes = new Map<number, string>();
    for (let seed = kind; seed < RECORDED.length; seed += XSAVE_KINDS.length) {
      hashes.set(seed, fnv1a(saved(seed)).toString(16).padStart(8, '0'));
    }
    expect([...hashes]).toEqual([...hashes.keys()].map((seed) => [seed, RECORDED[seed]]));
  },
);
