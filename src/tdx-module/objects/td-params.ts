/**
 * TD_PARAMS: what the host wants a TD to be, and whether it may.
 *
 *   0 ATTRIBUTES | 8 XFAM | 16 MAX_VCPUS | 18 NUM_L2_VMS | 19 MSR_CONFIG_CTLS | 24 EPTP_CONTROLS | 32 CONFIG_FLAGS
 *   40 TSC_FREQUENCY | 80 MRCONFIGID | 128 MROWNER | 176 MROWNERCONFIG | 224 IA32_ARCH_CAPABILITIES_CONFIG
 *   256 CPUID_CONFIG: EAX, EBX, ECX, EDX of each configurable leaf
 *
 * @tdx "ABI Reference: Data Types", TD_PARAMS; "TDH.MNG.INIT"
 */
import { configFlagsFixed0, MAX_VCPUS_PER_TD } from '../metadata/sys-values.ts';
import { OPERAND } from '../status.ts';
import { ARCH_CAPABILITIES_CONFIG_MASK } from '../virtualization/arch-capabilities.ts';
import type { Registers } from '../virtualization/cpuid-rows.ts';
import { CPUID_CONFIG_LEAVES } from '../virtualization/cpuid-table.ts';
import { attributesValid, CONFIG_FLAGS_FIXED1, xfamValid } from '../virtualization/features.ts';
import type { Call } from './call.ts';
import { operandInvalid } from './checks.ts';
import { tscMoved } from './platform-checks.ts';
import { CONFIG_FLAGS } from './tdcs.ts';

export const TD_PARAMS_BYTES = 1024;

export interface TdParams {
  readonly attributes: bigint;
  readonly xfam: bigint;
  readonly maxVcpus: number;
  readonly configFlags: bigint;
  /** Memory type in 2:0, levels - 1 in 5:3. */
  readonly eptpControls: bigint;
  /** Units of 25 MHz. */
  readonly tscFrequency: number;
  /** MRCONFIGID, MROWNER, MROWNERCONFIG. */
  readonly measurements: readonly [Uint8Array, Uint8Array, Uint8Array];
  readonly cpuid: readonly Registers[];
}

const CPUID_OFFSET = 256;
const MEASUREMENT_BYTES = 48;
/** L2 virtual machines are not offered. */
const MAX_L2_VMS = 0;
const ARCH_CAPABILITIES_CONFIGURED = 1;

const WRITE_BACK = 6n;
const FOUR_LEVELS = 3n;
const FIVE_LEVELS = 4n;
/** IA32_VMX_EPT_VPID_CAP and its bit for 5-level EPT. */
const EPT_VPID_CAP = 0x48c;
const EPT_FIVE_LEVELS = 1n << 7n;

const TSC_MIN = 4;
const TSC_MAX = 400;

/** Fields between known ones, which must be 0: offset and bytes. */
const RESERVED_0 = [20, 4] as const;
const RESERVED_1 = [42, 38] as const;
const RESERVED_2 = [232, 24] as const;

const zeros = (bytes: Uint8Array, [at, length]: readonly [number, number]): boolean =>
  bytes.subarray(at, at + length).every((byte) => byte === 0);

/** Memory type write-back, 4 levels, or 5 if the processor has them; a GPA width of 52 needs 5. */
function eptpValid({ module, p }: Call, controls: bigint, gpaw52: boolean): boolean {
  const levels = controls >> 3n;
  if ((controls & 7n) !== WRITE_BACK || (levels !== FOUR_LEVELS && levels !== FIVE_LEVELS)) return false;
  const fiveLevels = (module.platform.msr(p, EPT_VPID_CAP) & EPT_FIVE_LEVELS) !== 0n;
  return levels === FIVE_LEVELS ? fiveLevels : !gpaw52;
}

/** Checks the structure up to its CPUID part, in order. Gives a status if something may not be. */
export function tdParamsFrom(call: Call, bytes: Uint8Array): TdParams | bigint {
  const { module, p } = call;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const word = (at: number): bigint => view.getBigUint64(at, true);
  const attributes = word(0);
  if (!attributesValid(p, attributes)) return operandInvalid(OPERAND.ATTRIBUTES);
  const xfam = word(8);
  if (!xfamValid(xfam)) return operandInvalid(OPERAND.XFAM);
  const maxVcpus = view.getUint16(16, true);
  if (maxVcpus === 0 || maxVcpus > MAX_VCPUS_PER_TD) return operandInvalid(OPERAND.MAX_VCPUS);
  if (bytes[18]! > MAX_L2_VMS) return operandInvalid(OPERAND.NUM_L2_VMS);
  if (!zeros(bytes, RESERVED_0)) return operandInvalid(OPERAND.RDX);
  const configFlags = word(32);
  if (configFlags & ~configFlagsFixed0(module) || ~configFlags & CONFIG_FLAGS_FIXED1) {
    return operandInvalid(OPERAND.EXEC_CONTROLS);
  }
  const eptpControls = word(24);
  if (!eptpValid(call, eptpControls, (configFlags & CONFIG_FLAGS.GPAW) !== 0n)) {
    return operandInvalid(OPERAND.EPTP_CONTROLS);
  }
  const tscFrequency = view.getUint16(40, true);
  if (tscFrequency < TSC_MIN || tscFrequency > TSC_MAX) return operandInvalid(OPERAND.TSC_FREQUENCY);
  const moved = tscMoved(module.platform, p, module.system.tscAdjust);
  if (moved !== null) return moved;
  if (!zeros(bytes, RESERVED_1) || bytes[19]! & ~ARCH_CAPABILITIES_CONFIGURED || !zeros(bytes, RESERVED_2)) {
    return operandInvalid(OPERAND.RDX);
  }
  const measurement = (at: number): Uint8Array => bytes.slice(at, at + MEASUREMENT_BYTES);
  return {
    attributes,
    xfam,
    maxVcpus,
    configFlags,
    eptpControls,
    tscFrequency,
    measurements: [measurement(80), measurement(128), measurement(176)],
    cpuid: CPUID_CONFIG_LEAVES.map((_, i) => {
      const at = CPUID_OFFSET + 16 * i;
      return [0, 4, 8, 12].map((part) => view.getUint32(at + part, true)) as unknown as Registers;
    }),
  };
}

/** Whether nothing lies behind the CPUID part. */
export function endsWithZeros(bytes: Uint8Array): boolean {
  const end = CPUID_OFFSET + 16 * CPUID_CONFIG_LEAVES.length;
  return zeros(bytes, [end, TD_PARAMS_BYTES - end]);
}

/** IA32_ARCH_CAPABILITIES_CONFIG; null where it may not be. Without the flag that says that it is there it is 0. */
export function archCapabilitiesConfig(bytes: Uint8Array): bigint | null {
  const value = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(224, true);
  const configured = (bytes[19]! & ARCH_CAPABILITIES_CONFIGURED) !== 0;
  return value & ~(configured ? ARCH_CAPABILITIES_CONFIG_MASK : 0n) ? null : value;
}
