/** Names of the basic VM-exit reasons as KVM's tracepoints print them, and their counts. @sdm "VMX Basic Exit Reasons" */

const NAMES: Readonly<Record<number, string>> = {
  0: 'EXCEPTION_NMI',
  1: 'EXTERNAL_INTERRUPT',
  2: 'TRIPLE_FAULT',
  3: 'INIT_SIGNAL',
  4: 'SIPI_SIGNAL',
  7: 'INTERRUPT_WINDOW',
  8: 'NMI_WINDOW',
  9: 'TASK_SWITCH',
  10: 'CPUID',
  12: 'HLT',
  13: 'INVD',
  14: 'INVLPG',
  15: 'RDPMC',
  16: 'RDTSC',
  18: 'VMCALL',
  19: 'VMCLEAR',
  20: 'VMLAUNCH',
  21: 'VMPTRLD',
  22: 'VMPTRST',
  23: 'VMREAD',
  24: 'VMRESUME',
  25: 'VMWRITE',
  26: 'VMXOFF',
  27: 'VMXON',
  28: 'CR_ACCESS',
  29: 'DR_ACCESS',
  30: 'IO_INSTRUCTION',
  31: 'MSR_READ',
  32: 'MSR_WRITE',
  33: 'INVALID_STATE',
  34: 'MSR_LOAD_FAIL',
  36: 'MWAIT_INSTRUCTION',
  37: 'MONITOR_TRAP_FLAG',
  39: 'MONITOR_INSTRUCTION',
  40: 'PAUSE_INSTRUCTION',
  41: 'MCE_DURING_VMENTRY',
  43: 'TPR_BELOW_THRESHOLD',
  44: 'APIC_ACCESS',
  45: 'EOI_INDUCED',
  46: 'GDTR_IDTR',
  47: 'LDTR_TR',
  48: 'EPT_VIOLATION',
  49: 'EPT_MISCONFIG',
  50: 'INVEPT',
  51: 'RDTSCP',
  52: 'PREEMPTION_TIMER',
  53: 'INVVPID',
  54: 'WBINVD',
  55: 'XSETBV',
  56: 'APIC_WRITE',
  57: 'RDRAND',
  58: 'INVPCID',
  59: 'VMFUNC',
  60: 'ENCLS',
  61: 'RDSEED',
  62: 'PML_FULL',
  63: 'XSAVES',
  64: 'XRSTORS',
  67: 'UMWAIT',
  68: 'TPAUSE',
  69: 'LOADIWK',
  70: 'ENCLV',
  72: 'ENQCMD',
  73: 'ENQCMDS',
  74: 'BUS_LOCK',
  75: 'NOTIFY',
  76: 'SEAMCALL',
  77: 'TDCALL',
};

const FAILED_ENTRY = 0x8000_0000;

/** Name of an exit reason as the VMCS holds it. */
export function exitReasonName(reason: number): string {
  const basic = reason & 0xffff;
  const name = NAMES[basic] ?? `REASON_${basic}`;
  return (reason & FAILED_ENTRY) !== 0 ? `${name} FAILED_VMENTRY` : name;
}

/** Exits by basic reason, over all processors of a guest. */
export function sumExitCounts(processors: Iterable<{ readonly exitCounts: ArrayLike<number> }>): number[] {
  const sum: number[] = [];
  for (const { exitCounts } of processors) {
    for (let reason = 0; reason < exitCounts.length; reason++) sum[reason] = (sum[reason] ?? 0) + exitCounts[reason]!;
  }
  return sum;
}
