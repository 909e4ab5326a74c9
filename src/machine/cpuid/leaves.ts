/** The CPUID leaves, one row each, as functions of the processor's profile, position and state. */
import type { Processor } from '../processor.ts';
import { CR4_OSXSAVE, CR4_PKE } from '../processor.ts';
import { PROFILES, type Profile, signatureOf } from '../profiles.ts';
import {
  compactSize,
  EXTENDED_COMPONENTS,
  SUPPORTED_XCR0,
  SUPPORTED_XSS,
  standardSize,
} from '../system/xstate-layout.ts';
import { type CpuidRegister, featureWord } from './features.ts';

/** Unsigned 32-bit register values. */
export interface CpuidResult {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

export interface LeafRow {
  readonly leaf: number;
  readonly name: string;
  /** ECX selects a subleaf. */
  readonly subleaves: boolean;
  read(p: Processor, subleaf: number, profile: Profile): CpuidResult;
}

export const MAX_BASIC_LEAF = 0x1f;
export const MAX_EXTENDED_LEAF = 0x80000008;
/** Largest subleaf of leaf 7. */
const MAX_FEATURE_SUBLEAF = 2;

const OSPKE = 1 << 4;
const CLFLUSH_BYTES = 64;
/** IA32_MISC_ENABLE bit 18: MONITOR/MWAIT are offered. */
const MISC_ENABLE = 0x1a0;
const ENABLE_MONITOR = 1n << 18n;
/** Bit 22: leaf 0 names leaf 2 as the largest, for old operating systems. */
const LIMIT_CPUID = 1n << 22n;
const LIMITED_LEAF = 2;
const miscEnable = (p: Processor): bigint => p.msrs.get(MISC_ENABLE) ?? ENABLE_MONITOR;
/** IA32_APIC_BASE bit 11. */
const APIC_ENABLED = 1n << 11n;

/** The profile that a processor's machine was made with. */
export const profileOf = (p: Processor): Profile => PROFILES[p.machine.options.profile];

const result = (eax: number, ebx: number, ecx: number, edx: number): CpuidResult => ({
  eax: eax >>> 0,
  ebx: ebx >>> 0,
  ecx: ecx >>> 0,
  edx: edx >>> 0,
});
const NOTHING = result(0, 0, 0, 0);

const words: Map<string, number> = new Map();
function word(profile: Profile, leaf: number, subleaf: number, register: CpuidRegister): number {
  const key = `${profile.name} ${leaf} ${subleaf} ${register}`;
  let value = words.get(key);
  if (value === undefined) {
    value = featureWord(profile.features, leaf, subleaf, register);
    words.set(key, value);
  }
  return value;
}

/** Four characters as a little-endian word. */
const text4 = (text: string, at: number): number =>
  [0, 1, 2, 3].reduce((sum, i) => sum | ((text.charCodeAt(at + i) || 0) << (8 * i)), 0);

const count = (p: Processor): number => p.machine.options.processors;
/** Bits of the x2APIC ID that number the logical processors of the package. */
const packageBits = (p: Processor): number => Math.ceil(Math.log2(count(p)));
/** Addressable ids in the package. */
const addressable = (p: Processor): number => 1 << packageBits(p);

/** One cache of leaf 4. Sizes in bytes; `sharing` = addressable logical processors behind it. */
interface Cache {
  readonly type: 1 | 2 | 3;
  readonly level: number;
  readonly ways: number;
  readonly sets: number;
  readonly shared: boolean;
}
const CACHES: readonly Cache[] = [
  { type: 1, level: 1, ways: 12, sets: 64, shared: false },
  { type: 2, level: 1, ways: 8, sets: 64, shared: false },
  { type: 3, level: 2, ways: 16, sets: 2048, shared: false },
  { type: 3, level: 3, ways: 16, sets: 16384, shared: true },
];

/** Leaf 4. @sdm "CPUID—CPU Identification", deterministic cache parameters */
function cacheParameters(p: Processor, subleaf: number): CpuidResult {
  const cache = CACHES[subleaf];
  if (!cache) return NOTHING;
  const sharing = cache.shared ? addressable(p) : 1;
  const eax = cache.type | (cache.level << 5) | (1 << 8) | ((sharing - 1) << 14) | ((addressable(p) - 1) << 26);
  return result(eax, (CLFLUSH_BYTES - 1) | ((cache.ways - 1) << 22), cache.sets - 1, cache.shared ? 4 : 0);
}

/** Leaves B and 1F: one thread per core, all cores in one package. */
function topology(p: Processor, subleaf: number): CpuidResult {
  const id = p.index;
  if (subleaf === 0) return result(0, 1, 1 << 8, id);
  if (subleaf === 1) return result(packageBits(p), count(p), (2 << 8) | 1, id);
  return result(0, 0, subleaf & 0xff, id);
}

/** Leaf D. @sdm "Enumeration of CPU Support for XSAVE Instructions and XSAVE-Supported Features" */
function xsaveState(p: Processor, subleaf: number, profile: Profile): CpuidResult {
  if (subleaf === 0) return result(Number(SUPPORTED_XCR0), standardSize(p.xcr0), standardSize(SUPPORTED_XCR0), 0);
  if (subleaf === 1) {
    return result(word(profile, 0xd, 1, 'eax'), compactSize(p.xcr0 | p.xss), Number(SUPPORTED_XSS), 0);
  }
  const component = EXTENDED_COMPONENTS.find(({ mask }) => mask === 1n << BigInt(subleaf));
  if (component === undefined) return NOTHING;
  return result(component.size, component.offset, component.aligned ? 2 : 0, 0);
}

function processorInfo(p: Processor, _subleaf: number, profile: Profile): CpuidResult {
  let ecx = word(profile, 1, 0, 'ecx');
  if (!(miscEnable(p) & ENABLE_MONITOR)) ecx &= ~(1 << 3);
  if (p.cr4 & CR4_OSXSAVE) ecx |= 1 << 27;
  let edx = word(profile, 1, 0, 'edx');
  if (!(p.apic.readApicBase() & APIC_ENABLED)) edx &= ~(1 << 9);
  const ebx = ((p.index & 0xff) << 24) | ((addressable(p) & 0xff) << 16) | ((CLFLUSH_BYTES / 8) << 8);
  return result(signatureOf(profile), ebx, ecx, edx);
}

function structuredFeatures(p: Processor, subleaf: number, profile: Profile): CpuidResult {
  if (subleaf > MAX_FEATURE_SUBLEAF) return NOTHING;
  const of = (register: CpuidRegister): number => word(profile, 7, subleaf, register);
  const ospke = subleaf === 0 && p.cr4 & CR4_PKE ? OSPKE : 0;
  return result(subleaf === 0 ? MAX_FEATURE_SUBLEAF : of('eax'), of('ebx'), of('ecx') | ospke, of('edx'));
}

/** Leaf 1B: one target, TME-MK. @sdm "CPUID—CPU Identification", PCONFIG information */
function pconfigInformation(_p: Processor, subleaf: number, profile: Profile): CpuidResult {
  return profile.features.has('pconfig') && subleaf === 0 ? result(1, 1, 0, 0) : NOTHING;
}

const brandPart = (leaf: number): LeafRow => ({
  leaf,
  name: 'brand string',
  subleaves: false,
  read: (_p, _subleaf, { brand }) => {
    const at = (leaf - 0x80000002) * 16;
    return result(text4(brand, at), text4(brand, at + 4), text4(brand, at + 8), text4(brand, at + 12));
  },
});

type Read = LeafRow['read'];
const plain = (leaf: number, name: string, read: Read): LeafRow => ({ leaf, name, subleaves: false, read });
const indexed = (leaf: number, name: string, read: Read): LeafRow => ({ leaf, name, subleaves: true, read });

/** @sdm "CPUID—CPU Identification" */
export const LEAVES: readonly LeafRow[] = [
  plain(0, 'vendor and largest leaf', (p, _s, { vendor }) => {
    const largest = miscEnable(p) & LIMIT_CPUID ? LIMITED_LEAF : MAX_BASIC_LEAF;
    return result(largest, text4(vendor, 0), text4(vendor, 8), text4(vendor, 4));
  }),
  plain(1, 'signature and features', processorInfo),
  // Descriptor FF sends the reader to leaf 4 for caches, FE to leaf 18 for TLBs; F0 is a 64-byte prefetch.
  plain(2, 'cache descriptors', () => result(0x00feff01, 0xf0, 0, 0)),
  indexed(4, 'deterministic cache parameters', cacheParameters),
  // One C1 sub-state and no deeper idle states; MWAIT extensions, and interrupts break it even when masked.
  plain(5, 'MONITOR and MWAIT', () => result(64, 64, 3, 0x10)),
  plain(6, 'thermal and power', (_p, _s, profile) => result(word(profile, 6, 0, 'eax'), 0, 0, 0)),
  indexed(7, 'structured extended features', structuredFeatures),
  indexed(0xb, 'extended topology', topology),
  indexed(0xd, 'XSAVE state', xsaveState),
  plain(0x15, 'TSC and crystal clock', (_p, _s, { tscRatio, crystalHz }) => result(1, tscRatio, crystalHz, 0)),
  plain(0x16, 'processor frequency', (_p, _s, { tscRatio, crystalHz }) => {
    const megahertz = (crystalHz * tscRatio) / 1e6;
    return result(megahertz, megahertz, 100, 0);
  }),
  // One TLB for data and code, 4K to 1G pages, as the engine's: 1024 entries, direct-mapped.
  indexed(0x18, 'address translation', (_p, subleaf) =>
    subleaf === 0 ? result(0, 0x1000b, 1024, 3 | (1 << 5)) : NOTHING,
  ),
  indexed(0x1b, 'PCONFIG information', pconfigInformation),
  indexed(0x1f, 'extended topology v2', topology),
  plain(0x80000000, 'largest extended leaf', () => result(MAX_EXTENDED_LEAF, 0, 0, 0)),
  plain(0x80000001, 'extended features', (_p, _s, profile) =>
    result(0, 0, word(profile, 0x80000001, 0, 'ecx'), word(profile, 0x80000001, 0, 'edx')),
  ),
  brandPart(0x80000002),
  brandPart(0x80000003),
  brandPart(0x80000004),
  plain(0x80000006, 'L2 cache', () => result(0, 0, (2048 << 16) | (7 << 12) | CLFLUSH_BYTES, 0)),
  plain(0x80000007, 'invariant TSC', (_p, _s, profile) => result(0, 0, 0, word(profile, 0x80000007, 0, 'edx'))),
  plain(0x80000008, 'address sizes', (_p, _s, profile) =>
    result(profile.physicalAddressBits | (profile.linearAddressBits << 8), word(profile, 0x80000008, 0, 'ebx'), 0, 0),
  ),
];
