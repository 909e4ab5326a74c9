/**
 * struct kvm_run as user space sees it in the memory that it shares with a vCPU: three pages, of which the second is the
 * data of port I/O. What the run object says goes there after KVM_RUN, and user space's requests and answers come back
 * from there before the next.
 *
 * @upstream include/uapi/linux/kvm.h struct kvm_run
 */
import type { KvmRun, TdxExit, VcpuExit } from '../virt/kvm_run.ts';
import {
  KVM_EXIT,
  TDVMCALL_GET_QUOTE,
  TDVMCALL_GET_TD_VM_CALL_INFO,
  TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT,
} from '../virt/kvm_run.ts';
import { type MemberSpec, UapiStruct } from '../virt/uapi_struct.ts';

/** KVM_GET_VCPU_MMAP_SIZE: this structure, data of port I/O, coalesced MMIO. */
export const KVM_VCPU_MMAP_SIZE = 12288;
/** Where the data of port I/O lies. */
export const KVM_PIO_PAGE_OFFSET = 4096;
/** Where what depends on the exit lies, and how much room it has. */
const UNION_OFFSET = 32;
const UNION_SIZE = 256;

/** What every exit has. */
export const kvm_run_header: UapiStruct<{
  requestInterruptWindow: boolean;
  immediateExit: boolean;
  exitReason: number;
  readyForInterruptInjection: boolean;
  ifFlag: boolean;
  flags: number;
  cr8: bigint;
  apicBase: bigint;
}> = new UapiStruct('kvm_run', UNION_OFFSET, [
  ['requestInterruptWindow', 'flag'],
  ['immediateExit', 'flag'],
  ['', 'u8', 6],
  ['exitReason', 'u32'],
  ['readyForInterruptInjection', 'flag'],
  ['ifFlag', 'flag'],
  ['flags', 'u16'],
  ['cr8', 'u64'],
  ['apicBase', 'u64'],
]);

type Fields = Readonly<Record<string, unknown>>;
const struct = (name: string, size: number, members: readonly MemberSpec[]): UapiStruct<object> =>
  new UapiStruct(name, size, members);
const u64s = (...names: string[]): MemberSpec[] => names.map((name) => [name, 'u64']);

const io = struct('kvm_run.io', 16, [
  ['direction', 'u8'],
  ['size', 'u8'],
  ['port', 'u16'],
  ['count', 'u32'],
  ['dataOffset', 'u64'],
]);
const mmio = struct('kvm_run.mmio', 24, [
  ['physAddr', 'address'],
  ['data', 'u8', 8],
  ['len', 'u32'],
  ['isWrite', 'flag'],
]);
const hypercall = struct('kvm_run.hypercall', 72, [
  ['nr', 'u64'],
  ['args', 'u64', 6],
  ['ret', 'u64'],
  ['flags', 'u64'],
]);
const debug = struct('kvm_run.debug', 32, [
  ['exception', 'u32'],
  ['', 'u32'],
  ['pc', 'u64'],
  ['dr6', 'u64'],
  ['dr7', 'u64'],
]);
const failEntry = struct('kvm_run.fail_entry', 16, [
  ['hardwareEntryFailureReason', 'u64'],
  ['cpu', 'u32'],
]);
const internal = struct('kvm_run.internal', 136, [
  ['suberror', 'u32'],
  ['ndata', 'u32'],
  ['data', 'u64', 16],
]);
const systemEvent = struct('kvm_run.system_event', 136, [
  ['type', 'u32'],
  ['ndata', 'u32'],
  ['data', 'u64', 16],
]);
const eoi = struct('kvm_run.eoi', 1, [['vector', 'u8']]);
const msr = struct('kvm_run.msr', 24, [
  ['error', 'u8'],
  ['', 'u8', 7],
  ['reason', 'u32'],
  ['index', 'u32'],
  ['data', 'u64'],
]);
const memoryFault = struct('kvm_run.memory_fault', 24, [
  ['flags', 'u64'],
  ['gpa', 'address'],
  ['size', 'address'],
]);
const unknown = struct('kvm_run.hw', 8, [['hardwareExitReason', 'address']]);
const exception = struct('kvm_run.ex', 8, [
  ['hardwareExitReason', 'u32'],
  ['errorCode', 'u32'],
]);
const nothing = struct('kvm_run.none', 0, []);
const tdxHead = struct('kvm_run.tdx', 16, [
  ['flags', 'u64'],
  ['nr', 'address'],
]);
const getQuote = struct('kvm_run.tdx.get_quote', 24, [
  ['ret', 'u64'],
  ['gpa', 'address'],
  ['size', 'u64'],
]);
const getTdVmCallInfo = struct('kvm_run.tdx.get_tdvmcall_info', 48, u64s('ret', 'leaf', 'r11', 'r12', 'r13', 'r14'));
const setupEventNotify = struct('kvm_run.tdx.setup_event_notify', 16, u64s('ret', 'vector'));

const BY_REASON: ReadonlyMap<number, UapiStruct<object>> = new Map([
  [KVM_EXIT.UNKNOWN, unknown],
  [KVM_EXIT.EXCEPTION, exception],
  [KVM_EXIT.IO, io],
  [KVM_EXIT.HYPERCALL, hypercall],
  [KVM_EXIT.DEBUG, debug],
  [KVM_EXIT.MMIO, mmio],
  [KVM_EXIT.FAIL_ENTRY, failEntry],
  [KVM_EXIT.INTERNAL_ERROR, internal],
  [KVM_EXIT.SYSTEM_EVENT, systemEvent],
  [KVM_EXIT.IOAPIC_EOI, eoi],
  [KVM_EXIT.X86_RDMSR, msr],
  [KVM_EXIT.X86_WRMSR, msr],
  [KVM_EXIT.MEMORY_FAULT, memoryFault],
  [KVM_EXIT.TDX, tdxHead],
]);

/** The structure that the union has for an exit. */
export const kvmRunUnion = (exitReason: number): UapiStruct<object> => BY_REASON.get(exitReason) ?? nothing;

/** The part of a TDX exit that its number names. */
function tdxPart(exit: TdxExit): readonly [UapiStruct<object>, { ret: bigint }] | undefined {
  switch (exit.nr) {
    case TDVMCALL_GET_QUOTE:
      return [getQuote, exit.getQuote];
    case TDVMCALL_GET_TD_VM_CALL_INFO:
      return [getTdVmCallInfo, exit.getTdVmCallInfo];
    case TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT:
      return [setupEventNotify, exit.setupEventNotify];
    default:
      return undefined;
  }
}

const fieldsOf = (exit: VcpuExit): Fields =>
  exit.kind === 'io'
    ? { ...exit, direction: exit.direction === 'out' ? 1 : 0, dataOffset: BigInt(KVM_PIO_PAGE_OFFSET) }
    : (exit as unknown as Fields);

/** Writes the run object into shared memory of {@link KVM_VCPU_MMAP_SIZE} bytes. */
export function encodeKvmRun(run: KvmRun, shared: DataView): void {
  kvm_run_header.encodeInto(run, shared, 0);
  const { exit } = run;
  new Uint8Array(shared.buffer, shared.byteOffset + UNION_OFFSET, UNION_SIZE).fill(0);
  kvmRunUnion(exit.exitReason).encodeInto(fieldsOf(exit), shared, UNION_OFFSET);
  if (exit.kind === 'io' && exit.direction === 'out') {
    bytesAt(shared, KVM_PIO_PAGE_OFFSET, exit.size * exit.count).set(exit.data.subarray(0, exit.size * exit.count));
  } else if (exit.kind === 'tdx') {
    const part = tdxPart(exit);
    part?.[0].encodeInto(part[1], shared, UNION_OFFSET + tdxHead.size);
  }
}

/** Takes user space's requests, and its answer to the exit, from shared memory. */
export function decodeKvmRun(run: KvmRun, shared: DataView): void {
  const { requestInterruptWindow, immediateExit, cr8 } = kvm_run_header.decodeFrom(shared, 0);
  run.requestInterruptWindow = requestInterruptWindow;
  run.immediateExit = immediateExit;
  run.cr8 = cr8;
  const { exit } = run;
  const answer = kvmRunUnion(exit.exitReason).decodeFrom(shared, UNION_OFFSET) as Fields;
  switch (exit.kind) {
    case 'io':
      if (exit.direction === 'in') exit.data.set(bytesAt(shared, KVM_PIO_PAGE_OFFSET, exit.size * exit.count));
      return;
    case 'mmio':
      if (!exit.isWrite) exit.data.set(answer['data'] as Uint8Array);
      return;
    case 'hypercall':
      exit.ret = answer['ret'] as bigint;
      return;
    case 'rdmsr':
    case 'wrmsr':
      exit.error = answer['error'] as number;
      exit.data = answer['data'] as bigint;
      return;
    case 'tdx': {
      const part = tdxPart(exit);
      if (part !== undefined) Object.assign(part[1], part[0].decodeFrom(shared, UNION_OFFSET + tdxHead.size));
    }
  }
}

const bytesAt = (shared: DataView, offset: number, length: number): Uint8Array =>
  new Uint8Array(shared.buffer, shared.byteOffset + offset, length);
