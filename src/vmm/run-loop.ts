/** The loop of one vCPU: run, do what user space is wanted for, run again. */

import type { PortBus } from '../devices/bus.ts';
import {
  KVM_SYSTEM_EVENT_CRASH,
  KVM_SYSTEM_EVENT_RESET,
  KVM_SYSTEM_EVENT_SHUTDOWN,
  type VcpuExit,
} from '../kvm/virt/kvm_run.ts';
import { exitReasonName } from './exit-reasons.ts';
import type { GuestEnd } from './guest-end.ts';
import type { VmmVcpu } from './kvm-api.ts';
import { doMmio, doPortIo } from './pc/io.ts';
import type { SerialConsole } from './serial-console.ts';

const EINTR = 4;
const EAGAIN = 11;

/** What a vCPU's loop works on. */
export interface VcpuLoop {
  readonly vcpu: VmmVcpu;
  readonly index: number;
  readonly ports: PortBus;
  readonly console: SerialConsole;
  /** Keeps machine time from passing until the result is called. */
  readonly hold: () => () => void;
  /** Ends the guest. */
  readonly end: (end: GuestEnd) => void;
  readonly ended: () => boolean;
  /** Exits that this kind of guest has and others do not; true: it was one and is dealt with. */
  readonly special?: (exit: VcpuExit, errno: number) => boolean;
}

/** Runs a vCPU until the guest has ended. */
export async function runVcpu(loop: VcpuLoop): Promise<void> {
  const { vcpu, console, ended } = loop;
  while (!ended()) {
    const exit = await vcpu.run();
    if (typeof exit === 'number') {
      // Some failures come with an exit that says more.
      const handled = exit !== -EINTR && exit !== -EAGAIN && loop.special?.(vcpu.kvmRun.exit, exit) === true;
      if (exit !== -EINTR && exit !== -EAGAIN && !handled) {
        loop.end({ reason: 'kvm-error', message: `KVM_RUN failed with errno ${-exit}` });
      }
      continue;
    }
    if (loop.special?.(exit, 0) !== true) handleExit(loop, exit);
    const blocked = console.outputBlocked;
    if (blocked !== undefined && !ended()) {
      // Whoever reads the console is slower than the guest: the guest's time stands still meanwhile.
      const release = loop.hold();
      await blocked;
      release();
    }
  }
}

/** Where the guest is; undefined where only it knows. */
function ripOf(vcpu: VmmVcpu): bigint | undefined {
  const regs = vcpu.getRegs();
  return typeof regs === 'number' ? undefined : regs.rip;
}

function handleExit({ vcpu, index, ports, end }: VcpuLoop, exit: VcpuExit): void {
  const fail = (message: string): void => end({ reason: 'kvm-error', message });
  switch (exit.kind) {
    case 'io':
      return doPortIo(ports, exit);
    case 'mmio':
      return doMmio(exit);
    case 'intr':
    case 'irq-window-open':
    case 'set-tpr':
    case 'ioapic-eoi':
      return;
    case 'hlt':
      // Only without an in-kernel APIC, where nothing could wake the vCPU.
      return end({ reason: 'halted' });
    case 'shutdown':
      return end({ reason: 'triple-fault', vcpu: index, rip: ripOf(vcpu) });
    case 'system-event':
      if (exit.type === KVM_SYSTEM_EVENT_SHUTDOWN) return end({ reason: 'power-off' });
      if (exit.type === KVM_SYSTEM_EVENT_RESET) return end({ reason: 'reset', by: 'a system event' });
      if (exit.type === KVM_SYSTEM_EVENT_CRASH) return end({ reason: 'panic' });
      return fail(`unknown system event ${exit.type}`);
    case 'fail-entry': {
      const reason = exit.hardwareEntryFailureReason;
      return fail(`VM entry failed, ${exitReasonName(Number(reason & 0xffff_ffffn))} (0x${reason.toString(16)})`);
    }
    case 'internal-error': {
      const data = exit.data.slice(0, exit.ndata).map((value) => `0x${value.toString(16)}`);
      const rip = ripOf(vcpu);
      const at = rip === undefined ? '' : ` at RIP 0x${rip.toString(16)}`;
      return fail(`KVM internal error ${exit.suberror}${at}${data.length > 0 ? `: ${data.join(' ')}` : ''}`);
    }
    case 'unknown':
    case 'exception':
      return fail(`unexpected VM exit, ${exitReasonName(exit.hardwareExitReason)}`);
    case 'memory-fault':
      return fail(`memory fault at guest-physical address 0x${exit.gpa.toString(16)}`);
    case 'rdmsr':
    case 'wrmsr':
      // User space has no MSRs of its own.
      exit.error = 1;
      return;
    case 'hypercall':
      exit.ret = -1000n & 0xffff_ffff_ffff_ffffn;
      return;
    case 'debug':
      return fail('unexpected debug exit');
    case 'tdx':
      return fail(`unexpected TDX exit 0x${exit.nr.toString(16)}`);
  }
}
