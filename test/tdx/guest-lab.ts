/** For tests: one call from assembly to what the guest found. */
import { expect } from 'vitest';
import { END, loadProgram } from './guest-program.ts';
import { type Exit, TDG, type Td, type TdHost, type TdOptions, type Vcpu } from './td-builder.ts';

/** What the guest asks with at its end. */
export const END_CALL = 0x7777n;
export const REASON_TDCALL = 77;

/** Labels of exception handlers by vector. */
export type Handlers = Readonly<Record<number, string>>;

/** A TD with one virtual processor that runs this code and then ends, ready to be entered. */
export function guest(
  host: TdHost,
  code: string,
  options: TdOptions = {},
  handlers: Handlers = {},
): { readonly td: Td; readonly vcpu: Vcpu } {
  const td = host.createTd(options);
  loadProgram(td, code + END, handlers);
  const vcpu = td.createVcpu(0x1234);
  td.finalize();
  return { td, vcpu };
}

/** That an exit is the guest's end. */
export function ended(exit: Exit): Exit {
  expect([exit.status, exit.reason, exit.r11]).toEqual(['TDX_SUCCESS', REASON_TDCALL, END_CALL]);
  return exit;
}

/** Runs code to its end in one entry; the registers that the guest passes: RDX, RBX, RSI, RDI, R8, R9, R12 to R15. */
export const result = (host: TdHost, code: string, options: TdOptions = {}, handlers: Handlers = {}): Exit =>
  ended(guest(host, code, options, handlers).vcpu.enter());

/**
 * Code behind the test's: a #VE handler that ends with R12 reason, RDX qualification, R8 linear address, R9 GPA, R13
 * length and information, and handlers of #UD, #GP, #DF that end with the vector in R12 and the error code in R13.
 */
export const CATCH = `
        jmp caught_none
    ve:
        mov eax, ${TDG.VP_VEINFO_GET}
        tdcall
        mov r14, rax
        mov r12, rcx
        mov r13, r10
        mov r15, [rsp]
        jmp caught
    ud: mov r12, 6
        xor r13d, r13d
        jmp caught
    df: mov r12, 8
        pop r13
        jmp caught
    gp: mov r12, 13
        pop r13
        mov r15, [rsp]
        jmp caught
    pf: mov r12, 14
        pop r13
        mov r15, cr2
        jmp caught
    caught_none:
        xor r12d, r12d
    caught:
`;

export const CATCH_HANDLERS: Handlers = { 6: 'ud', 8: 'df', 13: 'gp', 14: 'pf', 20: 've' };

/** Runs code whose fault is caught: what the handler found. R12 is 0 without a fault. */
export const caught = (host: TdHost, code: string, options: TdOptions = {}): Exit =>
  result(host, code + CATCH, options, CATCH_HANDLERS);
