/**
 * Hello, KVM: a 16-bit guest adds two numbers and writes the sum to a port.
 *
 *   node docs/hello-kvm.ts
 */
import { Host } from '../src/host/index.ts';
import { Kvm, vtInit } from '../src/kvm/index.ts';
import { Machine } from '../src/machine/machine.ts';

const value = <T>(result: T | number): T => {
  if (typeof result === 'number') throw new Error(`errno ${-result}`);
  return result;
};

// The hardware, its host kernel, and kvm_intel.
const host = new Host(new Machine({ processors: 1, ramSize: 64 << 20, profile: 'pc' }));
value(vtInit(host));

// A VM with one page of memory at 0x1000.
const vm = value(value(Kvm.open(host)).createVm());
const memory = vm.mm.mmap(0x1000);
vm.mm.write(
  memory,
  Uint8Array.of(
    ...[0xba, 0xf8, 0x03], //  mov $0x3f8, %dx
    ...[0x00, 0xd8], //        add %bl, %al
    ...[0x04, 0x30], //        add $'0', %al
    ...[0xee], //              out %al, (%dx)
    ...[0xb0, 0x0a], //        mov $'\n', %al
    ...[0xee], //              out %al, (%dx)
    ...[0xf4], //              hlt
  ),
);
vm.setUserMemoryRegion({ slot: 0, flags: 0, guestPhysAddr: 0x1000, memorySize: 0x1000, userspaceAddr: memory });

// A vCPU in real mode at 0000:1000 that is to add 2 and 2.
const vcpu = value(vm.createVcpu(0));
const sregs = value(vcpu.getSregs());
vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
vcpu.setRegs({ ...value(vcpu.getRegs()), rip: 0x1000n, rax: 2n, rbx: 2n, rflags: 2n });

for (;;) {
  const exit = value(await vcpu.run());
  if (exit.kind === 'hlt') break;
  if (exit.kind === 'io' && exit.direction === 'out' && exit.port === 0x3f8) {
    console.log('guest wrote', JSON.stringify(String.fromCharCode(exit.data[0] ?? 0)));
  } else {
    throw new Error(`unexpected exit: ${exit.kind}`);
  }
}
vm.close();
