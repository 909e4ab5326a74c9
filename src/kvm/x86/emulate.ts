/**
 * KVM's instruction emulator: the machine's instruction tables, evaluated on a vCPU's registers and memory.
 *
 * It does what touches memory that is none (MMIO) and port strings; everything else runs natively. Nothing of an
 * instruction happens before all of it can, so an access that user space must serve ends the evaluation, which is done
 * again with the answer at hand.
 *
 * @upstream arch/x86/kvm/x86.c x86_emulate_instruction(), arch/x86/kvm/emulate.c
 */
import { EXIT } from '../../machine/engine/layout.ts';
import { decode, INVALID, TOO_LONG, TRUNCATED } from '../../machine/isa/decode.ts';
import { type Evaluation, type EvaluationContext, evaluate } from '../../machine/isa/evaluate.ts';
import '../../machine/isa/index.ts';
import type { Insn } from '../../machine/isa/insn.ts';
import { type Gpa, PAGE_SIZE } from '../../util/address.ts';
import { fromLittleEndian, littleEndianBytes } from '../../util/bytes.ts';
import { trace } from '../../util/trace.ts';
import { kvmReadGuest } from '../virt/guest_memory.ts';
import { KVM_INTERNAL_ERROR_EMULATION } from '../virt/kvm_run.ts';
import { EmulatorMemory } from './emulate_memory.ts';
import { emulatorReadState, emulatorWriteState, UnknownState } from './emulate_state.ts';
import { StringIo } from './emulate_string_io.ts';
import {
  DE_VECTOR,
  kvmInjectGp,
  kvmInjectPageFault,
  kvmQueueException,
  kvmQueueExceptionE,
  SS_VECTOR,
  UD_VECTOR,
} from './event_queue.ts';
import { codeSize, kvmRegisterReadRaw, kvmRegisterWriteRaw, kvmRipRead, kvmRipWrite } from './kvm_cache_regs.ts';
import { VCPU_SREG_CS, VCPU_SREG_SS, type X86Vcpu } from './kvm_host.ts';
import { kvmMmuGvaToGpa } from './mmu/paging_tmpl.ts';
import { PFERR_FETCH_MASK, PFERR_USER_MASK } from './mmu/pferr.ts';
import { kvmVcpuDoSinglestep } from './skip.ts';
import { kvmReadL1Tsc } from './tsc.ts';

const MAX_INSN_LENGTH = 15;
const STATUS_FLAGS = 0x8d5;
const RFLAGS_TF = 0x100;
/** Iterations of a string instruction before events are looked at again. */
const MAX_ITERATIONS = 1024;

/** The code bytes at RIP, as many as there are; undefined with a page fault injected. */
function fetch(vcpu: X86Vcpu, mode: 16 | 32 | 64): Uint8Array | undefined {
  const { ops } = vcpu.kvm;
  const base = mode === 64 ? 0n : ops.getSegmentBase(vcpu, VCPU_SREG_CS);
  const linear = BigInt.asUintN(mode === 64 ? 64 : 32, base + kvmRipRead(vcpu));
  const access = PFERR_FETCH_MASK | (ops.getCpl(vcpu) === 3 ? PFERR_USER_MASK : 0);
  const first = Math.min(MAX_INSN_LENGTH, PAGE_SIZE - Number(linear & 0xfffn));
  const gpa = kvmMmuGvaToGpa(vcpu, linear, access);
  if (gpa < 0) {
    kvmInjectPageFault(vcpu, vcpu.arch.walkFault.address, vcpu.arch.walkFault.errorCode);
    return undefined;
  }
  const head = kvmReadGuest(vcpu.kvm, gpa, first) ?? new Uint8Array(0);
  if (head.length === 0 || first === MAX_INSN_LENGTH) return head;
  const whole = decode(head, 0, head.length, mode);
  if (whole !== TRUNCATED) return head;
  // The instruction goes on in the next page.
  const next = kvmMmuGvaToGpa(vcpu, linear + BigInt(first), access);
  if (next < 0) {
    kvmInjectPageFault(vcpu, vcpu.arch.walkFault.address, vcpu.arch.walkFault.errorCode);
    return undefined;
  }
  const tail = kvmReadGuest(vcpu.kvm, next, MAX_INSN_LENGTH - first) ?? new Uint8Array(0);
  const bytes = new Uint8Array(head.length + tail.length);
  bytes.set(head);
  bytes.set(tail, head.length);
  return bytes;
}

/** One instruction under emulation, and what its evaluation sees of the vCPU. */
class Emulation implements EvaluationContext {
  readonly rip: bigint;
  readonly #vcpu: X86Vcpu;
  readonly #insn: Insn;
  readonly #bytes: Uint8Array;
  readonly #memory: EmulatorMemory;
  /** RIP was set: the instruction is over, not only an iteration of it. */
  #over = false;
  #strings: StringIo | null = null;

  constructor(vcpu: X86Vcpu, insn: Insn, bytes: Uint8Array, gpa: Gpa) {
    this.#vcpu = vcpu;
    this.#insn = insn;
    this.#bytes = bytes;
    this.#memory = new EmulatorMemory(vcpu, emulatorCanUseGpa(insn) ? gpa : -1);
    this.rip = kvmRipRead(vcpu);
  }

  gpr(n: number): bigint {
    return kvmRegisterReadRaw(this.#vcpu, n);
  }
  setGpr(n: number, value: bigint): void {
    kvmRegisterWriteRaw(this.#vcpu, n, BigInt.asUintN(64, value));
  }
  statusFlags(): number {
    return this.#vcpu.kvm.ops.getRflags(this.#vcpu) & STATUS_FLAGS;
  }
  setStatusFlags(word: number): void {
    const { ops } = this.#vcpu.kvm;
    ops.setRflags(this.#vcpu, (ops.getRflags(this.#vcpu) & ~STATUS_FLAGS) | word);
  }
  setRip(rip: bigint): void {
    this.#over = true;
    kvmRipWrite(this.#vcpu, BigInt.asUintN(64, rip));
  }
  readState(address: number, size: number): bigint {
    return emulatorReadState(this.#vcpu, address, size);
  }
  writeState(address: number, size: number, value: bigint): void {
    emulatorWriteState(this.#vcpu, address, size, value);
  }
  read(linear: bigint, size: number, willWrite: boolean): bigint | undefined {
    const data = this.#memory.read(BigInt.asUintN(64, linear), size, willWrite);
    return data === undefined ? undefined : fromLittleEndian(data);
  }
  writable(linear: bigint, size: number): boolean {
    return this.#memory.writable(BigInt.asUintN(64, linear), size);
  }
  write(linear: bigint, size: number, value: bigint): void {
    this.#memory.write(BigInt.asUintN(64, linear), littleEndianBytes(value, size));
  }
  timestamp(): bigint {
    return kvmReadL1Tsc(this.#vcpu);
  }

  /** Works until the instruction is over, or user space must do something. */
  run(): number {
    const vcpu = this.#vcpu;
    for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
      this.#memory.restart();
      const result = this.#step();
      if (result !== DONE) return result;
      this.#memory.forget();
      if (this.#memory.exitForWrite()) {
        vcpu.arch.completeUserspaceIo = () => this.#afterWrite();
        return 0;
      }
      if (this.#over) return this.#finish();
    }
    // Long strings let interrupts in: the guest executes the instruction again with what is left.
    return 1;
  }

  /** One evaluation: DONE, or what to return. */
  #step(): number {
    const vcpu = this.#vcpu;
    const { mnemonic } = this.#insn.row.operation;
    if (mnemonic === 'INS' || mnemonic === 'OUTS') return this.#stringStep(mnemonic === 'INS');
    let evaluation: Evaluation;
    try {
      evaluation = evaluate(this.#insn, this);
    } catch (error) {
      if (error instanceof UnknownState) return failed(vcpu, this.#bytes);
      throw error;
    }
    switch (evaluation.kind) {
      case 'done':
        return DONE;
      case 'memory':
        return this.#stopped();
      case 'exit':
        if (evaluation.reason === EXIT.segment) {
          const stack = this.#insn.memory?.segment === VCPU_SREG_SS;
          if (stack) kvmQueueExceptionE(vcpu, SS_VECTOR, 0);
          else kvmInjectGp(vcpu);
          return 1;
        }
        if (evaluation.reason === EXIT.alignment) {
          kvmInjectGp(vcpu);
          return 1;
        }
        if (evaluation.reason === EXIT.undefined || evaluation.reason === EXIT.divide) {
          kvmQueueException(vcpu, evaluation.reason === EXIT.divide ? DE_VECTOR : UD_VECTOR);
          return 1;
        }
        return failed(vcpu, this.#bytes);
      default:
        return failed(vcpu, this.#bytes);
    }
  }

  #stringStep(input: boolean): number {
    this.#strings ??= new StringIo(this.#vcpu, this.#insn, input, this);
    const outcome = this.#strings.step();
    if (outcome === 'done') return DONE;
    if (outcome === 'memory') return this.#stopped();
    if (outcome === 'segment') {
      kvmInjectGp(this.#vcpu);
      return 1;
    }
    // User space does the port access; then the iteration is done again with its answer.
    this.#vcpu.arch.completeUserspaceIo = () => {
      this.#strings?.complete();
      return this.run();
    };
    return 0;
  }

  #stopped(): number {
    if (this.#memory.stopped === 'fault') return 1;
    this.#vcpu.arch.completeUserspaceIo = () => this.#afterRead();
    return 0;
  }

  #afterRead(): number {
    if (this.#memory.completeRead()) return this.run();
    this.#vcpu.arch.completeUserspaceIo = () => this.#afterRead();
    return 0;
  }

  #afterWrite(): number {
    if (this.#memory.exitForWrite()) {
      this.#vcpu.arch.completeUserspaceIo = () => this.#afterWrite();
      return 0;
    }
    return this.#over ? this.#finish() : this.run();
  }

  #finish(): number {
    const vcpu = this.#vcpu;
    const { ops } = vcpu.kvm;
    ops.setInterruptShadow(vcpu, 0);
    return ops.getRflags(vcpu) & RFLAGS_TF ? kvmVcpuDoSinglestep(vcpu) : 1;
  }
}

/** An evaluation came to its end; no value that callers see. */
const DONE = 2;

/** Nothing that KVM can do: user space gets the bytes. @upstream handle_emulation_failure() */
function failed(vcpu: X86Vcpu, bytes: Uint8Array): number {
  trace.kvm_emulate_insn?.(kvmRipRead(vcpu), bytes, true);
  const word = (from: number): bigint => fromLittleEndian(bytes.subarray(from, from + 8));
  vcpu.run.setInternalError(KVM_INTERNAL_ERROR_EMULATION, [BigInt(bytes.length), word(0), word(8)]);
  return 0;
}

let lastBytes: Uint8Array = new Uint8Array(0);
let lastMode = 0;
let lastInsn: ReturnType<typeof decode> = INVALID;

/** perf: drivers access their devices from the same few places. */
function decoded(bytes: Uint8Array, mode: 16 | 32 | 64): ReturnType<typeof decode> {
  const known =
    mode === lastMode && bytes.length === lastBytes.length && bytes.every((byte, i) => byte === lastBytes[i]);
  if (!known) {
    lastInsn = decode(bytes, 0, bytes.length, mode);
    lastBytes = bytes;
    lastMode = mode;
  }
  return lastInsn;
}

/** Whether the instruction has one memory operand and accesses it once. @upstream emulator_can_use_gpa() */
function emulatorCanUseGpa({ rep, row }: Insn): boolean {
  const { string, implicitMemory } = row.operation;
  return rep === 'none' && !string && !implicitMemory;
}

/**
 * Emulates the instruction at RIP: 1 go on, 0 exit to user space.
 * @param gpa of the access that made it exit, or −1
 * @upstream kvm_emulate_instruction(), x86_emulate_instruction()
 */
export function kvmEmulateInstruction(vcpu: X86Vcpu, gpa: Gpa = -1): number {
  vcpu.stat.insn_emulation++;
  const mode = codeSize(vcpu);
  const bytes = fetch(vcpu, mode);
  if (bytes === undefined) return 1;
  const insn = decoded(bytes, mode);
  if (insn === TOO_LONG) {
    kvmInjectGp(vcpu);
    return 1;
  }
  if (insn === INVALID || insn === TRUNCATED) return failed(vcpu, bytes);
  trace.kvm_emulate_insn?.(kvmRipRead(vcpu), bytes.subarray(0, insn.length), false);
  return new Emulation(vcpu, insn, bytes, gpa).run();
}
