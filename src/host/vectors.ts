/** Interrupt vectors of the host kernel. @upstream arch/x86/include/asm/irq_vectors.h */

/** The kernel's clock event. */
export const LOCAL_TIMER_VECTOR = 0xec;
/** Makes a CPU leave guest mode. */
export const RESCHEDULE_VECTOR = 0xfd;
/** What a local APIC delivers when an interrupt vanishes. */
export const SPURIOUS_APIC_VECTOR = 0xff;
