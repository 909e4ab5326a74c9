/**
 * What the TDX module says about itself: the fields of its global metadata that the host reads, once, at bring-up.
 *
 * @upstream arch/x86/virt/vmx/tdx/tdx_global_metadata.c, arch/x86/include/asm/tdx_global_metadata.h
 * @tdx "ABI Reference: Metadata", Global-Scope Metadata
 */
import { high32, low32 } from '../util/dwords.ts';

/** Structure of the values; numbers are what they count. @upstream struct tdx_sys_info */
export interface TdxSysInfo {
  readonly majorVersion: number;
  readonly minorVersion: number;
  readonly updateVersion: number;
  /** TDX_FEATURES0. */
  readonly features0: bigint;
  readonly maxTdmrs: number;
  readonly maxReservedPerTdmr: number;
  /** Bytes of a PAMT entry for each page size. */
  readonly pamt4kEntrySize: number;
  readonly pamt2mEntrySize: number;
  readonly pamt1gEntrySize: number;
  /** Bytes of the control structures. */
  readonly tdrBaseSize: number;
  readonly tdcsBaseSize: number;
  readonly tdvpsBaseSize: number;
  readonly attributesFixed0: bigint;
  readonly attributesFixed1: bigint;
  readonly xfamFixed0: bigint;
  readonly xfamFixed1: bigint;
  readonly maxVcpusPerTd: number;
  /** CPUID bits that the host chooses. */
  readonly cpuidConfig: readonly TdxCpuidConfig[];
}

/** A configurable CPUID leaf: which bits of each register the host may set. */
export interface TdxCpuidConfig {
  readonly leaf: number;
  /** TDX_CPUID_NO_SUBLEAF where the leaf has none. */
  readonly subleaf: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** In {@link TdxCpuidConfig.subleaf}: the leaf has no subleaves. */
export const TDX_CPUID_NO_SUBLEAF = 0xffff_ffff;

/** Bits of TDX_FEATURES0. */
export const TDX_FEATURES0_NO_RBP_MOD: bigint = 1n << 18n;
export const TDX_FEATURES0_TOPOLOGY_ENUM: bigint = 1n << 20n;

/** Upper limit of configurable leaves that the kernel has room for. */
const MAX_CPUID_CONFIGS = 128;

const FIELD = {
  minorVersion: 0x0800_0001_0000_0003n,
  majorVersion: 0x0800_0001_0000_0004n,
  updateVersion: 0x0800_0001_0000_0005n,
  features0: 0x0a00_0003_0000_0008n,
  maxTdmrs: 0x9100_0001_0000_0008n,
  maxReservedPerTdmr: 0x9100_0001_0000_0009n,
  pamt4kEntrySize: 0x9100_0001_0000_0010n,
  pamt2mEntrySize: 0x9100_0001_0000_0011n,
  pamt1gEntrySize: 0x9100_0001_0000_0012n,
  tdrBaseSize: 0x9800_0001_0000_0000n,
  tdcsBaseSize: 0x9800_0001_0000_0100n,
  tdvpsBaseSize: 0x9800_0001_0000_0200n,
  attributesFixed0: 0x1900_0003_0000_0000n,
  attributesFixed1: 0x1900_0003_0000_0001n,
  xfamFixed0: 0x1900_0003_0000_0002n,
  xfamFixed1: 0x1900_0003_0000_0003n,
  numCpuidConfig: 0x9900_0001_0000_0004n,
  maxVcpusPerTd: 0x9900_0001_0000_0008n,
  cpuidConfigLeaves: 0x9900_0003_0000_0400n,
  cpuidConfigValues: 0x9900_0003_0000_0500n,
} as const;

/** A field that could not be read, with what the module said. */
export class MetadataError {
  readonly field: bigint;
  readonly status: bigint;

  constructor(field: bigint, status: bigint) {
    this.field = field;
    this.status = status;
  }
}

/**
 * Reads it all in upstream's order, version first.
 *
 * @param read TDH.SYS.RD: status and value
 * @upstream get_tdx_sys_info()
 */
export function readTdxSysInfo(read: (field: bigint) => { rax: bigint; r8: bigint }): TdxSysInfo | MetadataError {
  const failures: MetadataError[] = [];
  const field = (id: bigint): bigint => {
    if (failures.length > 0) return 0n;
    const { rax, r8 } = read(id);
    if (rax === 0n) return r8;
    failures.push(new MetadataError(id, rax));
    return 0n;
  };
  const number = (id: bigint): number => Number(field(id));
  const fixed = {
    minorVersion: number(FIELD.minorVersion),
    majorVersion: number(FIELD.majorVersion),
    updateVersion: number(FIELD.updateVersion),
    features0: field(FIELD.features0),
    maxTdmrs: number(FIELD.maxTdmrs),
    maxReservedPerTdmr: number(FIELD.maxReservedPerTdmr),
    pamt4kEntrySize: number(FIELD.pamt4kEntrySize),
    pamt2mEntrySize: number(FIELD.pamt2mEntrySize),
    pamt1gEntrySize: number(FIELD.pamt1gEntrySize),
    tdrBaseSize: number(FIELD.tdrBaseSize),
    tdcsBaseSize: number(FIELD.tdcsBaseSize),
    tdvpsBaseSize: number(FIELD.tdvpsBaseSize),
    attributesFixed0: field(FIELD.attributesFixed0),
    attributesFixed1: field(FIELD.attributesFixed1),
    xfamFixed0: field(FIELD.xfamFixed0),
    xfamFixed1: field(FIELD.xfamFixed1),
  };
  const count = number(FIELD.numCpuidConfig);
  const maxVcpusPerTd = number(FIELD.maxVcpusPerTd);
  if (count > MAX_CPUID_CONFIGS) return new MetadataError(FIELD.numCpuidConfig, 0n);
  const cpuidConfig: TdxCpuidConfig[] = [];
  for (let i = 0; i < count; i++) {
    const leaf = field(FIELD.cpuidConfigLeaves + BigInt(i));
    const first = field(FIELD.cpuidConfigValues + BigInt(2 * i));
    const second = field(FIELD.cpuidConfigValues + BigInt(2 * i + 1));
    cpuidConfig.push({
      leaf: low32(leaf),
      subleaf: high32(leaf),
      eax: low32(first),
      ebx: high32(first),
      ecx: low32(second),
      edx: high32(second),
    });
  }
  return failures[0] ?? { ...fixed, maxVcpusPerTd, cpuidConfig };
}
