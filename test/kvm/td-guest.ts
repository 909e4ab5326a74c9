/**
 * The guest of the trust-domain laboratory: from the reset vector to 64-bit mode, then a loop that makes the TDCALLs that it is
 * told to make.
 */

const MIB = 1 << 20;

export const PRIVATE_SIZE = MIB;
/** Where the mailbox of vCPU 0 is; each has a page. */
export const SHARED = 2 * MIB;
export const SHARED_SIZE = MIB;
export const SHARED_BIT: bigint = 1n << 47n;
export const RESET_PAGE = 0xffff_f000;
export const PML4 = 0x1000;
export const CODE = 0x1_0000;
/** Linear addresses from here on are shared memory. */
export const SHARED_ALIAS = 0x80_0000_0000n;
/** Port that the guest writes to when a command is done. */
export const DONE_PORT = 0x80;
export const RESULT = 128;

/** What a guest does from the reset vector on: to 64-bit mode on tables that map everything twice, then to CODE. */
export const RESET = `
  bits 32
  org ${RESET_PAGE}
start:
  mov eax, cr4
  or eax, 0x20
  mov cr4, eax
  mov eax, ${PML4}
  mov cr3, eax
  lgdt [gdtr]
  mov eax, cr0
  or eax, 0x80000000
  mov cr0, eax
  jmp dword 8:${CODE}
gdt:
  dq 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:
  dw 23
  dd gdt
  times 0xff0-($-start) db 0
  jmp near start
  times 0x1000-($-start) db 0
`;

/** TDG.VP.VMCALL<Instruction.IO> of one byte to DONE_PORT. */
const REPORT = `
  xor eax, eax
  mov ecx, 0xfc00
  xor r10d, r10d
  mov r11d, 30
  mov r12d, 1
  mov r13d, 1
  mov r14d, ${DONE_PORT}
  xor r15d, r15d
  tdcall
`;

/** Commands in RAX that are no TDCALL: R8 is loaded from, or stored to, the linear address in RCX. */
export const LOAD = 0x1000;
export const STORE = 0x1001;

/** The command loop; RSI is the vCPU's index at reset. */
export const SERVER = `
  bits 64
  org ${CODE}
  mov ax, 0x10
  mov ss, ax
  mov esi, esi
  mov rsp, rsi
  shl rsp, 12
  add rsp, 0x9000
  mov rbp, rsi
  shl rbp, 12
  mov rax, ${SHARED_ALIAS + BigInt(SHARED)}
  add rbp, rax
again:
  ${REPORT}
  mov rax, [rbp]
  mov rcx, [rbp+8]
  mov rdx, [rbp+16]
  mov rbx, [rbp+24]
  mov rsi, [rbp+48]
  mov rdi, [rbp+56]
  mov r8, [rbp+64]
  mov r9, [rbp+72]
  mov r10, [rbp+80]
  mov r11, [rbp+88]
  mov r12, [rbp+96]
  mov r13, [rbp+104]
  mov r14, [rbp+112]
  mov r15, [rbp+120]
  cmp rax, ${LOAD}
  je load
  cmp rax, ${STORE}
  je store
  tdcall
done:
  mov [rbp+${RESULT}], rax
  mov [rbp+${RESULT}+8], rcx
  mov [rbp+${RESULT}+16], rdx
  mov [rbp+${RESULT}+24], rbx
  mov [rbp+${RESULT}+48], rsi
  mov [rbp+${RESULT}+56], rdi
  mov [rbp+${RESULT}+64], r8
  mov [rbp+${RESULT}+72], r9
  mov [rbp+${RESULT}+80], r10
  mov [rbp+${RESULT}+88], r11
  mov [rbp+${RESULT}+96], r12
  mov [rbp+${RESULT}+104], r13
  mov [rbp+${RESULT}+112], r14
  mov [rbp+${RESULT}+120], r15
  jmp again
load:
  mov r8, [rcx]
  jmp done
store:
  mov [rcx], r8
  jmp done
`;

/** Four GiB twice, by 1 GiB pages: private at 0, shared at 512 GiB. */
export function tables(): Uint8Array {
  const view = new DataView(new ArrayBuffer(3 * 4096));
  const entry = (table: number, index: number, value: bigint): void =>
    view.setBigUint64(table * 4096 + index * 8, value, true);
  entry(0, 0, BigInt(PML4 + 0x1000) | 3n);
  entry(0, 1, BigInt(PML4 + 0x2000) | 3n);
  for (let i = 0; i < 4; i++) {
    entry(1, i, (BigInt(i) << 30n) | 0x83n);
    entry(2, i, (BigInt(i) << 30n) | SHARED_BIT | 0x83n);
  }
  return new Uint8Array(view.buffer);
}
