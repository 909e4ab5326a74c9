/**
 * Processor models: which processor the machine pretends to be, and what it offers.
 *
 * The features are exactly those that the instruction tables and the system parts implement. Family and model are a
 * server's whose flags are a superset, since kernels pick timers, idle states and mitigations by model, and a server's that
 * has no AVX-512 either: compilers' run-time support takes that for granted on the models that have it. ERMS and FSRM are
 * not offered: here a REP MOVSQ is eight times as fast as the REP MOVSB that kernels would use instead.
 */
import { featureBit } from './cpuid/features.ts';

export type ProfileName = 'pc' | 'tdx-host';

export interface Profile {
  readonly name: ProfileName;
  /** Twelve characters. */
  readonly vendor: string;
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
  /** At most 47 characters. */
  readonly brand: string;
  readonly microcodeRevision: number;
  readonly physicalAddressBits: number;
  readonly linearAddressBits: number;
  /** Core crystal clock in Hz; the TSC is `tscRatio` times as fast, and the APIC timer counts crystal cycles. */
  readonly crystalHz: number;
  readonly tscRatio: number;
  /** Names of the offered CPUID features, without those that follow the processor's state (osxsave, ospke, apic). */
  readonly features: ReadonlySet<string>;
  /** The APIC starts in x2APIC mode and stays there. */
  readonly x2apicLocked: boolean;
}

const FEATURES = `
  fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ss ht
  pni pclmulqdq monitor vmx ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave avx f16c rdrand
  arat
  fsgsbase tsc_adjust bmi1 avx2 fdp_excptn_only smep bmi2 invpcid rdseed adx smap clflushopt clwb sha_ni zero_fcs_fds
  umip pku la57 rdpid movdiri movdir64b
  serialize spec_ctrl stibp ssbd arch_capabilities
  bhi_ctrl mcdt_no
  xsaveopt xsavec xgetbv1 xsaves
  lahf_lm abm 3dnowprefetch syscall nx pdpe1gb rdtscp lm constant_tsc wbnoinvd`;

const features: ReadonlySet<string> = new Set(FEATURES.trim().split(/\s+/));
/** What a TDX host has beside these. */
const TDX_HOST_FEATURES = ['tme', 'pconfig'];
const tdxHostFeatures: ReadonlySet<string> = new Set([...features, ...TDX_HOST_FEATURES]);
for (const name of tdxHostFeatures) featureBit(name);

const server = {
  vendor: 'GenuineIntel',
  family: 6,
  model: 0xaf,
  stepping: 3,
  brand: 'softvt virtual processor @ 1.00GHz',
  microcodeRevision: 0x03000362,
  physicalAddressBits: 52,
  linearAddressBits: 57,
  crystalHz: 25_000_000,
  tscRatio: 40,
  features,
};

/** @see DESIGN.md "The machine", profiles */
export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  pc: { ...server, name: 'pc', x2apicLocked: false },
  'tdx-host': { ...server, name: 'tdx-host', x2apicLocked: true, features: tdxHostFeatures },
};

/** CPUID signature (leaf 1 EAX) of a model. */
export function signatureOf({ family, model, stepping }: Profile): number {
  const baseFamily = Math.min(family, 15);
  const extended = ((family - baseFamily) << 20) | ((model >> 4) << 16);
  return (extended | (baseFamily << 8) | ((model & 15) << 4) | stepping) >>> 0;
}
