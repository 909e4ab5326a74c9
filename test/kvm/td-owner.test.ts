/** What the owner of a TD brings into it before it runs, and what he may not do to it afterwards. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KVM_TDX_MEASURE_MEMORY_REGION } from '../../src/kvm/x86/uapi_tdx.ts';
import { PRIVATE_SIZE, SHARED, TdLab, tdxHost } from './td-lab.ts';

const EINVAL = 22;
const EIO = 5;
const EFAULT = 14;

const lab = tdxHost();

describe('KVM_TDX_INIT_MEM_REGION', () => {
  const region = (td: TdLab, change: Partial<{ sourceAddr: number; gpa: number; nrPages: number }> = {}) => {
    const sourceAddr = td.vm.mm.mmap(8192);
    return { sourceAddr, gpa: 0x4_0000, nrPages: 1, ...change };
  };
  test.each([
    ['an address in a page', { gpa: 0x4_0001 }, -EINVAL],
    ['a source in a page', { sourceAddr: 0x7f00_0000_0001 }, -EINVAL],
    ['no pages', { nrPages: 0 }, -EINVAL],
    ['a shared address', { gpa: 2 ** 47 }, -EINVAL],
    ['memory of a slot without guest_memfd', { gpa: SHARED }, -EINVAL],
    ['no slot', { gpa: 0x4000_0000 }, -EINVAL],
    ['a source that is not there', { sourceAddr: 0x1000 }, -EFAULT],
  ])('%s is refused', (_name, change, errno) => {
    const td = new TdLab({ unfinished: true }, lab);
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region(td, change) })).toBe(errno);
    td.close();
  });
  test('unknown flags, a page that is not private, a page that is there already', () => {
    const td = new TdLab({ unfinished: true }, lab);
    expect(td.vcpu.memoryEncryptOp({ id: 3, flags: 2, data: region(td) })).toBe(-EINVAL);
    td.vm.setMemoryAttributes({ address: 0x4_0000, size: 4096, attributes: 0n, flags: 0n });
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region(td) })).toBe(-EINVAL);
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region(td, { gpa: 0x4_1000 }) })).toBe(0);
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region(td, { gpa: 0x4_1000 }) })).toBe(-EIO);
    td.close();
  });
  test('where it stops, the structure says; it can be continued', () => {
    const td = new TdLab({ unfinished: true }, lab);
    const data = region(td, { gpa: PRIVATE_SIZE - 4096, nrPages: 2 });
    const { sourceAddr } = data;
    expect(td.vcpu.memoryEncryptOp({ id: 3, data })).toBe(-EINVAL);
    expect(data).toEqual({ sourceAddr: sourceAddr + 4096, gpa: PRIVATE_SIZE, nrPages: 1 });
    td.vcpu.vcpu.task.signalPending = true;
    expect(td.vcpu.memoryEncryptOp({ id: 3, data: region(td) })).toBe(-4);
    td.vcpu.vcpu.task.signalPending = false;
    td.close();
  });
  test('measured or not is what the flag says', () => {
    const td = new TdLab({ unfinished: true }, lab);
    const extended = (): number => lab.seam.calls.filter(({ name }) => name === 'MR_EXTEND').length;
    lab.seam.clear();
    td.vcpu.memoryEncryptOp({ id: 3, data: region(td) });
    expect(extended()).toBe(0);
    td.vcpu.memoryEncryptOp({ id: 3, flags: KVM_TDX_MEASURE_MEMORY_REGION, data: region(td, { gpa: 0x4_1000 }) });
    expect(extended()).toBe(16);
    td.close();
  });
  test('the source stays what it was, and the page is the TD’s', () => {
    const td = new TdLab({ unfinished: true }, lab);
    const source = td.vm.mm.mmap(4096);
    td.vm.mm.write(source, new Uint8Array(4096).fill(0x5a));
    td.vcpu.memoryEncryptOp({ id: 3, data: { sourceAddr: source, gpa: 0x4_0000, nrPages: 1 } });
    expect(td.vm.mm.read(source, 2)).toEqual(Uint8Array.of(0x5a, 0x5a));
    const page = td.files[0]!.page(0x40)!;
    expect(lab.host.machine.memory.read64(page)).toBe(0n);
    expect(lab.host.machine.memory.keyed.ownerOf(page)).toBeGreaterThan(lab.host.tdx.globalKeyId);
    td.close();
  });
});

describe('what the owner of a TD may not do', () => {
  let td: TdLab;
  beforeAll(() => {
    td = new TdLab({}, lab);
  });
  afterAll(() => td.close());
  const EVERY: readonly [string, () => unknown][] = [
    ['KVM_GET_REGS', () => td.vcpu.getRegs()],
    ['KVM_GET_SREGS', () => td.vcpu.getSregs()],
    ['KVM_GET_FPU', () => td.vcpu.getFpu()],
    ['KVM_GET_XSAVE', () => td.vcpu.getXsave()],
    ['KVM_GET_XCRS', () => td.vcpu.getXcrs()],
    ['KVM_SET_XCRS', () => td.vcpu.setXcrs([])],
    ['KVM_GET_DEBUGREGS', () => td.vcpu.getDebugregs()],
    ['KVM_GET_LAPIC', () => td.vcpu.getLapic()],
    ['KVM_SET_LAPIC', () => td.vcpu.setLapic(new Uint8Array(1024))],
    ['KVM_SET_TSC_KHZ', () => td.vcpu.setTscKhz(1_000_000)],
    [
      'a read-only slot',
      () =>
        td.vm.setUserMemoryRegion({
          slot: 9,
          flags: 2,
          guestPhysAddr: 2 ** 32,
          memorySize: 4096,
          userspaceAddr: td.shared,
        }),
    ],
  ];
  test.each(EVERY)('%s: −EINVAL', (_name, call) => {
    expect(call()).toBe(-EINVAL);
  });
  test('addresses of helper pages are accepted and mean nothing', () => {
    expect(td.vm.setTssAddr(0xfffb_d000)).toBe(0);
    expect(td.vm.setIdentityMapAddr(0xfffb_c000)).toBe(0);
  });
});
