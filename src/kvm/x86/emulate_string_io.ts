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
export class StringIo {
  readonly #vcpu: X86Vcpu;
  readonly #insn: Insn;
  readonly #input: boolean;
  readonly #context: EvaluationContext;
  readonly #size: 1 | 2 | 4;
  /** The index register, and where its segment is described. */
  readonly #index: number;
  readonly #segment: number;
  readonly #data: Uint8Array = new Uint8Array(4);
  /** The port has answered for the present element. */
  #answered = false;

  /** Begins INS (`input`) or OUTS. */
  constructor(vcpu: X86Vcpu, insn: Insn, input: boolean, context: EvaluationContext) {
    this.#vcpu = vcpu;
    this.#insn = insn;
    this.#input = input;
    this.#context = context;
    const width = insn.operands.find((operand) => operand.place === 'memory')?.width ?? 8;
    this.#size = (Math.min(width, 32) / 8) as 1 | 2 | 4;
    this.#index = input ? VCPU_REGS_RDI : VCPU_REGS_RSI;
    this.#segment = SEGMENTS + (input ? ES : insn.segment) * SEGMENT_SIZE;
  }

  /** Does one element, or nothing where RCX counts none. */
  step(): StringStep {
    const repeated = this.#insn.rep !== 'none';
    if (repeated && this.#part(VCPU_REGS_RCX) === 0n) {
      this.#end();
      return 'done';
    }
    const address = this.#linear();
    if (address === undefined) return 'segment';
    const moved = this.#input ? this.#in(address) : this.#out(address);
    if (moved !== 'done') return moved;
    // all checks passed
    this.#answered = false;
    this.#setPart(this.#index, this.#part(this.#index) + this.#context.readState(DIRECTION, 8) * BigInt(this.#size));
    const left = this.#part(VCPU_REGS_RCX) - 1n;
    if (repeated) this.#setPart(VCPU_REGS_RCX, left);
    if (!repeated || left === 0n) this.#end();
    return 'done';
  }

  /** User space has done the port access. */
  complete(): void {
    this.#answered = true;
    if (this.#input) this.#data.set(this.#vcpu.run.io.data.subarray(0, this.#size));
  }

  #in(address: bigint): StringStep {
    const size = this.#size;
    if (!this.#context.writable(address, size)) return 'memory';
    if (!this.#answered && !emulatorPio(this.#vcpu, true, size, this.#port(), 1, this.#data)) return 'userspace';
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#data[i]!);
    this.#context.write(address, size, value);
    return 'done';
  }

  #out(address: bigint): StringStep {
    if (this.#answered) return 'done';
    const size = this.#size;
    const value = this.#context.read(address, size, false);
    if (value === undefined) return 'memory';
    for (let i = 0; i < size; i++) this.#data[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return emulatorPio(this.#vcpu, false, size, this.#port(), 1, this.#data) ? 'done' : 'userspace';
  }

  #port(): number {
    return Number(this.#context.gpr(VCPU_REGS_RDX) & 0xffffn);
  }

  #part(register: number): bigint {
    return BigInt.asUintN(this.#insn.addressSize, this.#context.gpr(register));
  }

  #setPart(register: number, value: bigint): void {
    const { addressSize } = this.#insn;
    const cut = BigInt.asUintN(addressSize, value);
    this.#context.setGpr(register, addressSize === 16 ? (this.#context.gpr(register) & ~0xffffn) | cut : cut);
  }

  #end(): void {
    const { mode, length } = this.#insn;
    this.#context.setRip(BigInt.asUintN(mode === 64 ? 64 : 32, this.#context.rip + BigInt(length)));
  }

  /** Linear address of the element; undefined beyond the segment. */
  #linear(): bigint | undefined {
    const context = this.#context;
    const segment = this.#segment;
    const offset = this.#part(this.#index);
    const base = context.readState(segment + SEG_BASE, 8);
    if (this.#insn.mode === 64) return BigInt.asUintN(64, base + offset);
    const span = context.readState(segment + (this.#input ? SEG_WRITE_SPAN : SEG_READ_SPAN), 8);
    const within = BigInt.asUintN(32, offset - context.readState(segment + SEG_LOW, 4));
    return within + BigInt(this.#size - 1) > span ? undefined : BigInt.asUintN(32, base + offset);
  }
}
