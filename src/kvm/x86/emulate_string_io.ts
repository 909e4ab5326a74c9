/**
 * INS and OUTS: one element per step, the port by KVM's buses or user space, the memory by the emulator's.
 *
 * @upstream arch/x86/kvm/emulate.c em_in(), string_addr_inc()
 */
import {
  DIRECTION,
  ES,
  SEG_BASE,
  SEG_LOW,
  SEG_READ_SPAN,
  SEG_WRITE_SPAN,
  SEGMENT_SIZE,
  SEGMENTS,
} from '../../machine/engine/layout.ts';
import type { EvaluationContext } from '../../machine/isa/evaluate.ts';
import type { Insn } from '../../machine/isa/insn.ts';
import { VCPU_REGS_RCX, VCPU_REGS_RDI, VCPU_REGS_RDX, VCPU_REGS_RSI, type X86Vcpu } from './kvm_host.ts';
import { emulatorPio } from './pio.ts';

/** What a step came to: an element (or the end); memory said no; a segment limit; user space has the port. */
export type StringStep = 'done' | 'memory' | 'segment' | 'userspace';

/** A string instruction in progress. */
export interface StringIo {
  step(): StringStep;
  /** User space has done the port access. */
  complete(): void;
}

/** Begins INS (`input`) or OUTS. */
export function stringIo(vcpu: X86Vcpu, insn: Insn, input: boolean, context: EvaluationContext): StringIo {
  const size = (Math.min(insn.operands.find((o) => o.place === 'memory')?.width ?? 8, 32) / 8) as 1 | 2 | 4;
  const index = input ? VCPU_REGS_RDI : VCPU_REGS_RSI;
  const segment = SEGMENTS + (input ? ES : insn.segment) * SEGMENT_SIZE;
  const data = new Uint8Array(4);
  /** The port has answered for the present element. */
  let answered = false;

  const part = (register: number): bigint => BigInt.asUintN(insn.addressSize, context.gpr(register));
  const setPart = (register: number, value: bigint): void => {
    const cut = BigInt.asUintN(insn.addressSize, value);
    context.setGpr(register, insn.addressSize === 16 ? (context.gpr(register) & ~0xffffn) | cut : cut);
  };
  const end = (): void => context.setRip(BigInt.asUintN(insn.mode === 64 ? 64 : 32, context.rip + BigInt(insn.length)));

  /** Linear address of the element; undefined beyond the segment. */
  const linear = (): bigint | undefined => {
    const offset = part(index);
    const base = context.readState(segment + SEG_BASE, 8);
    if (insn.mode === 64) return BigInt.asUintN(64, base + offset);
    const span = context.readState(segment + (input ? SEG_WRITE_SPAN : SEG_READ_SPAN), 8);
    const within = BigInt.asUintN(32, offset - context.readState(segment + SEG_LOW, 4));
    return within + BigInt(size - 1) > span ? undefined : BigInt.asUintN(32, base + offset);
  };

  return {
    step(): StringStep {
      if (insn.rep !== 'none' && part(VCPU_REGS_RCX) === 0n) {
        end();
        return 'done';
      }
      const address = linear();
      if (address === undefined) return 'segment';
      const port = Number(context.gpr(VCPU_REGS_RDX) & 0xffffn);
      if (input) {
        if (!context.writable(address, size)) return 'memory';
        if (!answered && !emulatorPio(vcpu, true, size, port, 1, data)) return 'userspace';
        let value = 0n;
        for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(data[i]!);
        context.write(address, size, value);
      } else if (!answered) {
        const value = context.read(address, size, false);
        if (value === undefined) return 'memory';
        for (let i = 0; i < size; i++) data[i] = Number((value >> BigInt(8 * i)) & 0xffn);
        if (!emulatorPio(vcpu, false, size, port, 1, data)) return 'userspace';
      }
      // all checks passed
      answered = false;
      setPart(index, part(index) + context.readState(DIRECTION, 8) * BigInt(size));
      if (insn.rep === 'none') {
        end();
        return 'done';
      }
      const left = part(VCPU_REGS_RCX) - 1n;
      setPart(VCPU_REGS_RCX, left);
      if (left === 0n) end();
      return 'done';
    },
    complete(): void {
      answered = true;
      if (input) data.set(vcpu.run.io.data.subarray(0, size));
    },
  };
}
