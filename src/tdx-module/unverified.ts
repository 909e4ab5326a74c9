/**
 * What the module does that no published text was at hand to confirm: from memory of the specifications, from what callers
 * of newer modules expect, or decided here. The generated documentation lists it.
 */

export type Basis =
  /** What Linux expects of modules newer than the published source. */
  | 'callers'
  /** Memory of the specifications. */
  | 'recalled'
  /** The machine's or the module's own choice where real ones differ or say nothing. */
  | 'decided here';

export interface Unverified {
  readonly what: string;
  readonly basis: Basis;
}

export const UNVERIFIED: readonly Unverified[] = [
  { what: 'TDX_FEATURES0 bit 20 (TOPOLOGY_ENUM) and the field MAX_VCPUS_PER_TD', basis: 'callers' },
  { what: 'RBP is kept on every return of TDH.VP.ENTER, not only after TDG.VP.VMCALL', basis: 'callers' },
  {
    what: 'TDH.SYS.LP.INIT is accepted after TDH.SYS.CONFIG, and TDH.SYS.CONFIG does not ask for a number of logical processors',
    basis: 'decided here',
  },
  {
    what: 'A logical processor without TDH.SYS.LP.INIT gets TDX_SYS_LP_INIT_NOT_DONE from every leaf but the SYS ones that lead to it',
    basis: 'decided here',
  },
  {
    what: 'Which CPUID bits and MSRs TDH.SYS.INIT verifies: those that the module uses of this machine; the performance monitoring that real modules demand is not there',
    basis: 'decided here',
  },
  {
    what: 'XFAM_FIXED0, ATTRIBUTES_FIXED0 and the configurable CPUID bits: what this machine has',
    basis: 'decided here',
  },
  { what: 'TDH.SYS.SHUTDOWN and TDH.SYS.UPDATE hand nothing over', basis: 'decided here' },
  {
    what: 'A read of private memory that the host has overwritten ends the TD that has it (TDX_TD_FATAL), where a processor would take the platform down; pages whose PAMT entry was overwritten cannot be used any more',
    basis: 'decided here',
  },
  { what: 'VCPU_STATE_DETAILS bit 0: RVI above the processor priority of the virtual APIC page', basis: 'recalled' },
  { what: 'TDCALL with CPL above 0 raises #GP(0) before the module sees it', basis: 'recalled' },
  { what: 'A private KeyID in a page table or EPT outside SEAM is a reserved bit', basis: 'recalled' },
];
