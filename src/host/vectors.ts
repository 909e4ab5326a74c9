/** Interrupt vectors of the host kernel. @upstream arch/x86/include/asm/irq_vectors.h */

/** The kernel's clock event. */
export const LOCAL_TIMER_VECTOR = 0xec;
/** Posted interrupt for a vCPU of a nested guest. */
export const POSTED_INTR_NESTED_VECTOR = 0xf0;
/** Posted interrupt for a vCPU that is blocked. */
export const POSTED_INTR_WAKEUP_VECTOR = 0xf1;
/** Posted interrupt for a vCPU that runs. */
export const POSTED_INTR_VECTOR = 0xf2;
/** Makes a CPU leave guest mode. */
export const RESCHEDULE_VECTOR = 0xfd;
/** What a local APIC delivers when an interrupt vanishes. */
export const SPURIOUS_APIC_VECTOR = 0xff;
