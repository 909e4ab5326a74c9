/**
 * Values of the global fields.
 *
 * What may be configured follows from the processor: its XSAVE features, its CPUID.
 */
import type { Processor } from '../../machine/processor.ts';
import type { TdxModule } from '../module.ts';
import type { CpuidConfig } from '../objects/system-state.ts';
import { CONFIG_FLAGS } from '../objects/tdcs.ts';
import { PAMT_ENTRY_SIZE } from '../objects/tdmr.ts';
import { TDCS_BASE_PAGES } from '../objects/tdr.ts';
import { TDVPS_BASE_PAGES } from '../objects/tdvps.ts';
import { ARCH_CAPABILITIES_CONFIG_MASK } from '../virtualization/arch-capabilities.ts';
import { CPUID_CONFIG_LEAVES, cpuidConfigMetadata } from '../virtualization/cpuid-table.ts';
import {
  ATTRIBUTES_FIXED1,
  attributesFixed0,
  CONFIG_FLAGS_FIXED0,
  CONFIG_FLAGS_FIXED1,
  XFAM_FIXED0,
  XFAM_FIXED1,
} from '../virtualization/features.ts';
import type { SysFieldName } from './sys-fields.ts';

export const MAJOR_VERSION = 1;
export const MINOR_VERSION = 5;
export const UPDATE_VERSION = 16;
/** Decimal digits as hexadecimal ones: year, month, day. */
export const BUILD_DATE = 0x2025_0401;
export const BUILD_NUM = 1;
export const VENDOR_ID = 0x8086;

/** Version of the data that a module leaves to its successor; ours leaves none. */
export const MODULE_HV = 0;

export const MAX_TDMRS = 64;
export const MAX_RESERVED_AREAS = 16;
export const MAX_CMRS = 32;
export const MAX_VCPUS_PER_TD = 576;

const PAGE = 4096;
/** Features by their bits in TDX_FEATURES0, as far as this module has them. @tdx "ABI Reference: Data Types", TDX_FEATURES0 */
const FEATURE_BITS = {
  TDG_VP_RDWR: 3,
  LOCAL_ATTESTATION: 8,
  HOST_PRIORITY_LOCKS: 10,
  CONFIG_IA32_ARCH_CAPABILITIES: 11,
  PENDING_EPT_VIOLATION_V2: 16,
  NO_RBP_MOD: 18,
  TOPOLOGY_ENUM: 20,
} as const;

/** Names of the module's features, by bit. */
export const FEATURE_NAMES: readonly (keyof typeof FEATURE_BITS)[] = Object.keys(
  FEATURE_BITS,
) as (keyof typeof FEATURE_BITS)[];
const bit = (name: keyof typeof FEATURE_BITS): bigint => 1n << BigInt(FEATURE_BITS[name]);
const OFFERED: bigint = FEATURE_NAMES.reduce((all, name) => all | bit(name), 0n);

export const featuresOf = (module: TdxModule): bigint => OFFERED & ~(module.hooks.missingFeatures ?? 0n);

/** CONFIG_FLAGS that a TD may have. */
export const configFlagsFixed0 = (module: TdxModule): bigint =>
  featuresOf(module) & bit('NO_RBP_MOD') ? CONFIG_FLAGS_FIXED0 : CONFIG_FLAGS_FIXED0 & ~CONFIG_FLAGS.NO_RBP_MOD;

const CPUID_SIGNATURE = 1;
/** In a place for a configurable leaf that is not used. */
const NO_LEAF = 0xffff_ffff_ffff_ffffn;

type Value = (module: TdxModule, p: Processor, index: number) => bigint | number;

/** A configurable CPUID leaf: the processor's bits do not change, so they are looked at once. */
const cpuidConfig = ({ system }: TdxModule, p: Processor, i: number): CpuidConfig | undefined =>
  (system.cpuidConfig ??= cpuidConfigMetadata(p))[i];

/** Fields that are not 0. */
const VALUES: Partial<Readonly<Record<SysFieldName, Value>>> = {
  NUM_PKGS: ({ platform }) => platform.packages,
  PKG_FMS: ({ platform }, p, i) => (i < platform.packages ? platform.cpuid(p, CPUID_SIGNATURE, 0).eax : 0),
  VENDOR_ID: () => VENDOR_ID,
  BUILD_DATE: () => BUILD_DATE,
  BUILD_NUM: () => BUILD_NUM,
  MINOR_VERSION: () => MINOR_VERSION,
  MAJOR_VERSION: () => MAJOR_VERSION,
  UPDATE_VERSION: () => UPDATE_VERSION,
  MODULE_HV: () => MODULE_HV,
  MIN_UPDATE_HV: () => MODULE_HV,
  NUM_TDX_FEATURES: () => 1,
  TDX_FEATURES0: (module) => featuresOf(module),
  NUM_CMRS: () => MAX_CMRS,
  IA32_ARCH_CAPABILITIES_CONFIG_MASK: () => ARCH_CAPABILITIES_CONFIG_MASK,
  CMR_BASE: ({ platform }, _p, i) => platform.cmrs[i]?.base ?? 0,
  CMR_SIZE: ({ platform }, _p, i) => platform.cmrs[i]?.size ?? 0,
  MAX_TDMRS: () => MAX_TDMRS,
  MAX_RESERVED_PER_TDMR: () => MAX_RESERVED_AREAS,
  PAMT_4K_ENTRY_SIZE: () => PAMT_ENTRY_SIZE,
  PAMT_2M_ENTRY_SIZE: () => PAMT_ENTRY_SIZE,
  PAMT_1G_ENTRY_SIZE: () => PAMT_ENTRY_SIZE,
  TDR_BASE_SIZE: () => PAGE,
  TDCS_BASE_SIZE: () => TDCS_BASE_PAGES * PAGE,
  TDVPS_BASE_SIZE: () => TDVPS_BASE_PAGES * PAGE,
  ATTRIBUTES_FIXED0: (_module, p) => attributesFixed0(p),
  ATTRIBUTES_FIXED1: () => ATTRIBUTES_FIXED1,
  XFAM_FIXED0: () => XFAM_FIXED0,
  XFAM_FIXED1: () => XFAM_FIXED1,
  CONFIG_FLAGS_FIXED0: (module) => configFlagsFixed0(module),
  CONFIG_FLAGS_FIXED1: () => CONFIG_FLAGS_FIXED1,
  MAX_VCPUS_PER_TD: () => MAX_VCPUS_PER_TD,
  NUM_CPUID_CONFIG: () => CPUID_CONFIG_LEAVES.length,
  CPUID_CONFIG_LEAVES: (module, p, i) => cpuidConfig(module, p, i)?.leaf ?? NO_LEAF,
  CPUID_CONFIG_VALUES: (module, p, i) => cpuidConfig(module, p, i >> 1)?.values[(i & 1) as 0 | 1] ?? 0,
};

/** An element of a global field. */
export const sysValue = (module: TdxModule, p: Processor, name: SysFieldName, index: number): bigint =>
  BigInt(VALUES[name]?.(module, p, index) ?? 0);
