/**
 * Completion status of SEAMCALLs as the host kernel names them: the upper half of RAX decides, the lower half says more.
 *
 * The kernel adds codes of its own for a SEAMCALL that never reached the module; their class is one that the module does
 * not use.
 *
 * @upstream arch/x86/include/asm/shared/tdx_errno.h, arch/x86/include/asm/tdx.h
 */
import { EACCES, EIO, ENODEV, EOPNOTSUPP, type Errno } from './errno.ts';

/** What of RAX tells codes apart. @upstream TDX_SEAMCALL_STATUS_MASK */
export const TDX_SEAMCALL_STATUS_MASK = 0xffff_ffff_0000_0000n;
export const TDX_ERROR: bigint = 1n << 63n;
export const TDX_NON_RECOVERABLE: bigint = 1n << 62n;

export const TDX_SUCCESS = 0n;
export const TDX_NON_RECOVERABLE_VCPU = 0x4000_0001_0000_0000n;
export const TDX_NON_RECOVERABLE_TD = 0x4000_0002_0000_0000n;
/** The same as modules since 1.5 report it: with the fatal bit. */
export const TDX_NON_RECOVERABLE_TD_FATAL = 0x6000_0002_0000_0000n;
export const TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE = 0x6000_0005_0000_0000n;
export const TDX_NON_RECOVERABLE_TD_WRONG_APIC_MODE = 0x6000_0007_0000_0000n;
export const TDX_INTERRUPTED_RESUMABLE = 0x8000_0003_0000_0000n;
export const TDX_OPERAND_INVALID = 0xc000_0100_0000_0000n;
export const TDX_OPERAND_BUSY = 0x8000_0200_0000_0000n;
export const TDX_SYS_BUSY = 0x8000_0202_0000_0000n;
export const TDX_RND_NO_ENTROPY = 0x8000_0203_0000_0000n;
export const TDX_VCPU_NOT_ASSOCIATED = 0x8000_0702_0000_0000n;
export const TDX_KEY_GENERATION_FAILED = 0x8000_0800_0000_0000n;
export const TDX_NO_HKID_READY_TO_WBCACHE = 0x0000_0821_0000_0000n;
export const TDX_FLUSHVP_NOT_DONE = 0x8000_0824_0000_0000n;

/** The kernel's own: bit 63 and a class of all ones. @upstream TDX_SW_ERROR */
export const TDX_SW_ERROR: bigint = TDX_ERROR | 0xff00_0000_0000n;
/** SEAMCALL was VMfailInvalid: no module, or it is disabled. */
export const TDX_SEAMCALL_VMFAILINVALID: bigint = TDX_SW_ERROR | 0xffff_0000n;
/** SEAMCALL raised #GP: the processor cannot do it. */
export const TDX_SEAMCALL_GP: bigint = TDX_SW_ERROR | 13n;
/** SEAMCALL raised #UD: the CPU is not in VMX operation. */
export const TDX_SEAMCALL_UD: bigint = TDX_SW_ERROR | 6n;

/** The code without its details. */
export const tdxStatus = (rax: bigint): bigint => rax & TDX_SEAMCALL_STATUS_MASK;
/** Whether a lock of the module was taken. @upstream tdx_operand_busy() */
export const tdxOperandBusy = (rax: bigint): boolean => tdxStatus(rax) === TDX_OPERAND_BUSY;
/** Whether the call never reached the module. */
export const tdxSwError = (rax: bigint): boolean => (rax & TDX_SW_ERROR) === TDX_SW_ERROR;

/** What a failed SEAMCALL of the bring-up is to the kernel. @upstream sc_retry_prerr(), seamcall_prerr() */
export function tdxInitErrno(rax: bigint): Errno {
  if (rax === TDX_SUCCESS) return 0;
  if (rax === TDX_SEAMCALL_VMFAILINVALID) return -ENODEV;
  if (rax === TDX_SEAMCALL_GP) return -EOPNOTSUPP;
  if (rax === TDX_SEAMCALL_UD) return -EACCES;
  return -EIO;
}

/** A status as messages show it. */
export const tdxHex = (rax: bigint): string => `0x${rax.toString(16).padStart(16, '0')}`;
