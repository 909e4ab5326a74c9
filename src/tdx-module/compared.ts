/**
 * What a reader found who laid each offered leaf beside the published source of the TDX module (its 1.5 versions, where they
 * and newer ones disagree): where a caller could see another status, register or state. The generated documentation shows it.
 */

/** Differences of every guest leaf that takes an address in memory where that does not translate. */
export const GUEST_MEMORY_DIFFERENCES: readonly string[] = [
  'A pending page that may be accepted gives the TD a #VE, here the TD exits',
  'The exit qualification has the rights of the page in bits 5:3, and the extended one its type; here bits 1:0 alone and type 2',
];

/** By leaf: what differs beyond that; empty: nothing; a leaf that is not here was not compared. */
export const DIFFERENCES: Readonly<Record<string, readonly string[]>> = {
  'TDH.MNG.ADDCX': ["After a refusal for want of entropy or for the OP_STATE the page has the TD's key already"],
  'TDH.MNG.CREATE': ['After a refusal for want of entropy the page is zero already'],
  'TDH.MNG.INIT': [
    'CPUID leaf 1FH that is wrong: TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED, here TDX_OPERAND_INVALID for CPUID_CONFIG',
    'CPUID leaf BH without an SMT level begins with the cores, here with an empty level',
    'A configurable CPUID bit that the processor lacks is accepted and stays 0, here refused',
    'IA32_ARCH_CAPABILITIES_CONFIG: bits 4, 19, 20 and 24 are accepted where configuration is on, any value refused where it is off; here the reverse',
    'The TD sees a reduced IA32_ARCH_CAPABILITIES, and in CPUID 80000008H the width that its LA57 gives',
    'XBUFF_SIZE ends with the last component of XFAM, here it is always the largest',
  ],
  'TDH.MNG.KEY.CONFIG': ['A busy key engine: TDX_OPERAND_BUSY, here TDX_KEY_GENERATION_FAILED'],
  'TDH.MNG.KEY.FREEID': [],
  'TDH.MNG.KEY.RECLAIMID': [],
  'TDH.MNG.VPFLUSHDONE': [],
  'TDH.MNG.RD': [
    'CPUID_VALUES of a leaf without subleaves: any subleaf reads it, and its identifier as a next one has all subleaf bits set',
    "The next identifier keeps bits of the caller's that are ignored",
    'Fields X2APIC_IDS and VIRT_MAXPA are not here; a CPUID leaf outside the table is not readable instead of unknown',
    'A version that is not there is refused after the state of the module, with R8 and RDX set',
  ],
  'TDH.MNG.WR': ['HP_LOCK_TIMEOUT wants all ones as mask, here any', 'Fields X2APIC_IDS and VIRT_MAXPA are not here'],
  'TDH.MEM.RD': [],
  'TDH.MEM.WR': [],
  'TDH.MR.EXTEND': [],
  'TDH.MR.FINALIZE': [],
  'TDH.MEM.PAGE.ADD': [],
  'TDH.MEM.PAGE.AUG': [],
  'TDH.MEM.PAGE.REMOVE': [],
  'TDH.MEM.PAGE.RELOCATE': ['R8 is compared with the present page without its upper 12 bits, here with them'],
  'TDH.MEM.SEPT.ADD': [
    'Version 0 takes bit 0 of RDX and ignores bit 63 of R8, here both are refused',
    'A version that is not there is refused after the state of the module, with RCX and RDX zero',
  ],
  'TDH.MEM.SEPT.REMOVE': ['A version that is not there is refused after the state of the module, with registers set'],
  'TDH.MEM.SEPT.RD': [],
  'TDH.MEM.PAGE.DEMOTE': [],
  'TDH.MEM.PAGE.PROMOTE': ['A version that is not there is refused after the state of the module, with registers set'],
  'TDH.MEM.RANGE.BLOCK': [],
  'TDH.MEM.RANGE.UNBLOCK': [],
  'TDH.MEM.TRACK': [],
  'TDH.PHYMEM.PAGE.RDMD': [],
  'TDH.PHYMEM.PAGE.RECLAIM': [],
  'TDH.PHYMEM.PAGE.WBINVD': [],
  'TDH.PHYMEM.CACHE.WB': [],
  'TDH.SYS.INIT': [
    'TDX_RND_NO_ENTROPY, the SMRR lock, the greatest CPUID leaf and the scope of WBINVD are checked; here not',
    'RCX[63:32] is all ones with TDX_INCORRECT_CPUID_VALUE of a leaf without subleaves, here 0',
    'Reserved bits of IA32_XAPIC_DISABLE_STATUS are refused, here ignored; the CPUID leaves 15H and 1FH come earlier',
  ],
  'TDH.SYS.LP.INIT': [
    'TDX_INCONSISTENT_CPUID_FIELD has masks in RDX and R8, here 0',
    'CORE_CAPABILITIES, MISC_PACKAGE_CTLS, the tertiary controls and PERF_CAPABILITIES are compared, here not',
  ],
  'TDH.SYS.CONFIG': [
    'A failed call leaves its KeyID reserved, here free',
    'A TDMR or reserved area beyond 64 bits is invalid before it is out of order',
  ],
  'TDH.SYS.KEY.CONFIG': ['A busy key engine: TDX_OPERAND_BUSY, here TDX_KEY_GENERATION_FAILED'],
  'TDH.SYS.TDMR.INIT': [],
  'TDH.SYS.INFO': ['The buffer of RCX is zeroed before R8 and R9 are checked'],
  'TDH.SYS.RD': [
    'NUM_CMRS is the number of places for them, here of those in use; unused CPUID_CONFIG_LEAVES are all ones, here 0',
    "The next identifier keeps bits of the caller's that are ignored",
  ],
  'TDH.SYS.RDALL': [
    'R8: reserved bits are ignored and a wrong element size refused, here the reverse',
    'Fields that differ only in bit 63 share a sequence, here not; the rest of the page is left alone, here zeroed',
  ],
  'TDH.SYS.LP.SHUTDOWN': [],
  'TDH.SYS.SHUTDOWN': [],
  'TDH.SYS.UPDATE': ['TDX_SYS_STATE_INCORRECT where not every logical processor is initialised, here not'],
  'TDG.VP.VMCALL': [],
  'TDG.VP.INFO': [],
  'TDG.MR.RTMR.EXTEND': [],
  'TDG.MR.REPORT': [
    'A shared page with suppress-#VE clear gives the TD a #VE, a misconfigured one its own exit; here an exit as EPT violation',
  ],
  'TDG.MR.VERIFYREPORT': [],
  'TDG.VP.VEINFO.GET': ['Only VALID is cleared, here the information of the instruction too'],
  'TDG.VP.CPUIDVE.SET': [],
  'TDG.MEM.PAGE.ACCEPT': [],
  'TDG.VM.RD': [
    "The next identifier keeps bits of the caller's that are ignored, and names CPUID rows that are not valid",
  ],
  'TDG.VM.WR': [],
  'TDG.VP.RD': [
    'RCX must be 0, here it is ignored',
    'Version 0 writes the next identifier and version 1 is refused, here version 1 is the one with it',
  ],
  'TDG.VP.WR': ['RCX must be 0, here it is ignored', 'The CPUID #VE flags take any value, here 0 and 1'],
  'TDG.SYS.RD': [],
  'TDG.SYS.RDALL': [
    'R8: reserved bits are ignored and a wrong element size refused, here the reverse; it is all ones before the page is translated',
    'The rest of the page is left alone, here zeroed',
  ],
  'TDH.VP.ENTER': [
    'Too few TDCX pages: TDX_TDCX_NUM_INCORRECT, here TDX_VCPU_STATE_INCORRECT',
    'IA32_MISC_ENABLE without MONITOR: TDX_INCORRECT_MSR_VALUE, here TDX_ENABLE_MONITOR_FSM_NOT_SET',
    'RCX bits 52 and 53 are judged after the association; bit 52 is accepted after an exit with trap semantics, here never',
    'LAST_TD_EXIT is ASYNC_TRAP only after an exit whose status has bit 60, here after all but EPT exits',
    'The zero-step and single-step filters are not here',
  ],
  'TDH.VP.FLUSH': [],
  'TDH.VP.INIT': [
    'Version 1 after version 0 takes X2APIC_ID 0 as used',
    'Posted-interrupt vector and descriptor and the PML address begin as all ones, here 0; XBUFF begins without FCW and MXCSR',
  ],
  'TDH.VP.CREATE': [],
  'TDH.VP.ADDCX': [],
  'TDH.VP.RD': [],
  'TDH.VP.WR': [
    'Posted interrupts: a vector or descriptor of 0 counts as set, here not',
    'PEND_NMI takes any value, here 0 and 1',
    "Debug TDs: secondary controls that the processor refuses are refused, here taken; bit 13 of IA32_DEBUGCTL stays the host's",
  ],
};
