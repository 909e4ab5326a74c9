import { beforeEach, describe, expect, test } from 'vitest';
import { Host } from '../../../host/host.ts';
import { Task } from '../../../host/sched.ts';
import { POSTED_INTR_VECTOR, POSTED_INTR_WAKEUP_VECTOR } from '../../../host/vectors.ts';
import { Machine } from '../../../machine/machine.ts';
import { NON_ROOT, ROOT } from '../../../machine/vtx/operation.ts';
import type { KvmArchHooks } from '../../virt/arch_hooks.ts';
import { IN_GUEST_MODE, type KvmModule } from '../../virt/kvm_host.ts';
import { setEnableApicv } from '../apicv.ts';
import { KVM_MP_STATE_HALTED, X86Vcpu, X86Vm } from '../kvm_host.ts';
import type { KvmX86Ops } from '../kvm_x86_ops.ts';
import { kvmCreateLapic } from '../lapic.ts';
import { VcpuVt } from './common.ts';
import {
  kvmArchEndAssignment,
  kvmArchStartAssignment,
  type PiDesc,
  piApicvPreStateRestore,
  piHasPendingInterrupt,
  piInit,
  piIsPirEmpty,
  piSetPir,
  piTestAndSetOn,
  piTestAndSetPir,
  piTestOn,
  piTestPir,
  piTestSn,
  vmxDeliverPostedInterruptCommon,
  vmxVcpuPiLoad,
  vmxVcpuPiPut,
  vtPiDescAlloc,
  vtPiDescFree,
} from './posted_intr.ts';

class Vt extends VcpuVt {}

let host: Host;
let vcpu: X86Vcpu;
let desc: PiDesc;
let module: KvmModule;

beforeEach(() => {
  host = new Host(new Machine({ processors: 2, ramSize: 16 << 20, profile: 'pc' }));
  setEnableApicv(host, true);
  piInit(host);
  module = { host, arch: {} as KvmArchHooks, runningVcpu: [null, null] } as unknown as KvmModule;
  const vm = new X86Vm(module, { interruptAllowed: () => true } as unknown as KvmX86Ops);
  vcpu = new X86Vcpu(vm, 0, new Task('vcpu', host.cpu));
  vcpu.vt = new Vt();
  kvmCreateLapic(vcpu);
  desc = vtPiDescAlloc(host)!;
  vcpu.vt.piDesc = desc;
});

const other = () => host.cpus.possible[1]!;
/** The vCPU runs on the second CPU. */
function runOnOther(): void {
  vcpu.cpu = other();
  vcpu.mode = IN_GUEST_MODE;
  other().processor.vtx.operation = NON_ROOT;
}

describe('posted-interrupt descriptor', () => {
  test('is 64 bytes at a multiple of 64, in the layout that processors read', () => {
    expect(desc.hpa % 64).toBe(0);
    piSetPir(0x45, desc);
    piTestAndSetOn(desc);
    desc.nv = 0xf2;
    desc.ndst = 0x1234_5678;
    const { memory } = host.machine;
    expect(memory.read32(desc.hpa + 8)).toBe(1 << 5);
    expect(memory.read8(desc.hpa + 32)).toBe(1);
    expect(memory.read8(desc.hpa + 34)).toBe(0xf2);
    expect(memory.read32(desc.hpa + 36)).toBe(0x1234_5678);
  });

  test('every vector has its own PIR bit', () => {
    for (let vector = 0; vector < 256; vector++) {
      expect(piTestPir(vector, desc)).toBe(false);
      expect(piTestAndSetPir(vector, desc)).toBe(false);
      expect(piTestAndSetPir(vector, desc)).toBe(true);
      expect(piTestPir(vector, desc)).toBe(true);
    }
    piApicvPreStateRestore(vcpu);
    expect(piIsPirEmpty(desc)).toBe(true);
  });

  test('its page goes back', () => {
    const free = host.pages.freePages;
    vtPiDescFree(host, desc);
    expect(host.pages.freePages).toBe(free + 1);
  });
});

describe('delivery', () => {
  test('to a vCPU that runs on another CPU: PIR, ON and one notification', () => {
    runOnOther();
    vmxDeliverPostedInterruptCommon(vcpu, desc, 0x31);
    expect(piTestPir(0x31, desc)).toBe(true);
    expect(piTestOn(desc)).toBe(true);
    expect(other().processor.apic.pendingVector).toBe(POSTED_INTR_VECTOR);
    other().processor.apic.acknowledge();
    other().processor.apic.eoi();
    // ON is still set: the first notification covers this one.
    vmxDeliverPostedInterruptCommon(vcpu, desc, 0x32);
    expect(piTestPir(0x32, desc)).toBe(true);
    expect(other().processor.apic.pendingVector).toBe(-1);
  });

  test('a vector that is posted already notifies nobody', () => {
    runOnOther();
    piSetPir(0x31, desc);
    vmxDeliverPostedInterruptCommon(vcpu, desc, 0x31);
    expect(piTestOn(desc)).toBe(false);
    expect(other().processor.apic.pendingVector).toBe(-1);
  });

  test('to a vCPU between two entries on this CPU: no notification', () => {
    vcpu.cpu = host.cpu;
    vcpu.mode = IN_GUEST_MODE;
    module.runningVcpu[0] = vcpu;
    vmxDeliverPostedInterruptCommon(vcpu, desc, 0x31);
    expect(piHasPendingInterrupt(vcpu)).toBe(true);
    expect(host.cpu.processor.apic.pendingVector).toBe(-1);
  });

  test('to a vCPU outside guest mode: it is woken', () => {
    void host.sched.enter(vcpu.task);
    void host.sched.block(vcpu.task);
    expect(vcpu.task.state).toBe('blocked');
    vmxDeliverPostedInterruptCommon(vcpu, desc, 0x31);
    expect(vcpu.task.state).not.toBe('blocked');
  });
});

describe('loading and putting', () => {
  test('loading directs notifications to the CPU', () => {
    vmxVcpuPiLoad(vcpu, other());
    expect(desc.ndst).toBe(1);
    expect(desc.nv).toBe(POSTED_INTR_VECTOR);
    expect(piTestSn(desc)).toBe(false);
  });

  test('without APIC virtualization, or without a local APIC, loading does nothing', () => {
    setEnableApicv(host, false);
    vmxVcpuPiLoad(vcpu, other());
    expect(desc.nv).toBe(0);
    setEnableApicv(host, true);
    vcpu.arch.apic = null;
    vmxVcpuPiLoad(vcpu, other());
    expect(desc.nv).toBe(0);
  });

  test('putting does nothing while only KVM posts', () => {
    vmxVcpuPiLoad(vcpu, other());
    vcpu.cpu = other();
    vmxVcpuPiPut(vcpu);
    expect(piTestSn(desc)).toBe(false);
    expect(desc.nv).toBe(POSTED_INTR_VECTOR);
  });

  test('with an assigned device a preempted vCPU suppresses notifications, and loading makes up for them', () => {
    kvmArchStartAssignment(vcpu.kvm);
    vmxVcpuPiLoad(vcpu, other());
    vcpu.cpu = other();
    vmxVcpuPiPut(vcpu);
    expect(piTestSn(desc)).toBe(true);
    piSetPir(0x31, desc);
    expect(piHasPendingInterrupt(vcpu)).toBe(true);
    vmxVcpuPiLoad(vcpu, other());
    expect(piTestSn(desc)).toBe(false);
    expect(piTestOn(desc)).toBe(true);
  });

  test('with an assigned device a halted vCPU waits for the wakeup vector', () => {
    kvmArchStartAssignment(vcpu.kvm);
    vmxVcpuPiLoad(vcpu, other());
    vcpu.cpu = other();
    vcpu.arch.mpState = KVM_MP_STATE_HALTED;
    vmxVcpuPiPut(vcpu);
    expect(desc.nv).toBe(POSTED_INTR_WAKEUP_VECTOR);
    void host.sched.enter(vcpu.task);
    void host.sched.block(vcpu.task);
    other().processor.vtx.operation = ROOT;
    // The wakeup vector without anything posted wakes nobody.
    host.interrupts.raise(other(), POSTED_INTR_WAKEUP_VECTOR);
    expect(vcpu.task.state).toBe('blocked');
    piSetPir(0x31, desc);
    piTestAndSetOn(desc);
    host.interrupts.raise(other(), POSTED_INTR_WAKEUP_VECTOR);
    expect(vcpu.task.state).not.toBe('blocked');
    vmxVcpuPiLoad(vcpu, host.cpu);
    expect(desc.nv).toBe(POSTED_INTR_VECTOR);
    expect(desc.ndst).toBe(0);
    kvmArchEndAssignment(vcpu.kvm);
    vcpu.cpu = host.cpu;
    vmxVcpuPiPut(vcpu);
    expect(desc.nv).toBe(POSTED_INTR_VECTOR);
  });
});
