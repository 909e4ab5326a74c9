/** The TLBs as the rest of the machine sees them. */
export {
  dropPage,
  engineDropExecuteEntries,
  engineDropWriteEntries,
  flushAll,
  flushTlb,
  flushVpid,
  invept,
  invlpg,
  invpcid,
  invvpid,
} from './invalidate.ts';
/** After a change of DR0 to DR3 or DR7. */
export { tlbContextChanged, tlbContextChanged as breakpointsChanged } from './select.ts';
export { guestPhysicalToHost, loadPdptes, pdpteValid, translate } from './translate.ts';
