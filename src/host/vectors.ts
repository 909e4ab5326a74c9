/** Interrupt vectors of the host kernel. @upstream arch/x86/include/asm/irq_vectors.h */

/** The kernel's clock event. */
export const LOCAL_TIMER_VECTOR = 0xec;
/** Notification of posted interrupts for a vCPU that does not run. */
export const POSTED_INTR_WAKEUP_VECTOR = 0xf1;
/** Notification of posted interrupts: a processor that runs the vCPU takes them without an exit. */
export const POSTED_INTR_VECTOR = 0xf2;
/** Makes a CPU leave guest mode. */
export const RESCHEDULE_VECTOR = 0xfd;
/** What a local APIC delivers when an interrupt vanishes. */
export const SPURIOUS_APIC_VECTOR = 0xff;
