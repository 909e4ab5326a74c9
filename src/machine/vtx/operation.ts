/** Where a processor is with regard to VMX operation (Vtx.operation), and how VMX instructions end. */

export const OUTSIDE = 0;
export const ROOT = 1;
export const NON_ROOT = 2;

/** Results of the VMX instructions as methods; a fault is FAULTED | vector (error code 0 where it has one). */
export const VM_SUCCEED = 0;
export const VM_FAIL_INVALID = 1;
export const VM_FAIL_VALID = 2;
export const FAULTED = 0x100;
