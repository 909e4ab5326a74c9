import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import type { SysFieldName } from '../metadata/sys-fields.ts';
import { MAX_CMRS, sysValue } from '../metadata/sys-values.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { operandInvalid, sharedPa } from '../objects/checks.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const INFO_BYTES = 1024;
const CMR_BYTES = 16;

/** TDSYSINFO_STRUCT: offset and bytes of each value. @tdx "ABI Reference: Data Types", TDSYSINFO_STRUCT */
const LAYOUT: readonly (readonly [offset: number, bytes: number, field: SysFieldName])[] = [
  [0, 4, 'SYS_ATTRIBUTES'],
  [4, 4, 'VENDOR_ID'],
  [8, 4, 'BUILD_DATE'],
  [12, 2, 'BUILD_NUM'],
  [14, 2, 'MINOR_VERSION'],
  [16, 2, 'MAJOR_VERSION'],
  [32, 2, 'MAX_TDMRS'],
  [34, 2, 'MAX_RESERVED_PER_TDMR'],
  [36, 2, 'PAMT_4K_ENTRY_SIZE'],
  [48, 2, 'TDCS_BASE_SIZE'],
  [52, 2, 'TDVPS_BASE_SIZE'],
  [64, 8, 'ATTRIBUTES_FIXED0'],
  [72, 8, 'ATTRIBUTES_FIXED1'],
  [80, 8, 'XFAM_FIXED0'],
  [88, 8, 'XFAM_FIXED1'],
  [128, 4, 'NUM_CPUID_CONFIG'],
];
/** 1: TDH.SYS.RD tells more. */
const SYS_RD_OFFSET = 18;
const CPUID_CONFIG_OFFSET = 132;
const CPUID_CONFIG_BYTES = 24;

function put(into: Uint8Array, at: number, bytes: number, value: bigint): void {
  for (let i = 0; i < bytes; i++) into[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
}

function systemInfo({ module, p }: Call): Uint8Array {
  const info = new Uint8Array(INFO_BYTES);
  for (const [offset, bytes, field] of LAYOUT) put(info, offset, bytes, sysValue(module, p, field, 0));
  info[SYS_RD_OFFSET] = 1;
  const configs = Number(sysValue(module, p, 'NUM_CPUID_CONFIG', 0));
  for (let i = 0; i < configs && CPUID_CONFIG_OFFSET + (i + 1) * CPUID_CONFIG_BYTES <= INFO_BYTES; i++) {
    const at = CPUID_CONFIG_OFFSET + i * CPUID_CONFIG_BYTES;
    put(info, at, 8, sysValue(module, p, 'CPUID_CONFIG_LEAVES', i));
    put(info, at + 8, 8, sysValue(module, p, 'CPUID_CONFIG_VALUES', 2 * i));
    put(info, at + 16, 8, sysValue(module, p, 'CPUID_CONFIG_VALUES', 2 * i + 1));
  }
  return info;
}

function memoryRanges({ module }: Call): Uint8Array {
  const list = new Uint8Array(MAX_CMRS * CMR_BYTES);
  for (const [i, { base, size }] of module.platform.cmrs.entries()) {
    put(list, i * CMR_BYTES, 8, BigInt(base));
    put(list, i * CMR_BYTES + 8, 8, BigInt(size));
  }
  return list;
}

/**
 * Tells what the module and the platform are, as TDH.SYS.RD does field by field. RCX: buffer for TDSYSINFO_STRUCT, RDX: its
 * size, R8: buffer for CMR_INFO entries, R9: how many fit. Out: RDX bytes and R9 entries written. The first buffer is zeros
 * when the second one is looked at.
 *
 * @tdx "TDH.SYS.INFO"
 */
export const tdhSysInfo: HostLeaf = {
  number: 32,
  name: 'TDH.SYS.INFO',
  versions: [0],
  run(call) {
    const { module, p, rcx, rdx, r8, r9, out } = call;
    out.rdx = out.r9 = 0n;
    if (!module.system.lps.has(p.index)) return status(STATUS.SYS_LP_INIT_NOT_DONE);
    const info = sharedPa(rcx, OPERAND.RCX, INFO_BYTES);
    if (typeof info === 'bigint') return info;
    if (rdx < BigInt(INFO_BYTES)) return operandInvalid(OPERAND.RDX);
    const { keyed } = module.platform;
    keyed.writeBytes(stripKeyId(info), keyIdOf(info), new Uint8Array(INFO_BYTES));
    const cmrs = sharedPa(r8, OPERAND.R8, MAX_CMRS * CMR_BYTES);
    if (typeof cmrs === 'bigint') return cmrs;
    if (r9 < BigInt(MAX_CMRS)) return operandInvalid(OPERAND.R9);
    // all checks passed
    keyed.writeBytes(stripKeyId(info), keyIdOf(info), systemInfo(call));
    keyed.writeBytes(stripKeyId(cmrs), keyIdOf(cmrs), memoryRanges(call));
    out.rdx = BigInt(INFO_BYTES);
    out.r9 = BigInt(MAX_CMRS);
    return status(STATUS.SUCCESS);
  },
};
