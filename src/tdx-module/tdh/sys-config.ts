import { keyIdOf, stripKeyId } from '../../machine/seam/key-id.ts';
import { MAX_TDMRS } from '../metadata/sys-values.ts';
import type { HostLeaf } from '../objects/call.ts';
import { operandInvalid, sharedPa } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { SYS_STATE } from '../objects/system-state.ts';
import type { Tdmr } from '../objects/tdmr.ts';
import { tdmrFrom } from '../objects/tdmr-info.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const ALIGNMENT = 512;

/**
 * Configures the module. RCX: array of addresses of TDMR_INFO structures, RDX: how many, R8: the HKID for the module's own
 * memory (15:0).
 *
 * The module does not know how many logical processors firmware counted: it takes those that ran TDH.SYS.LP.INIT.
 *
 * @tdx "TDH.SYS.CONFIG"
 */
export const tdhSysConfig: HostLeaf = {
  number: 45,
  name: 'TDH.SYS.CONFIG',
  versions: [0],
  run(call) {
    const { module, rcx, rdx, r8 } = call;
    const { platform, system } = module;
    if (!call.lock('sys', 0, 'exclusive')) return status(STATUS.SYS_BUSY);
    if (system.state !== SYS_STATE.SYSINIT_DONE) return status(STATUS.SYS_CONFIG_NOT_PENDING);
    const array = sharedPa(rcx, OPERAND.RCX, ALIGNMENT);
    if (typeof array === 'bigint') return array;
    if (rdx < 1n || rdx > BigInt(MAX_TDMRS)) return operandInvalid(OPERAND.RDX);
    if (r8 > 0xffffn || !module.kot.isPrivate(Number(r8))) return operandInvalid(OPERAND.R8);
    // Reserved from now on, also where the TDMRs are refused.
    const globalKeyId = Number(r8);
    module.kot.entries[globalKeyId]!.state = HKID.RESERVED;
    const tdmrs: Tdmr[] = [];
    for (let i = 0; i < Number(rdx); i++) {
      const address = platform.keyed.read64(stripKeyId(array) + 8 * i, keyIdOf(array));
      const info = sharedPa(address, OPERAND.RCX, ALIGNMENT);
      if (typeof info === 'bigint') return info;
      const tdmr = tdmrFrom(platform, stripKeyId(info), keyIdOf(info), i, tdmrs);
      if (typeof tdmr === 'bigint') return tdmr;
      tdmrs.push(tdmr);
    }
    // all checks passed
    module.globalKeyId = globalKeyId;
    module.tdmrs.push(...tdmrs);
    system.keyConfigured = 0n;
    system.state = SYS_STATE.SYSCONFIG_DONE;
    return status(STATUS.SUCCESS);
  },
};
