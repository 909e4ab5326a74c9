/** The TLBs as the rest of the machine sees them. */
export { dropPage, engineDropWriteEntries, flushTlb, flushVpid, invept, invlpg, invvpid } from './invalidate.ts';
export { segmentChanged, tlbContextChanged } from './select.ts';
export { loadPdptes, translate } from './translate.ts';
