/**
 * Calls of a TD that are no instruction: conversion of memory, quotes, and the end.
 *
 * @ghci "TDG.VP.VMCALL<MapGPA>" and what follows
 * @upstream arch/x86/kvm/vmx/tdx.c handle_tdvmcall(), tdx_map_gpa(), tdx_get_quote(), tdx_report_fatal_error()
 */
import { PAGE_SIZE } from '../../../util/address.ts';
import {
  KVM_SYSTEM_EVENT_TDX_FATAL,
  TDVMCALL_GET_QUOTE,
  TDVMCALL_GET_TD_VM_CALL_INFO,
  TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT,
  type TdxExit,
} from '../../virt/kvm_run.ts';
import type { X86Vcpu } from '../kvm_host.ts';
import { KVM_HC_MAP_GPA_RANGE } from '../kvm_para.ts';
import {
  TDVMCALL_MAP_GPA,
  TDVMCALL_REPORT_FATAL_ERROR,
  TDVMCALL_STATUS_ALIGN_ERROR,
  TDVMCALL_STATUS_INVALID_OPERAND,
  TDVMCALL_STATUS_RETRY,
  TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED,
  TDVMCALL_STATUS_SUCCESS,
} from './tdx_arch.ts';
import { tdvmcallSetReturnCode } from './tdx_emulate.ts';
import { kvmVcpuHasEvents } from './tdx_irq.ts';
import { tdxStripShared, toTdx, vtIsTdxPrivateGpa } from './tdx_types.ts';

/** One exit to user space converts this much. @upstream TDX_MAP_GPA_MAX_LEN */
const MAP_GPA_MAX_LEN = 0x20_0000n;
/** Attribute of KVM_HC_MAP_GPA_RANGE: private. */
const MAP_GPA_RANGE_ENCRYPTED = 0x10n;
const EXIT_HYPERCALL_LONG_MODE = 1n;
const PAGE_MASK: bigint = BigInt(PAGE_SIZE - 1);
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

const FIRST_VECTOR = 32n;
const LAST_VECTOR = 255n;

/** @upstream handle_tdvmcall() */
export function handleTdvmcall(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  switch (Number(tdx.regs[11])) {
    case TDVMCALL_MAP_GPA:
      return tdxMapGpa(vcpu);
    case TDVMCALL_REPORT_FATAL_ERROR:
      return tdxReportFatalError(vcpu);
    case TDVMCALL_GET_TD_VM_CALL_INFO:
      return tdxGetTdVmCallInfo(vcpu);
    case TDVMCALL_GET_QUOTE:
      return tdxGetQuote(vcpu);
    case TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT:
      return tdxSetupEventNotifyInterrupt(vcpu);
    default:
      tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED);
      return 1;
  }
}

// ---- MapGPA

/** R12 address, whose shared bit says which kind it is to be, R13 size. @upstream tdx_map_gpa() */
function tdxMapGpa(vcpu: X86Vcpu): number {
  const { kvm } = vcpu;
  const tdx = toTdx(vcpu);
  const gpa = tdx.regs[12]!;
  const size = tdx.regs[13]!;
  const refuse = (status: bigint): number => {
    tdvmcallSetReturnCode(tdx, status);
    tdx.regs[11] = gpa;
    return 1;
  };
  // User space does the conversion, and has to say that it can.
  if ((kvm.arch.hypercallExitEnabled & (1n << BigInt(KVM_HC_MAP_GPA_RANGE))) === 0n)
    return refuse(TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED);
  const end = gpa + size;
  const legal = end > gpa && end <= ALL_ONES && (end - 1n) >> BigInt(vcpu.arch.maxphyaddr) === 0n;
  if (!legal || vtIsTdxPrivateGpa(kvm, gpa) !== vtIsTdxPrivateGpa(kvm, end - 1n))
    return refuse(TDVMCALL_STATUS_INVALID_OPERAND);
  if ((gpa | size) & PAGE_MASK) return refuse(TDVMCALL_STATUS_ALIGN_ERROR);
  // all checks passed
  tdx.mapGpaNext = gpa;
  tdx.mapGpaEnd = end;
  return mapGpaChunk(vcpu);
}

/** Exits for the next part. @upstream __tdx_map_gpa() */
function mapGpaChunk(vcpu: X86Vcpu): number {
  const { kvm, run } = vcpu;
  const tdx = toTdx(vcpu);
  const gpa = tdx.mapGpaNext;
  const rest = tdx.mapGpaEnd - gpa;
  const size = rest < MAP_GPA_MAX_LEN ? rest : MAP_GPA_MAX_LEN;
  const exit = run.hypercall;
  exit.nr = BigInt(KVM_HC_MAP_GPA_RANGE);
  const attributes = vtIsTdxPrivateGpa(kvm, gpa) ? MAP_GPA_RANGE_ENCRYPTED : 0n;
  exit.args.splice(0, 6, tdxStripShared(kvm, gpa), size / BigInt(PAGE_SIZE), attributes, 0n, 0n, 0n);
  exit.ret = 0n;
  exit.flags = EXIT_HYPERCALL_LONG_MODE;
  run.setExit(exit);
  vcpu.arch.completeUserspaceIo = completeMapGpa;
  return 0;
}

/** @upstream tdx_complete_vmcall_map_gpa() */
function completeMapGpa(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  if (vcpu.run.hypercall.ret !== 0n) {
    tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_INVALID_OPERAND);
    tdx.regs[11] = tdx.mapGpaNext;
    return 1;
  }
  tdx.mapGpaNext += MAP_GPA_MAX_LEN;
  if (tdx.mapGpaNext >= tdx.mapGpaEnd) return 1;
  // An interrupt that could be delivered comes first: the guest asks for the rest again.
  if (kvmVcpuHasEvents(vcpu)) {
    tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_RETRY);
    tdx.regs[11] = tdx.mapGpaNext;
    return 1;
  }
  return mapGpaChunk(vcpu);
}

// ---- exits of their own

/** All general registers, but for RSP and RBP, which are not shown. @upstream tdx_report_fatal_error() */
function tdxReportFatalError(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const event = vcpu.run.systemEvent;
  event.type = KVM_SYSTEM_EVENT_TDX_FATAL;
  event.ndata = 16;
  const hidden = [4, 5];
  for (let i = 0; i < 16; i++) event.data[i] = hidden.includes(i) ? 0n : tdx.regs[i]!;
  event.data[0] = tdx.vpEnterRet;
  vcpu.run.setExit(event);
  return 0;
}

function tdxExit(vcpu: X86Vcpu, nr: number): TdxExit {
  const { tdx } = vcpu.run;
  tdx.flags = 0n;
  tdx.nr = nr;
  vcpu.run.setExit(tdx);
  return tdx;
}

/** R12 shared buffer, R13 its size. @upstream tdx_get_quote() */
function tdxGetQuote(vcpu: X86Vcpu): number {
  const { kvm } = vcpu;
  const tdx = toTdx(vcpu);
  const gpa = tdx.regs[12]!;
  if (vtIsTdxPrivateGpa(kvm, gpa)) {
    tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_INVALID_OPERAND);
    return 1;
  }
  const { getQuote } = tdxExit(vcpu, TDVMCALL_GET_QUOTE);
  getQuote.ret = TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED;
  getQuote.gpa = Number(tdxStripShared(kvm, gpa));
  getQuote.size = tdx.regs[13]!;
  vcpu.arch.completeUserspaceIo = () => {
    tdvmcallSetReturnCode(tdx, getQuote.ret);
    return 1;
  };
  return 0;
}

/** R12: 0 asks for what every TD has, 1 for what is optional. @upstream tdx_get_td_vm_call_info() */
function tdxGetTdVmCallInfo(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const { regs } = tdx;
  const leaf = regs[12]!;
  if (leaf === 0n) {
    regs.fill(0n, 11, 15);
    return 1;
  }
  if (leaf !== 1n) {
    tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_INVALID_OPERAND);
    return 1;
  }
  const { getTdVmCallInfo: info } = tdxExit(vcpu, TDVMCALL_GET_TD_VM_CALL_INFO);
  Object.assign(info, { ret: TDVMCALL_STATUS_SUCCESS, leaf, r11: 0n, r12: 0n, r13: 0n, r14: 0n });
  vcpu.arch.completeUserspaceIo = () => {
    tdvmcallSetReturnCode(tdx, info.ret);
    regs.set([info.r11, info.r12, info.r13, info.r14], 11);
    return 1;
  };
  return 0;
}

/** R12: the vector that is to come when a quote is ready. @upstream tdx_setup_event_notify_interrupt() */
function tdxSetupEventNotifyInterrupt(vcpu: X86Vcpu): number {
  const tdx = toTdx(vcpu);
  const vector = tdx.regs[12]!;
  if (vector < FIRST_VECTOR || vector > LAST_VECTOR) {
    tdvmcallSetReturnCode(tdx, TDVMCALL_STATUS_INVALID_OPERAND);
    return 1;
  }
  const { setupEventNotify } = tdxExit(vcpu, TDVMCALL_SETUP_EVENT_NOTIFY_INTERRUPT);
  setupEventNotify.ret = TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED;
  setupEventNotify.vector = vector;
  vcpu.arch.completeUserspaceIo = () => {
    tdvmcallSetReturnCode(tdx, setupEventNotify.ret);
    return 1;
  };
  return 0;
}
