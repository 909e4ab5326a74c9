import { IA32_ARCH_CAPABILITIES } from '../../machine/msr/platform.ts';
import { keyIdOf, stripKeyId, withKeyId } from '../../machine/seam/key-id.ts';
import { compactSize, EXTENDED_COMPONENTS } from '../../machine/system/xstate-layout.ts';
import { sha384Stream } from '../../util/crypto/hash.ts';
import { HP_LOCK_TIMEOUT_TICKS } from '../metadata/td-context.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { lockTdr, operandInvalid, sharedPa, tdcsOf } from '../objects/checks.ts';
import { leafAllowedIn } from '../objects/op-state.ts';
import { cpuidLimited } from '../objects/platform-checks.ts';
import {
  archCapabilitiesConfig,
  endsWithZeros,
  TD_PARAMS_BYTES,
  type TdParams,
  tdParamsFrom,
} from '../objects/td-params.ts';
import {
  ATTRIBUTES,
  CONFIG_FLAGS,
  MSR_BITMAP_PAGE,
  OP_STATE,
  SEPT_ROOT_PAGE,
  TD_CTLS,
  type Tdcs,
} from '../objects/tdcs.ts';
import { OPERAND, STATUS, status } from '../status.ts';
import { virtualArchCapabilities } from '../virtualization/arch-capabilities.ts';
import type { Registers } from '../virtualization/cpuid-rows.ts';
import { buildCpuid, nativeCpuid, pack, tableHasTsx } from '../virtualization/cpuid-table.ts';
import { buildMsrBitmap } from '../virtualization/msr-bitmap.ts';
import { viewOf } from '../virtualization/td-view.ts';

const CPUID_TSC = 0x15;
const CPUID_WIDTHS = 0x8000_0008;
const TSC_UNIT = 25_000_000n;
const FRACTION_BITS = 48n;

/** The TD's TSC counts at its own frequency, and from 0 now. */
function setTsc({ module, p }: Call, tdcs: Tdcs, frequency: number): void {
  const { eax, ebx, ecx } = module.platform.cpuid(p, CPUID_TSC, 0);
  const native = (BigInt(ecx) * BigInt(ebx)) / BigInt(eax);
  const multiplier = ((BigInt(frequency) * TSC_UNIT) << FRACTION_BITS) / native;
  tdcs.set('TSC_FREQUENCY', frequency);
  tdcs.set('TSC_MULTIPLIER', multiplier);
  tdcs.set('TSC_OFFSET', -((module.platform.tsc(p) * multiplier) >> FRACTION_BITS));
}

function setControls(tdcs: Tdcs, params: TdParams): void {
  tdcs.set('ATTRIBUTES', params.attributes);
  tdcs.set('XFAM', params.xfam);
  tdcs.set('MAX_VCPUS', params.maxVcpus);
  tdcs.set('GPAW', params.configFlags & CONFIG_FLAGS.GPAW ? 1 : 0);
  const root = withKeyId(tdcs.pages[SEPT_ROOT_PAGE]!, tdcs.hkid);
  tdcs.set('EPTP', BigInt(root) | params.eptpControls);
  tdcs.set('CONFIG_FLAGS', params.configFlags);
  tdcs.set('TD_CTLS', params.attributes & ATTRIBUTES.SEPT_VE_DISABLE ? TD_CTLS.PENDING_VE_DISABLE : 0n);
  tdcs.set('HP_LOCK_TIMEOUT', HP_LOCK_TIMEOUT_TICKS);
  tdcs.set('TOPOLOGY_ENUM_CONFIGURED', 1);
  tdcs.set('XBUFF_SIZE', compactSize(params.xfam));
  for (const { mask, offset } of EXTENDED_COMPONENTS)
    if (params.xfam & mask) tdcs.set('XBUFF_OFFSETS', offset, Math.log2(Number(mask)));
}

function setCpuid(tdcs: Tdcs, values: readonly Registers[], valid: readonly boolean[]): void {
  for (const [i, [eax, ebx, ecx, edx]] of values.entries()) {
    tdcs.set('CPUID_VALUES', pack(eax, ebx), 2 * i);
    tdcs.set('CPUID_VALUES', pack(ecx, edx), 2 * i + 1);
    tdcs.set('CPUID_VALID', valid[i] ? 1 : 0, i);
  }
}

/**
 * Makes a TD what the host's TD_PARAMS say. RCX: TDR, RDX: address of TD_PARAMS. Out, if a CPUID leaf is configured
 * wrongly: RCX leaf and subleaf.
 *
 * @tdx "TDH.MNG.INIT"
 */
export const tdhMngInit: HostLeaf = {
  number: 21,
  name: 'TDH.MNG.INIT',
  versions: [0],
  run(call) {
    const { module, p, rcx, rdx, out, leaf } = call;
    const { platform } = module;
    out.rcx = 0n;
    if (cpuidLimited(platform, p)) return status(STATUS.LIMIT_CPUID_MAXVAL_SET);
    const tdr = lockTdr(call, rcx, OPERAND.RCX, 'exclusive');
    if (typeof tdr === 'bigint') return tdr;
    const tdcs = tdcsOf(tdr);
    if (typeof tdcs === 'bigint') return tdcs;
    if (!leafAllowedIn(leaf, tdcs.opState)) return status(STATUS.OP_STATE_INCORRECT);
    const pa = sharedPa(rdx, OPERAND.RDX, TD_PARAMS_BYTES);
    if (typeof pa === 'bigint') return pa;
    const bytes = platform.keyed.readBytes(stripKeyId(pa), keyIdOf(pa), TD_PARAMS_BYTES);
    const params = tdParamsFrom(call, bytes);
    if (typeof params === 'bigint') return params;
    const { attributes, xfam, tscFrequency } = params;
    const archCapabilities = platform.msr(p, IA32_ARCH_CAPABILITIES);
    const cpuid = buildCpuid(p, { attributes, xfam, tscFrequency, config: params.cpuid, archCapabilities });
    if ('error' in cpuid) {
      out.rcx = cpuid.details;
      return cpuid.error;
    }
    if (!endsWithZeros(bytes)) return operandInvalid(OPERAND.RDX);
    const archConfig = archCapabilitiesConfig(bytes);
    if (archConfig === null) return operandInvalid(OPERAND.IA32_ARCH_CAPABILITIES_CONFIG);
    // all checks passed
    tdcs.set('TD_EPOCH', 1);
    setControls(tdcs, params);
    setTsc(call, tdcs, tscFrequency);
    setCpuid(tdcs, cpuid.values, cpuid.valid);
    tdcs.set('VIRT_MAXPA', nativeCpuid(p, CPUID_WIDTHS, 0)[0] & 0xff);
    const hasTsx = tableHasTsx(cpuid.values);
    tdcs.set('VIRTUAL_IA32_ARCH_CAPABILITIES', virtualArchCapabilities(archCapabilities, archConfig, hasTsx));
    const [configId, owner, ownerConfig] = params.measurements;
    tdcs.setBytes('MRCONFIGID', configId);
    tdcs.setBytes('MROWNER', owner);
    tdcs.setBytes('MROWNERCONFIG', ownerConfig);
    platform.keyed.writeBytes(tdcs.pages[MSR_BITMAP_PAGE]!, tdcs.hkid, buildMsrBitmap(viewOf(tdcs)));
    tdcs.measurement = sha384Stream();
    tdcs.set('OP_STATE', OP_STATE.INITIALIZED);
    return status(STATUS.SUCCESS);
  },
};
