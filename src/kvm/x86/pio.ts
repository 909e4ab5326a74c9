/**
 * Port I/O: devices in the kernel first, then user space.
 *
 * @upstream arch/x86/kvm/x86.c kvm_fast_pio(), emulator_pio_in_out()
 */
import { trace } from '../../util/trace.ts';
import { KVM_PIO_BUS } from '../virt/kvm_host.ts';
import { kvmRegisterRead32, kvmRegisterWrite32, kvmRipRead } from './kvm_cache_regs.ts';
import { VCPU_REGS_RAX, type X86Vcpu } from './kvm_host.ts';
import { kvmSkipEmulatedInstruction } from './skip.ts';

const scratch: Uint8Array = new Uint8Array(4);

function store(data: Uint8Array, size: number, value: number): void {
  for (let i = 0; i < size; i++) data[i] = value >>> (8 * i);
}
function load(data: Uint8Array, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = (value << 8) | data[i]!;
  return value >>> 0;
}

/** IN's result: part of RAX, or all of it with the upper half cleared. */
function writeResult(vcpu: X86Vcpu, size: number, value: number): void {
  if (size === 4) {
    kvmRegisterWrite32(vcpu, VCPU_REGS_RAX, value);
    return;
  }
  const mask = size === 1 ? 0xff : 0xffff;
  const old = vcpu.arch.regs32[0]!;
  vcpu.arch.regs32[0] = (old & ~mask) | (value & mask);
}

/** Sets up the exit for user space. */
function exitToUserspace(vcpu: X86Vcpu, direction: 'in' | 'out', size: 1 | 2 | 4, port: number, count: number): void {
  const { io } = vcpu.run;
  io.direction = direction;
  io.size = size;
  io.port = port;
  io.count = count;
  vcpu.run.setExit(io);
}

/** IN or OUT without a string. @upstream kvm_fast_pio() */
export function kvmFastPio(vcpu: X86Vcpu, size: 1 | 2 | 4, port: number, input: boolean): number {
  return input ? fastPioIn(vcpu, size, port) : fastPioOut(vcpu, size, port);
}

function fastPioOut(vcpu: X86Vcpu, size: 1 | 2 | 4, port: number): number {
  const value = kvmRegisterRead32(vcpu, VCPU_REGS_RAX);
  trace.kvm_pio?.(true, port, size, 1, value);
  store(scratch, size, value);
  if (vcpu.kvm.buses[KVM_PIO_BUS]!.write(port, size, scratch, vcpu) === 0) return kvmSkipEmulatedInstruction(vcpu);
  store(vcpu.run.io.data, size, value);
  exitToUserspace(vcpu, 'out', size, port, 1);
  // RIP moves on when user space comes back, so that a reset through a port starts at the new RIP.
  vcpu.arch.pioLinearRip = kvmRipRead(vcpu);
  vcpu.arch.completeUserspaceIo = completeFastPioOut;
  return 0;
}

function completeFastPioOut(vcpu: X86Vcpu): number {
  if (kvmRipRead(vcpu) !== vcpu.arch.pioLinearRip) return 1;
  return kvmSkipEmulatedInstruction(vcpu);
}

function fastPioIn(vcpu: X86Vcpu, size: 1 | 2 | 4, port: number): number {
  if (vcpu.kvm.buses[KVM_PIO_BUS]!.read(port, size, scratch, vcpu) === 0) {
    const value = load(scratch, size);
    trace.kvm_pio?.(false, port, size, 1, value);
    writeResult(vcpu, size, value);
    return kvmSkipEmulatedInstruction(vcpu);
  }
  exitToUserspace(vcpu, 'in', size, port, 1);
  vcpu.arch.pioLinearRip = kvmRipRead(vcpu);
  vcpu.arch.completeUserspaceIo = completeFastPioIn;
  return 0;
}

function completeFastPioIn(vcpu: X86Vcpu): number {
  if (kvmRipRead(vcpu) !== vcpu.arch.pioLinearRip) return 1;
  const { io } = vcpu.run;
  const value = load(io.data, io.size);
  trace.kvm_pio?.(false, io.port, io.size, 1, value);
  writeResult(vcpu, io.size, value);
  return kvmSkipEmulatedInstruction(vcpu);
}

/** Port accesses of the emulator: `count` values of `size` bytes in `data`. False: user space must serve it. */
export function emulatorPio(
  vcpu: X86Vcpu,
  input: boolean,
  size: 1 | 2 | 4,
  port: number,
  count: number,
  data: Uint8Array,
): boolean {
  const bus = vcpu.kvm.buses[KVM_PIO_BUS]!;
  for (let i = 0; i < count; i++) {
    const part = data.subarray(i * size, (i + 1) * size);
    const failed = input ? bus.read(port, size, part, vcpu) : bus.write(port, size, part, vcpu);
    if (failed === 0) {
      trace.kvm_pio?.(!input, port, size, 1, load(part, size));
      continue;
    }
    if (i !== 0) {
      // A device that went away in the middle of a string reads as all ones.
      if (input) part.fill(0xff);
      continue;
    }
    if (!input) vcpu.run.io.data.set(data.subarray(0, size * count));
    exitToUserspace(vcpu, input ? 'in' : 'out', size, port, count);
    return false;
  }
  return true;
}
