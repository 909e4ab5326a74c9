/**
 * What becomes of each MSR that a TD reads or writes.
 *
 * An MSR that is not here is #VE. Actions:
 *
 *   native    the instruction acts on the processor's own MSR, which TDH.VP.ENTER and TD exits switch
 *   gp        #GP(0)
 *   ve        #VE
 *   gp-or-ve  #VE if the TD's CPUID offers the MSR's feature, else #GP(0)
 *   special   emulated (msr-emulation.ts)
 *   X?        native if the TD has X, else #GP(0)
 *   X?:special  native if the TD has X, else emulated
 *
 * @tdx "ABI Reference: MSR Virtualization"
 */
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { XFAM } from './features.ts';
import { hasVirtualFeature, type TdView } from './td-view.ts';

/** Address or range (hexadecimal), name, read, write. */
const TABLE = `
  10 IA32_TIME_STAMP_COUNTER native ve
  48 IA32_SPEC_CTRL native native
  49 IA32_PRED_CMD native native
  87 IA32_MKTME_PARTITIONING gp-or-ve gp-or-ve
  8c-8f IA32_SGXLEPUBKEYHASHx gp gp
  98 MSR_WBINVDP gp gp
  99 MSR_WBNOINVDP gp gp
  9a MSR_INTR_PENDING gp gp
  9b IA32_SMM_MONITOR_CTL gp gp
  9e IA32_SMBASE gp gp
  bc IA32_MISC_PACKAGE_CTLS native ve
  bd IA32_XAPIC_DISABLE_STATUS special native
  c1-c8 IA32_PMCx PERFMON? PERFMON?
  e1 IA32_UMWAIT_CONTROL UMWAIT? UMWAIT?
  10a IA32_ARCH_CAPABILITIES special native
  10b IA32_FLUSH_CMD native native
  122 IA32_TSX_CTRL TSX? TSX?
  174 IA32_SYSENTER_CS native native
  175 IA32_SYSENTER_ESP native native
  176 IA32_SYSENTER_EIP native native
  186-18d IA32_PERFEVTSELx PERFMON? PERFMON?
  195 IA32_OVERCLOCKING_STATUS gp gp
  1a0 IA32_MISC_ENABLE PERFMON?:special ve
  1a6-1a7 MSR_OFFCORE_RSPx PERFMON? PERFMON?
  1c4 IA32_XFD XFD? XFD?
  1c5 IA32_XFD_ERR XFD? XFD?
  1d9 IA32_DEBUGCTL special special
  1f8 IA32_PLATFORM_DCA_CAP gp-or-ve gp-or-ve
  1f9 IA32_CPU_DCA_CAP gp-or-ve gp-or-ve
  1fa IA32_DCA_0_CAP gp-or-ve gp-or-ve
  276 MSR_SLAM_ENABLE gp gp
  277 IA32_PAT native native
  309-310 IA32_FIXED_CTRx PERFMON? PERFMON?
  329 IA32_PERF_METRICS PERF_METRICS? PERF_METRICS?
  345 IA32_PERF_CAPABILITIES PDCM? PERFMON?
  38d IA32_FIXED_CTR_CTRL PERFMON? PERFMON?
  38e IA32_PERF_GLOBAL_STATUS PERFMON? PERFMON?
  38f IA32_PERF_GLOBAL_CTRL PERFMON? PERFMON?
  390 IA32_PERF_GLOBAL_STATUS_RESET PERFMON? PERFMON?
  391 IA32_PERF_GLOBAL_STATUS_SET PERFMON? PERFMON?
  392 IA32_PERF_GLOBAL_INUSE PERFMON? PERFMON?
  3f1 IA32_PEBS_ENABLE PERFMON? PERFMON?
  3f2 MSR_PEBS_MATRIX_VECT PERFMON? PERFMON?
  3f6 MSR_PEBS_LD_LATENCY PERFMON? PERFMON?
  3f7 MSR_PEBS_FRONTEND PERFMON? PERFMON?
  480 IA32_VMX_BASIC special gp
  481 IA32_VMX_PINBASED_CTLS ve gp
  482 IA32_VMX_PROCBASED_CTLS ve gp
  483 IA32_VMX_EXIT_CTLS ve gp
  484 IA32_VMX_ENTRY_CTLS ve gp
  485 IA32_VMX_MISC special gp
  486 IA32_VMX_CR0_FIXED0 special gp
  487 IA32_VMX_CR0_FIXED1 special gp
  488 IA32_VMX_CR4_FIXED0 special gp
  489 IA32_VMX_CR4_FIXED1 special gp
  48a IA32_VMX_VMCS_ENUM ve gp
  48b IA32_VMX_PROCBASED_CTLS2 special gp
  48c IA32_VMX_EPT_VPID_CAP special gp
  48d IA32_VMX_TRUE_PINBASED_CTLS special gp
  48e IA32_VMX_TRUE_PROCBASED_CTLS special gp
  48f IA32_VMX_TRUE_EXIT_CTLS special gp
  490 IA32_VMX_TRUE_ENTRY_CTLS special gp
  491 IA32_VMX_VMFUNC special gp
  492 IA32_VMX_PROCBASED_CTLS3 special gp
  4c1-4c8 IA32_A_PMCx PERFMON? PERFMON?
  500 IA32_SGX_SVN_STATUS gp gp
  560 IA32_RTIT_OUTPUT_BASE XFAM_PT? XFAM_PT?
  561 IA32_RTIT_OUTPUT_MASK_PTRS XFAM_PT? XFAM_PT?
  570 IA32_RTIT_CTL XFAM_PT? XFAM_PT?
  571 IA32_RTIT_STATUS XFAM_PT? XFAM_PT?
  572 IA32_RTIT_CR3_MATCH XFAM_PT? XFAM_PT?
  580 IA32_RTIT_ADDR0_A XFAM_PT? XFAM_PT?
  581 IA32_RTIT_ADDR0_B XFAM_PT? XFAM_PT?
  582 IA32_RTIT_ADDR1_A XFAM_PT? XFAM_PT?
  583 IA32_RTIT_ADDR1_B XFAM_PT? XFAM_PT?
  584 IA32_RTIT_ADDR2_A XFAM_PT? XFAM_PT?
  585 IA32_RTIT_ADDR2_B XFAM_PT? XFAM_PT?
  586 IA32_RTIT_ADDR3_A XFAM_PT? XFAM_PT?
  587 IA32_RTIT_ADDR3_B XFAM_PT? XFAM_PT?
  600 IA32_DS_AREA native native
  6a0 IA32_U_CET XFAM_CET? XFAM_CET?
  6a2 IA32_S_CET XFAM_CET? XFAM_CET?
  6a4 IA32_PL0_SSP XFAM_CET? XFAM_CET?
  6a5 IA32_PL1_SSP XFAM_CET? XFAM_CET?
  6a6 IA32_PL2_SSP XFAM_CET? XFAM_CET?
  6a7 IA32_PL3_SSP XFAM_CET? XFAM_CET?
  6a8 IA32_INTERRUPT_SSP_TABLE_ADDR XFAM_CET? XFAM_CET?
  6e0 IA32_TSC_DEADLINE gp-or-ve gp-or-ve
  6e1 IA32_PKRS PKS? PKS?
  800-801 reserved gp gp
  804-807 reserved gp gp
  808 IA32_X2APIC_TPR native native
  809 reserved native native
  80a IA32_X2APIC_PPR native native
  80b IA32_X2APIC_EOI native native
  80c reserved native native
  80e reserved native native
  810-817 IA32_X2APIC_ISRx native native
  818-81f IA32_X2APIC_TMRx native native
  820-827 IA32_X2APIC_IRRx native native
  829-82e reserved gp gp
  831 reserved gp gp
  83f IA32_X2APIC_SELF_IPI native native
  840-87f reserved gp gp
  880-8bf reserved gp gp
  8c0-8ff reserved gp gp
  981 IA32_TME_CAPABILITY gp-or-ve gp-or-ve
  982 IA32_TME_ACTIVATE gp-or-ve gp-or-ve
  983 IA32_TME_EXCLUDE_MASK gp-or-ve gp-or-ve
  984 IA32_TME_EXCLUDE_BASE gp-or-ve gp-or-ve
  985 IA32_UINTR_RR XFAM_ULI? XFAM_ULI?
  986 IA32_UINTR_HANDLER XFAM_ULI? XFAM_ULI?
  987 IA32_UINTR_STACKADJUST XFAM_ULI? XFAM_ULI?
  988 IA32_UINTR_MISC XFAM_ULI? XFAM_ULI?
  989 IA32_UINTR_PD XFAM_ULI? XFAM_ULI?
  98a IA32_UINTR_TT XFAM_ULI? XFAM_ULI?
  c80 IA32_DEBUG_INTERFACE native ve
  d90 IA32_BNDCFGS gp gp
  d93 IA32_PASID gp gp
  da0 IA32_XSS native special
  1200-12ff IA32_LBR_INFO XFAM_LBR? XFAM_LBR?
  14ce IA32_LBR_CTL XFAM_LBR? XFAM_LBR?
  14cf IA32_LBR_DEPTH XFAM_LBR? XFAM_LBR?
  1500-15ff IA32_LBR_x_FROM_IP XFAM_LBR? XFAM_LBR?
  1600-16ff IA32_LBR_x_TO_IP XFAM_LBR? XFAM_LBR?
  1b01 IA32_UARCH_MISC_CTL native native
  c0000080 IA32_EFER native special
  c0000081 IA32_STAR native native
  c0000082 IA32_LSTAR native native
  c0000084 IA32_FMASK native native
  c0000100 IA32_FSBASE native native
  c0000101 IA32_GSBASE native native
  c0000102 IA32_KERNEL_GS_BASE native native
  c0000103 IA32_TSC_AUX native native
`;

/** An action once the TD's configuration is known. */
export type MsrAction = 'native' | 'gp' | 've' | 'gp-or-ve' | 'special';

/** What an MSR may depend on. */
const CONDITIONS: Readonly<Record<string, (td: TdView) => boolean>> = {
  PERFMON: (td) => (td.attributes & ATTRIBUTES.PERFMON) !== 0n,
  PERF_METRICS: () => false,
  PDCM: (td) => (td.attributes & ATTRIBUTES.PERFMON) !== 0n && hasVirtualFeature(td, 'pdcm'),
  PKS: (td) => (td.attributes & ATTRIBUTES.PKS) !== 0n,
  TSX: (td) => hasVirtualFeature(td, 'rtm'),
  UMWAIT: (td) => hasVirtualFeature(td, 'waitpkg'),
  XFD: (td) => hasVirtualFeature(td, 'xfd'),
  XFAM_CET: (td) => (td.xfam & XFAM.CET) === XFAM.CET,
  XFAM_LBR: (td) => (td.xfam & XFAM.LBR) !== 0n,
  XFAM_PT: (td) => (td.xfam & XFAM.PT) !== 0n,
  XFAM_ULI: (td) => (td.xfam & XFAM.UINTR) !== 0n,
};

type Rule = (td: TdView) => MsrAction;

function ruleOf(text: string): Rule {
  const [condition, otherwise = 'gp'] = text.split(/\?:?/) as [string, string?];
  if (!text.includes('?')) return () => text as MsrAction;
  const holds = CONDITIONS[condition]!;
  const other = (otherwise || 'gp') as MsrAction;
  return (td) => (holds(td) ? 'native' : other);
}

export interface MsrRule {
  readonly first: number;
  readonly last: number;
  readonly name: string;
  readonly read: Rule;
  readonly write: Rule;
}

/** All rows, ascending. */
export const MSR_RULES: readonly MsrRule[] = TABLE.trim()
  .split('\n')
  .map((line) => {
    const [range, name, read, write] = line.trim().split(' ') as [string, string, string, string];
    const [first, last = first] = range.split('-') as [string, string?];
    return {
      first: Number.parseInt(first, 16),
      last: Number.parseInt(last, 16),
      name,
      read: ruleOf(read),
      write: ruleOf(write),
    };
  });

/** What becomes of a read or write of one MSR. @param index unsigned 32 bits */
export function msrAction(td: TdView, index: number, write: boolean): MsrAction {
  const rule = MSR_RULES.find(({ first, last }) => index >= first && index <= last);
  if (rule === undefined) return 've';
  return write ? rule.write(td) : rule.read(td);
}
