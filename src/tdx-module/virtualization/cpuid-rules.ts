/**
 * CPUID bits that follow from a TD's configuration rather than from one table row: extended state, topology, clock.
 *
 * @tdx "CPU Virtualization (Non-Root Mode Operation)", CPUID Virtualization
 */
import { standardSize } from '../../machine/system/xstate-layout.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { XFAM, XFAM_USER } from './features.ts';

/** Registers while a leaf is being made: EAX, EBX, ECX, EDX. */
export type Words = [eax: number, ebx: number, ecx: number, edx: number];

/** The configuration that the rules look at. */
export interface CpuidBasis {
  readonly attributes: bigint;
  readonly xfam: bigint;
  /** Units of 25 MHz. */
  readonly tscFrequency: number;
}

const EAX = 0;
const EBX = 1;
const ECX = 2;
const EDX = 3;

/** Feature bits that go with a state component: cleared where XFAM lacks one of `needs`. */
type XfamMask = readonly [leaf: number, subleaf: number, needs: bigint, mask: Words];

const XFAM_MASKS: readonly XfamMask[] = [
  [1, 0, XFAM.AVX, [0, 0, 0x3000_1000, 0]],
  [7, 0, XFAM.AVX, [0, 0x20, 0x600, 0]],
  [7, 0, XFAM.AVX512, [0, 0xdc23_0000, 0x5842, 0x80_010c]],
  [7, 0, XFAM.PT, [0, 0x200_0000, 0, 0]],
  [7, 0, XFAM.PKRU, [0, 0, 0x8, 0]],
  [7, 0, XFAM.CET, [0, 0, 0x80, 0x10_0000]],
  [7, 0, XFAM.UINTR, [0, 0, 0, 0x20]],
  [7, 0, XFAM.LBR, [0, 0, 0, 0x8_0000]],
  [7, 0, XFAM.AMX, [0, 0, 0, 0x340_0000]],
  [7, 1, XFAM.AVX512, [0x30, 0, 0, 0]],
  [0xd, 0, XFAM.AVX, [0x4, 0, 0, 0]],
  [0xd, 0, XFAM.AVX512, [0xe0, 0, 0, 0]],
  [0xd, 0, XFAM.PKRU, [0x200, 0, 0, 0]],
  [0xd, 0, XFAM.AMX, [0x6_0000, 0, 0, 0]],
  [0xd, 1, XFAM.PT, [0, 0, 0x100, 0]],
  [0xd, 1, XFAM.CET, [0, 0, 0x1800, 0]],
  [0xd, 1, XFAM.UINTR, [0, 0, 0x4000, 0]],
  [0xd, 1, XFAM.LBR, [0, 0, 0x8000, 0]],
];

function clear(words: Words, mask: Words): void {
  for (let i = 0; i < 4; i++) words[i] = (words[i]! & ~mask[i]!) >>> 0;
}

const zero = (words: Words): void => clear(words, [-1, -1, -1, -1]);

const PKS = 1 << 31;
const KL = 1 << 23;
/** CPUID.D.1.EAX: IA32_XFD exists. */
const XFD = 1 << 4;
/** Components that IA32_XFD can disable. */
const XFD_COMPONENTS: bigint = XFAM.AMX;

function extendedState(words: Words, subleaf: number, xfam: bigint): void {
  if (subleaf === 0) {
    words[ECX] = standardSize(xfam & XFAM_USER);
    words[EDX] = Number((xfam & XFAM_USER) >> 32n);
  } else if (subleaf === 1) {
    if ((xfam & XFD_COMPONENTS) === 0n) words[EAX] = (words[EAX] & ~XFD) >>> 0;
  } else if (((xfam >> BigInt(subleaf)) & 1n) === 0n) {
    zero(words);
  }
}

/** Applies the rules to a leaf. @param monitor the TD has MONITOR and MWAIT */
export function applyRules(
  words: Words,
  leaf: number,
  subleaf: number,
  { attributes, xfam, tscFrequency }: CpuidBasis,
  monitor: boolean,
): void {
  for (const [ofLeaf, ofSubleaf, needs, mask] of XFAM_MASKS) {
    if (ofLeaf === leaf && ofSubleaf === subleaf && (xfam & needs) !== needs) clear(words, mask);
  }
  switch (leaf) {
    case 5:
      if (!monitor) zero(words);
      break;
    case 7:
      if (subleaf === 0) {
        if (!(attributes & ATTRIBUTES.PKS)) clear(words, [0, 0, PKS, 0]);
        if (!(attributes & ATTRIBUTES.KL)) clear(words, [0, 0, KL, 0]);
      }
      break;
    case 0xa:
    case 0x23:
      if (!(attributes & ATTRIBUTES.PERFMON)) zero(words);
      break;
    case 0xd:
      extendedState(words, subleaf, xfam);
      break;
    case 0x14:
      if (!(xfam & XFAM.PT)) zero(words);
      break;
    case 0x15:
      words[EBX] = tscFrequency;
      break;
    case 0x19:
      if (!(attributes & ATTRIBUTES.KL)) zero(words);
      break;
    case 0x1c:
      if (!(xfam & XFAM.LBR)) zero(words);
      break;
    case 0x1d:
    case 0x1e:
      if ((xfam & XFAM.AMX) !== XFAM.AMX) zero(words);
      break;
    default:
  }
}
