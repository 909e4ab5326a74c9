/** MSRs of system calls, segment bases and long mode. @sdm "Model-Specific Registers (MSRs)" */
import { FMASK, FS, GS, KERNEL_GS, LSTAR, STAR } from '../engine/layout.ts';
import { isCanonicalBase } from '../processor/canonical.ts';
import type { Processor } from '../processor.ts';
import { writeEfer } from '../system/control-registers.ts';
import { SUPPORTED_XSS } from '../system/xstate-layout.ts';
import { anyValue, type Check, canonical, live, type MsrRow, stored, upTo32Bits } from './row.ts';

export const IA32_SYSENTER_CS = 0x174;
export const IA32_SYSENTER_ESP = 0x175;
export const IA32_SYSENTER_EIP = 0x176;
export const IA32_XSS = 0xda0;
export const IA32_EFER = 0xc0000080;
export const IA32_STAR = 0xc0000081;
export const IA32_LSTAR = 0xc0000082;
export const IA32_CSTAR = 0xc0000083;
export const IA32_FMASK = 0xc0000084;
export const IA32_FS_BASE = 0xc0000100;
export const IA32_GS_BASE = 0xc0000101;
export const IA32_KERNEL_GS_BASE = 0xc0000102;
export const IA32_TSC_AUX = 0xc0000103;

const segmentBase = (index: number, name: string, n: number): MsrRow =>
  live(
    index,
    name,
    (p) => p.segments[n]!.base,
    (p, value) => {
      if (!isCanonicalBase(p, value)) return false;
      p.segments[n]!.base = value;
      p.syncSegment(n);
      return true;
    },
    'lm',
  );

function writeTscAux(p: Processor, value: bigint): boolean {
  if (value >> 32n) return false;
  p.tscAux = Number(value);
  return true;
}

/** An MSR that generated code reads in the state block. */
const published = (index: number, name: string, at: number, check: Check, feature: string): MsrRow =>
  live(
    index,
    name,
    (p) => p.read64(at),
    (p, value) => {
      if (!check(value, p)) return false;
      p.write64(at, value);
      return true;
    },
    feature,
  );

function writeXss(p: Processor, value: bigint): boolean {
  if (value & ~SUPPORTED_XSS) return false;
  p.xss = value;
  return true;
}

function writeSysenterCs(p: Processor, value: bigint): boolean {
  p.msrs.set(IA32_SYSENTER_CS, value & 0xffff_ffffn);
  return true;
}

export const SYSTEM_CALL_MSRS: readonly MsrRow[] = [
  { ...stored(IA32_SYSENTER_CS, 'IA32_SYSENTER_CS', anyValue, 0n, 'sep'), write: writeSysenterCs },
  stored(IA32_SYSENTER_ESP, 'IA32_SYSENTER_ESP', canonical, 0n, 'sep'),
  stored(IA32_SYSENTER_EIP, 'IA32_SYSENTER_EIP', canonical, 0n, 'sep'),
  live(IA32_XSS, 'IA32_XSS', (p) => p.xss, writeXss, 'xsaves'),
  live(IA32_EFER, 'IA32_EFER', (p) => BigInt(p.efer), writeEfer, 'lm'),
  published(IA32_STAR, 'IA32_STAR', STAR, anyValue, 'syscall'),
  published(IA32_LSTAR, 'IA32_LSTAR', LSTAR, canonical, 'syscall'),
  stored(IA32_CSTAR, 'IA32_CSTAR', canonical, 0n, 'syscall'),
  published(IA32_FMASK, 'IA32_FMASK', FMASK, upTo32Bits, 'syscall'),
  segmentBase(IA32_FS_BASE, 'IA32_FS_BASE', FS),
  segmentBase(IA32_GS_BASE, 'IA32_GS_BASE', GS),
  published(IA32_KERNEL_GS_BASE, 'IA32_KERNEL_GS_BASE', KERNEL_GS, canonical, 'lm'),
  live(IA32_TSC_AUX, 'IA32_TSC_AUX', (p) => BigInt(p.tscAux), writeTscAux, 'rdtscp'),
];
