/** Page-fault error codes: the processor's, and KVM's own above them. @upstream arch/x86/include/asm/kvm_host.h PFERR_* */

export const PFERR_PRESENT_MASK = 1;
export const PFERR_WRITE_MASK = 2;
export const PFERR_USER_MASK = 4;
export const PFERR_RSVD_MASK = 8;
export const PFERR_FETCH_MASK = 16;
export const PFERR_PK_MASK = 32;
/** The fault came from the guest's own page walk, or from the access that it translated. */
export const PFERR_GUEST_FINAL_MASK = 0x100;
export const PFERR_GUEST_PAGE_MASK = 0x200;
/** The access is to private memory. */
export const PFERR_PRIVATE_ACCESS = 0x400;
