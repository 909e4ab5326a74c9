/**
 * What every operation of the table does for a VM and for a TD. Where both are alike there is one case for both; where they
 * are not, what each does is said. The type demands a case for every operation.
 */
import type { KvmX86Ops } from '../../src/kvm/x86/kvm_x86_ops.ts';
import { EVENT_CASES } from './vt.events.cases.ts';
import { LIFE_CASES } from './vt.life.cases.ts';
import { REGISTER_CASES } from './vt.registers.cases.ts';
import { RUNNING_CASES } from './vt.running.cases.ts';
import { ops } from './vt-subject.ts';
import { type Cases, gives } from './vt-ways.ts';

/** Every operation. */
export const CASES: Cases<keyof KvmX86Ops> = {
  name: gives(() => ops.name, 'kvm_intel'),
  ...LIFE_CASES,
  ...REGISTER_CASES,
  ...RUNNING_CASES,
  ...EVENT_CASES,
};
