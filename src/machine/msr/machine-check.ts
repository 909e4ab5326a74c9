/** Machine-check architecture: banks that never report an error. @sdm "Machine-Check MSRs" */
import { anyValue, type Check, constant, type MsrRow, onlyBits, stored } from './row.ts';

const BANKS = 4;
/** IA32_MCG_CTL exists. */
const CONTROL_PRESENT = 0x100n;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;
const onlyZero: Check = (value) => value === 0n;

function bank(i: number): MsrRow[] {
  const index = 0x400 + 4 * i;
  return [
    stored(index, `IA32_MC${i}_CTL`, anyValue, ALL_ONES, 'mca'),
    stored(index + 1, `IA32_MC${i}_STATUS`, onlyZero, 0n, 'mca'),
    stored(index + 2, `IA32_MC${i}_ADDR`, onlyZero, 0n, 'mca'),
    stored(index + 3, `IA32_MC${i}_MISC`, onlyZero, 0n, 'mca'),
  ];
}

export const MACHINE_CHECK_MSRS: readonly MsrRow[] = [
  stored(0, 'IA32_P5_MC_ADDR', onlyZero, 0n, 'mce'),
  stored(1, 'IA32_P5_MC_TYPE', onlyZero, 0n, 'mce'),
  constant(0x179, 'IA32_MCG_CAP', CONTROL_PRESENT | BigInt(BANKS), 'mca'),
  stored(0x17a, 'IA32_MCG_STATUS', onlyBits(7n), 0n, 'mca'),
  stored(0x17b, 'IA32_MCG_CTL', anyValue, ALL_ONES, 'mca'),
  ...Array.from({ length: BANKS }, (_, i) => bank(i)).flat(),
];
