/**
 * What a TD asks of user space by TDG.VP.VMCALL: memory conversion, quotes, notification, the report of a fatal error.
 *
 * @ghci "TDG.VP.VMCALL<MapGPA>", "TDG.VP.VMCALL<GetQuote>", "TDG.VP.VMCALL<SetupEventNotifyInterrupt>",
 *   "TDG.VP.VMCALL<ReportFatalError>"
 */

import {
  type HypercallExit,
  type SystemEventExit,
  TDVMCALL_GET_QUOTE,
  TDVMCALL_GET_TD_VM_CALL_INFO,
  TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT,
  type TdxExit,
} from '../../kvm/virt/kvm_run.ts';
import { PAGE_SIZE } from '../../util/address.ts';
import type { GuestEnd } from '../guest-end.ts';
import type { TdMemory } from './memory.ts';

const KVM_HC_MAP_GPA_RANGE = 12n;
const MAP_GPA_ENCRYPTED = 0x10n;
/** -KVM_ENOSYS, -KVM_EINVAL as the guest's RAX has them. */
const NO_SUCH_HYPERCALL = BigInt.asUintN(64, -1000n);

const SUCCESS = 0n;
const INVALID_OPERAND = 1n << 63n;
const ALIGN_ERROR = INVALID_OPERAND | 2n;
const SUBFUNC_UNSUPPORTED = INVALID_OPERAND | 3n;

/** Header of a quote request in shared memory: version, status, input length, output length. */
const QUOTE_HEADER_SIZE = 24;
const QUOTE_VERSION = 1n;
/** Largest buffer for a quote: what a TD names here the VMM has to read. */
const QUOTE_BUFFER_MAX = 128 * 1024;
/** Statuses in that header. */
export const QUOTE_SUCCESS = 0n;
export const QUOTE_ERROR: bigint = 1n << 63n;
export const QUOTE_SERVICE_UNAVAILABLE: bigint = (1n << 63n) | 1n;

/** Makes quotes of TDREPORTs. */
export interface QuoteService {
  /** The quote, or the status that says why there is none. */
  readonly quote: (report: Uint8Array) => Uint8Array | bigint;
}

/** The answer where there is no quoting service. */
export const NO_QUOTE_SERVICE: QuoteService = { quote: () => QUOTE_SERVICE_UNAVAILABLE };

/** MapGPA, which KVM brings here as a hypercall in pieces; 0 means done. */
export function answerHypercall(exit: HypercallExit, memory: TdMemory): void {
  if (exit.nr !== KVM_HC_MAP_GPA_RANGE) {
    exit.ret = NO_SUCH_HYPERCALL;
    return;
  }
  const [gpa = 0n, pages = 0n, attributes = 0n] = exit.args;
  const toPrivate = (attributes & MAP_GPA_ENCRYPTED) !== 0n;
  exit.ret = BigInt.asUintN(64, BigInt(memory.convert(Number(gpa), Number(pages) * PAGE_SIZE, toPrivate)));
}

/** The calls that KVM passes on as they are. Without notifications the guest polls for its quote. */
export function answerTdx(exit: TdxExit, memory: TdMemory, service: QuoteService): void {
  switch (exit.nr) {
    case TDVMCALL_GET_QUOTE:
      exit.getQuote.ret = getQuote(exit.getQuote.gpa, Number(exit.getQuote.size), memory, service);
      return;
    case TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT:
      exit.setupEventNotify.ret = SUBFUNC_UNSUPPORTED;
      return;
    case TDVMCALL_GET_TD_VM_CALL_INFO:
      // Leaf 1 says what is there beyond the base functions: nothing.
      Object.assign(exit.getTdVmCallInfo, { ret: SUCCESS, r11: 0n, r12: 0n, r13: 0n, r14: 0n });
      return;
  }
}

function getQuote(gpa: number, size: number, memory: TdMemory, service: QuoteService): bigint {
  if (gpa % PAGE_SIZE !== 0 || size % PAGE_SIZE !== 0) return ALIGN_ERROR;
  if (size === 0 || size > QUOTE_BUFFER_MAX) return INVALID_OPERAND;
  const buffer = memory.readShared(gpa, size);
  if (buffer === undefined) return INVALID_OPERAND;
  const header = new DataView(buffer.buffer, buffer.byteOffset, QUOTE_HEADER_SIZE);
  const length = header.getUint32(16, true);
  if (header.getBigUint64(0, true) !== QUOTE_VERSION || QUOTE_HEADER_SIZE + length > size) return INVALID_OPERAND;
  const made = service.quote(buffer.slice(QUOTE_HEADER_SIZE, QUOTE_HEADER_SIZE + length));
  const quote = typeof made === 'bigint' ? new Uint8Array(0) : made;
  const fits = QUOTE_HEADER_SIZE + quote.length <= size;
  header.setBigUint64(8, typeof made === 'bigint' ? made : fits ? QUOTE_SUCCESS : QUOTE_ERROR, true);
  header.setUint32(20, fits ? quote.length : 0, true);
  if (fits) buffer.set(quote, QUOTE_HEADER_SIZE);
  return memory.writeShared(gpa, buffer) ? SUCCESS : INVALID_OPERAND;
}

const CODE_MASK = 0xffff_ffffn;
/** Registers of the message in order: R14, R15, RBX, RDI, RSI, R8, R9, RDX. */
const MESSAGE_REGISTERS = [14, 15, 3, 7, 6, 8, 9, 2] as const;
const R12 = 12;

/** A TD's report of a fatal error: the code of R12 and the text in the other registers. */
export function fatalError(exit: SystemEventExit): GuestEnd {
  const bytes = new BigUint64Array(MESSAGE_REGISTERS.map((register) => exit.data[register] ?? 0n));
  let message = '';
  for (const byte of new Uint8Array(bytes.buffer)) {
    if (byte === 0) break;
    message += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
  }
  return { reason: 'td-fatal', code: Number((exit.data[R12] ?? 0n) & CODE_MASK), message };
}
