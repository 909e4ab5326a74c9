/** Bits of the VM-execution, VM-exit and VM-entry control fields. @sdm "VM-Execution Control Fields" and following */

/** Pin-based VM-execution controls. */
export const PIN = {
  EXTERNAL_INTERRUPT_EXITING: 0x1,
  NMI_EXITING: 0x8,
  VIRTUAL_NMIS: 0x20,
  PREEMPTION_TIMER: 0x40,
  POSTED_INTERRUPTS: 0x80,
} as const;

/** Primary processor-based VM-execution controls. */
export const PRIMARY = {
  INTERRUPT_WINDOW: 0x4,
  TSC_OFFSETTING: 0x8,
  HLT: 0x80,
  INVLPG: 0x200,
  MWAIT: 0x400,
  RDPMC: 0x800,
  RDTSC: 0x1000,
  CR3_LOAD: 0x8000,
  CR3_STORE: 0x1_0000,
  TERTIARY: 0x2_0000,
  CR8_LOAD: 0x8_0000,
  CR8_STORE: 0x10_0000,
  TPR_SHADOW: 0x20_0000,
  NMI_WINDOW: 0x40_0000,
  MOV_DR: 0x80_0000,
  UNCONDITIONAL_IO: 0x100_0000,
  IO_BITMAPS: 0x200_0000,
  MONITOR_TRAP_FLAG: 0x800_0000,
  MSR_BITMAPS: 0x1000_0000,
  MONITOR: 0x2000_0000,
  PAUSE: 0x4000_0000,
  SECONDARY: 0x8000_0000,
} as const;

/** Secondary processor-based VM-execution controls. */
export const SECONDARY = {
  VIRTUALIZE_APIC_ACCESSES: 0x1,
  EPT: 0x2,
  DESCRIPTOR_TABLE: 0x4,
  RDTSCP: 0x8,
  VIRTUALIZE_X2APIC: 0x10,
  VPID: 0x20,
  WBINVD: 0x40,
  UNRESTRICTED_GUEST: 0x80,
  APIC_REGISTER_VIRTUALIZATION: 0x100,
  VIRTUAL_INTERRUPT_DELIVERY: 0x200,
  PAUSE_LOOP: 0x400,
  RDRAND: 0x800,
  INVPCID: 0x1000,
  VM_FUNCTIONS: 0x2000,
  VMCS_SHADOWING: 0x4000,
  RDSEED: 0x1_0000,
  PML: 0x2_0000,
  EPT_VIOLATION_VE: 0x4_0000,
  XSAVES: 0x10_0000,
  MODE_BASED_EXECUTE: 0x40_0000,
  SUB_PAGE_PERMISSION: 0x80_0000,
  TSC_SCALING: 0x200_0000,
} as const;

/** VM-exit controls. */
export const EXIT_CONTROL = {
  SAVE_DEBUG: 0x4,
  HOST_64: 0x200,
  ACKNOWLEDGE_INTERRUPT: 0x8000,
  SAVE_PAT: 0x4_0000,
  LOAD_PAT: 0x8_0000,
  SAVE_EFER: 0x10_0000,
  LOAD_EFER: 0x20_0000,
  SAVE_PREEMPTION_TIMER: 0x40_0000,
} as const;

/** VM-entry controls. */
export const ENTRY_CONTROL = {
  LOAD_DEBUG: 0x4,
  IA32E_GUEST: 0x200,
  ENTRY_TO_SMM: 0x400,
  DEACTIVATE_DUAL_MONITOR: 0x800,
  LOAD_PAT: 0x4000,
  LOAD_EFER: 0x8000,
} as const;

/** Tertiary processor-based VM-execution controls. */
export const TERTIARY = {
  IPI_VIRTUALIZATION: 0x10,
  /** In a TD's VMCS alone. Guest-physical addresses of the TD have 52 bits: bit 51 says shared, not bit 47. @tdx "TD VMCS" (GPAW) */
  GPAW: 0x20,
} as const;
