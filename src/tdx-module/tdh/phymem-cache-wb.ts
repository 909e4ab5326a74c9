import type { HostLeaf } from '../objects/call.ts';
import { operandBusy, operandInvalid } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const RESUME = 1n;

/**
 * Writes the calling processor's package's caches back, so that the lines of HKIDs that ended are gone. RCX: 0 start, 1
 * resume. A part is done per call while interrupts are pending; they never are while this machine's module runs, but a
 * hook can say so.
 *
 * @tdx "TDH.PHYMEM.CACHE.WB"
 */
export const tdhPhymemCacheWb: HostLeaf = {
  number: 40,
  name: 'TDH.PHYMEM.CACHE.WB',
  versions: [0],
  run(call) {
    const { module, p, rcx } = call;
    const { kot, platform, writeBacks } = module;
    if (rcx > RESUME) return operandInvalid(OPERAND.RCX);
    const pkg = platform.packageOf(p);
    if (!call.lock('wbcache', pkg, 'exclusive')) return operandBusy(OPERAND.WBCACHE);
    if (!call.lock('kot', 0, 'shared')) return operandBusy(OPERAND.KOT);
    if (rcx === RESUME) {
      if (!writeBacks.has(pkg)) return status(STATUS.WBCACHE_RESUME_ERROR);
    } else {
      writeBacks.delete(pkg);
      const flushed = kot.entries.filter(({ state }) => state === HKID.FLUSHED);
      if (flushed.length === 0) return status(STATUS.NO_HKID_READY_TO_WBCACHE);
      writeBacks.set(pkg, flushed);
    }
    if (module.hooks.interruptPending?.(p) === true) return status(STATUS.INTERRUPTED_RESUMABLE);
    // all checks passed
    for (const entry of writeBacks.get(pkg)!) entry.writeBack &= ~(1n << BigInt(pkg));
    writeBacks.delete(pkg);
    return status(STATUS.SUCCESS);
  },
};
