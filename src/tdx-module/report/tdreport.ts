/**
 * TDREPORT: what a TD can show of itself, with a MAC that only this platform can make and check.
 *
 *   0 REPORTMACSTRUCT: type, CPUSVN, hashes of the other parts, REPORTDATA, MAC | 256 TEE_TCB_INFO | 512 TDINFO
 *
 * @tdx "Measurement and Attestation", TDREPORT; "ABI Reference: Data Types", TDREPORT_STRUCT
 */

import type { Machine } from '../../machine/machine.ts';
import { hmacSha256, sha384Of } from '../../util/crypto/hash.ts';
import type { Tdcs } from '../objects/tdcs.ts';

export const REPORT_BYTES = 1024;
export const REPORT_MAC_STRUCT_BYTES = 256;
export const REPORT_DATA_BYTES = 64;

/** Places in a TDREPORT. */
export const REPORT_OFFSET = {
  TYPE: 0,
  CPUSVN: 16,
  TCB_INFO_HASH: 32,
  TD_INFO_HASH: 80,
  REPORT_DATA: 128,
  MAC: 224,
  TCB_INFO: 256,
  TD_INFO: 512,
} as const;

const MAC_BYTES = 32;
const TCB_INFO_BYTES = 239;
const TD_INFO_BYTES = 512;
/** REPORTTYPE: a TD's report, subtype 0, version 0: no service TDs. */
const TYPE_TD = 0x81;

/** Security version of the processor: sixteen components. */
const CPUSVN: Uint8Array = Uint8Array.from([1, 1, 2, 2, 2, 1, 0, 2]);

const text = (string: string): Uint8Array => Uint8Array.from(string, (character) => character.charCodeAt(0));

/** Places in TEE_TCB_INFO. Signer and attributes are zeros, as of a module of the platform's own vendor. */
const TCB_OFFSET = { VALID: 0, SVN: 8, MRSEAM: 24, SVN2: 128 } as const;
/** All fields up to MRSIGNERSEAM and ATTRIBUTES, and TEE_TCB_SVN2. */
const TCB_VALID = 0x301ffn;
/** Security versions of the module: minor and major component. */
const TCB_SVN: Uint8Array = Uint8Array.from([5, 1, 2]);
/** Measurement of this module: its name stands for its code. */
const MRSEAM: Uint8Array = sha384Of(text('softvt TDX module 1.5'));

function tcbInfo(): Uint8Array {
  const bytes = new Uint8Array(TCB_INFO_BYTES);
  new DataView(bytes.buffer).setBigUint64(TCB_OFFSET.VALID, TCB_VALID, true);
  bytes.set(TCB_SVN, TCB_OFFSET.SVN);
  bytes.set(MRSEAM, TCB_OFFSET.MRSEAM);
  bytes.set(TCB_SVN, TCB_OFFSET.SVN2);
  return bytes;
}

/** Places in TDINFO; SERVTD_HASH and the rest are zeros. */
const INFO_OFFSET = {
  ATTRIBUTES: 0,
  XFAM: 8,
  MRTD: 16,
  MRCONFIGID: 64,
  MROWNER: 112,
  MROWNERCONFIG: 160,
  RTMR: 208,
} as const;
const MEASUREMENT_BYTES = 48;
const RTMRS = 4;

/** The TD's configuration and measurements, as its TDCS has them. */
export function tdInfo(tdcs: Tdcs): Uint8Array {
  const bytes = new Uint8Array(TD_INFO_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(INFO_OFFSET.ATTRIBUTES, tdcs.get('ATTRIBUTES'), true);
  view.setBigUint64(INFO_OFFSET.XFAM, tdcs.get('XFAM'), true);
  bytes.set(tdcs.bytes('MRTD'), INFO_OFFSET.MRTD);
  bytes.set(tdcs.bytes('MRCONFIGID'), INFO_OFFSET.MRCONFIGID);
  bytes.set(tdcs.bytes('MROWNER'), INFO_OFFSET.MROWNER);
  bytes.set(tdcs.bytes('MROWNERCONFIG'), INFO_OFFSET.MROWNERCONFIG);
  for (let n = 0; n < RTMRS; n++) bytes.set(tdcs.bytes('RTMR', n), INFO_OFFSET.RTMR + n * MEASUREMENT_BYTES);
  return bytes;
}

/** The platform's report key: the processors make it, no software sees it. It follows from the machine's seed. */
function reportKey(machine: Machine): Uint8Array {
  return hmacSha256(text('softvt report key'), text(`${machine.options.seed ?? 0}`));
}

const macOf = (machine: Machine, macStruct: Uint8Array): Uint8Array =>
  hmacSha256(reportKey(machine), macStruct.subarray(0, REPORT_OFFSET.MAC));

/** Hashes what the TD's report says of the TD; false if that was done already and nothing has changed since. */
export function hashTdInfo(tdcs: Tdcs): boolean {
  if (tdcs.infoHash !== null) return false;
  tdcs.infoHash = sha384Of(tdInfo(tdcs));
  return true;
}

/** Makes a TD's report. @param reportData 64 bytes of the TD's choice */
export function buildReport(machine: Machine, tdcs: Tdcs, reportData: Uint8Array): Uint8Array {
  const report = new Uint8Array(REPORT_BYTES);
  const tcb = tcbInfo();
  const info = tdInfo(tdcs);
  hashTdInfo(tdcs);
  report[REPORT_OFFSET.TYPE] = TYPE_TD;
  report.set(CPUSVN, REPORT_OFFSET.CPUSVN);
  report.set(sha384Of(tcb), REPORT_OFFSET.TCB_INFO_HASH);
  report.set(tdcs.infoHash!, REPORT_OFFSET.TD_INFO_HASH);
  report.set(reportData, REPORT_OFFSET.REPORT_DATA);
  report.set(macOf(machine, report), REPORT_OFFSET.MAC);
  report.set(tcb, REPORT_OFFSET.TCB_INFO);
  report.set(info, REPORT_OFFSET.TD_INFO);
  return report;
}

/** What the verification of a REPORTMACSTRUCT found. */
export type ReportVerdict = 'valid' | 'invalid-cpusvn' | 'invalid';

/** Checks the MAC of a report's first 256 bytes with the platform's key. */
export function verifyReportMac(machine: Machine, report: Uint8Array): ReportVerdict {
  if (report.length < REPORT_MAC_STRUCT_BYTES) return 'invalid';
  const mac = macOf(machine, report);
  const stated = report.subarray(REPORT_OFFSET.MAC, REPORT_OFFSET.MAC + MAC_BYTES);
  const cpusvn = report.subarray(REPORT_OFFSET.CPUSVN, REPORT_OFFSET.CPUSVN + 16);
  const known = cpusvn.every((component, i) => component <= (CPUSVN[i] ?? 0));
  if (!known) return 'invalid-cpusvn';
  return mac.every((byte, i) => byte === stated[i]) ? 'valid' : 'invalid';
}

/** Whether a whole report is what it says: the MAC, and the hashes that bind the other parts to it. */
export function verifyReport(machine: Machine, report: Uint8Array): boolean {
  if (report.length !== REPORT_BYTES || verifyReportMac(machine, report) !== 'valid') return false;
  const bound = (at: number, bytes: Uint8Array): boolean => sha384Of(bytes).every((byte, i) => byte === report[at + i]);
  const { TCB_INFO, TD_INFO } = REPORT_OFFSET;
  return (
    bound(REPORT_OFFSET.TCB_INFO_HASH, report.subarray(TCB_INFO, TCB_INFO + TCB_INFO_BYTES)) &&
    bound(REPORT_OFFSET.TD_INFO_HASH, report.subarray(TD_INFO))
  );
}
