import type { HostLeaf } from '../objects/call.ts';
import { operandBusy, operandInvalid } from '../objects/checks.ts';
import { HKID } from '../objects/kot.ts';
import { OPERAND, STATUS, status } from '../status.ts';

const RESUME = 1n;
/** Parts in which a package's caches are written back. */
export const CACHE_PARTS = 4;

/**
 * Writes the calling processor's package's caches back, so that the lines of HKIDs that ended are gone. RCX: 0 start, 1
 * resume. While an interrupt waits each call does one part.
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
      writeBacks.set(pkg, { flushed, done: 0 });
    }
    const writeBack = writeBacks.get(pkg)!;
    while (++writeBack.done < CACHE_PARTS) if (call.interruptPending) return status(STATUS.INTERRUPTED_RESUMABLE);
    // all checks passed
    for (const entry of writeBack.flushed) entry.writeBack &= ~(1n << BigInt(pkg));
    writeBacks.delete(pkg);
    return status(STATUS.SUCCESS);
  },
};
