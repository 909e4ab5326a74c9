/** User space that means ill: all it has is KVM's API. */

import type { GuestMemfd } from '../../src/kvm/virt/guest_memfd.ts';
import { CLEAR_REGS } from '../../src/kvm/x86/sregs.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, type TdLab } from '../kvm/td-lab.ts';
import { ASK, type KvmScene, type KvmServer, NOWHERE, SECRET_PAGE, sharedAlias } from './kvm-lab.ts';
import type { Attack, Family } from './lab.ts';

const GMEM_SLOT = 4;
const FREE_SLOT = 9;
/** Guest memory that no slot is at. */
const AWAY = 0x40_0000;
const IDENTITY_LEAF = 0x21n;
const PUNCH_HOLE = 3;
/** EFER, STAR, LSTAR, S_CET. */
const MSRS = [0xc000_0080, 0xc000_0081, 0xc000_0082, 0x6a2];

/** What an ioctl gave: an errno, or that there was more. */
const given = (result: unknown): string => (typeof result === 'number' ? `${result}` : 'given');

const convert = ({ td }: KvmServer, gpa: number, attributes: bigint): number =>
  td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes, flags: 0n });

/** Another slot on a file. */
const bind = (td: TdLab, file: GuestMemfd, gpa: number, offset: number, slot = FREE_SLOT, size = 0x1_0000): number =>
  td.vm.setUserMemoryRegion2({
    slot,
    flags: GMEM_SLOT,
    guestPhysAddr: gpa,
    memorySize: size,
    userspaceAddr: td.vm.mm.mmap(size),
    guestMemfd: file,
    guestMemfdOffset: offset,
  });

/** An ioctl on the state of a vCPU that belongs to the guest. */
const state = (name: string, call: (td: TdLab) => unknown): Attack<KvmScene> => ({
  name,
  must: '-22',
  run: async (scene) => given(call((await scene.victim()).td)),
});

const REGS = {
  ...CLEAR_REGS,
  rip: 0x1_0000n,
  rflags: 2n,
};

export const userSpace: Family<KvmScene> = {
  name: 'user space, through KVM',
  attacks: [
    state('read the registers', ({ vcpu }) => vcpu.getRegs()),
    state('set the registers', ({ vcpu }) => vcpu.setRegs(REGS)),
    state('read control and segment registers', ({ vcpu }) => vcpu.getSregs()),
    state('read the XSAVE area', ({ vcpu }) => vcpu.getXsave()),
    state('set the XSAVE area', ({ vcpu }) => vcpu.setXsave(new Uint8Array(4096))),
    state('read the FPU', ({ vcpu }) => vcpu.getFpu()),
    state('read XCR0', ({ vcpu }) => vcpu.getXcrs()),
    state('set XCR0', ({ vcpu }) => vcpu.setXcrs([{ xcr: 0, value: 1n }])),
    state('read debug registers', ({ vcpu }) => vcpu.getDebugregs()),
    state('single-step', ({ vcpu }) => vcpu.setGuestDebug({ control: 3, debugreg: new Array(8).fill(0n) })),
    state('read the local APIC', ({ vcpu }) => vcpu.getLapic()),
    state('set the local APIC', ({ vcpu }) => vcpu.setLapic(new Uint8Array(1024))),
    state('another TSC frequency', ({ vcpu }) => vcpu.setTscKhz(1)),
    {
      name: 'set MSRs that are the guest’s',
      must: '0 0 0 0',
      async run(scene) {
        const { vcpu } = (await scene.victim()).td;
        return MSRS.map((index) => vcpu.setMsrs([{ index, data: 0n }])).join(' ');
      },
    },
    {
      name: 'one vCPU run by two threads: one after the other',
      must: 'io io',
      async run(scene) {
        const { vcpu } = (await scene.victim()).td;
        const exits = await Promise.all([vcpu.run(), vcpu.run()]);
        return exits.map((exit) => (typeof exit === 'number' ? `${exit}` : exit.kind)).join(' ');
      },
    },
    {
      name: 'keep a mapping of a page that became private: it shows what was shared, not what is private',
      must: 'before 5a, then 5a; guest 0x0, 0x77',
      async run(scene) {
        const victim = await scene.victim();
        const { mm } = victim.td.vm;
        const hva = victim.hva(NOWHERE);
        convert(victim, NOWHERE, 0n);
        await victim.ask(ASK.WRITE, sharedAlias(NOWHERE), 0x5an);
        const before = mm.read(hva, 1)![0]!;
        convert(victim, NOWHERE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
        await victim.ask(ASK.ACCEPT, NOWHERE);
        const { result } = await victim.ask(ASK.READ, NOWHERE);
        await victim.ask(ASK.WRITE, NOWHERE, 0x77n);
        const then = mm.read(hva, 1)![0]!;
        mm.write(hva, Uint8Array.of(0xee));
        const after = (await victim.ask(ASK.READ, NOWHERE)).result;
        return `before ${before.toString(16)}, then ${then.toString(16)}; guest 0x${result.toString(16)}, 0x${after.toString(16)}`;
      },
    },
    {
      name: 'walk the guest’s page tables',
      must: 'nothing told',
      async run(scene) {
        const { td } = await scene.victim();
        const told = td.vcpu.translate(BigInt(SECRET_PAGE));
        return typeof told === 'number' || !told.valid || told.physicalAddress === SECRET_PAGE
          ? 'nothing told'
          : JSON.stringify(told, (_key, value) => (typeof value === 'bigint' ? `${value}` : value));
      },
    },
    {
      name: 'an external interrupt past the APIC: taken down, never seen',
      must: '0',
      run: async (scene) => given((await scene.victim()).td.vcpu.interrupt(13)),
    },
    {
      name: 'inject an exception: taken down, never seen',
      must: '0',
      async run(scene) {
        const { td } = await scene.victim();
        const events = td.vcpu.getVcpuEvents();
        const exception = { injected: true, nr: 13, hasErrorCode: true, pending: false, errorCode: 0 };
        return given(td.vcpu.setVcpuEvents({ ...events, exception }));
      },
    },
    {
      name: 'another CPUID after the TD was made: the guest keeps what it was made with',
      must: '0x65746e4900000000',
      async run(scene) {
        const victim = await scene.victim();
        const { vcpu } = victim.td;
        const lie = { function: 0x21, index: 0, flags: 0, eax: 0, ebx: 0x6b61_6621, ecx: 0, edx: 0 };
        vcpu.setCpuid2([...vcpu.getCpuid2().filter((entry) => entry.function !== 0x21), lie]);
        return `0x${(await victim.ask(ASK.CPUID, IDENTITY_LEAF)).result.toString(16)}`;
      },
    },
    {
      name: 'store into its own memory behind a private page',
      must: 'stored',
      async run(scene) {
        const victim = await scene.victim();
        const bytes = new Uint8Array(4096).fill(0xee);
        return victim.td.vm.mm.write(victim.hva(SECRET_PAGE), bytes) ? 'stored' : 'refused';
      },
    },
    {
      name: 'read its own memory behind a private page',
      must: '0,0,0,0,0,0,0,0',
      async run(scene) {
        const victim = await scene.victim();
        return `${victim.td.vm.mm.read(victim.hva(SECRET_PAGE), 8)}`;
      },
    },
    {
      name: 'make the page with the secret shared, and read: nothing of it; the guest stops',
      must: '0,0,0,0,0,0,0,0',
      then: 'waits',
      async run(scene) {
        const victim = await scene.victim();
        convert(victim, SECRET_PAGE, 0n);
        return `${victim.td.vm.mm.read(victim.hva(SECRET_PAGE), 8)}`;
      },
    },
    {
      name: 'to shared and back: a page that the guest did not accept',
      must: '0 0 -5',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const there = convert(victim, SECRET_PAGE, 0n);
        const back = convert(victim, SECRET_PAGE, KVM_MEMORY_ATTRIBUTE_PRIVATE);
        return `${there} ${back} ${given((await victim.ask(ASK.NOTHING)).exit)}`;
      },
    },
    {
      name: 'a hole where the secret is: a page that the guest did not accept',
      must: '0 -5',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const hole = victim.td.files[0]!.fallocate(PUNCH_HOLE, SECRET_PAGE, 4096);
        return `${hole} ${given((await victim.ask(ASK.NOTHING)).exit)}`;
      },
    },
    {
      name: 'close the file under a running TD',
      must: 'closed',
      then: 'waits',
      async run(scene) {
        const victim = await scene.victim();
        victim.td.files[0]!.close();
        return 'closed';
      },
    },
    {
      name: 'the slot deleted under a running TD',
      must: '0',
      then: 'waits',
      async run(scene) {
        const { td } = await scene.victim();
        return given(
          td.vm.setUserMemoryRegion2({ slot: 0, flags: 0, guestPhysAddr: 0, memorySize: 0, userspaceAddr: 0 }),
        );
      },
    },
    {
      name: 'private memory of one TD in another',
      must: '-22',
      async run(scene) {
        const victim = await scene.victim();
        const other = scene.beside();
        const result = bind(other.td, victim.td.files[0]!, AWAY, 0);
        other.close();
        return given(result);
      },
    },
    {
      name: 'private memory at two places of a TD',
      must: '-22',
      async run(scene) {
        const { td } = await scene.victim();
        return given(bind(td, td.files[0]!, AWAY, SECRET_PAGE));
      },
    },
    {
      name: 'two slots at one place',
      must: '-17',
      async run(scene) {
        const { td } = await scene.victim();
        const file = td.vm.createGuestMemfd({ size: 0x1_0000, flags: 0n }) as GuestMemfd;
        const result = bind(td, file, 0, 0);
        file.close();
        return given(result);
      },
    },
    {
      name: 'move a slot of private memory',
      must: '-22',
      async run(scene) {
        const { td } = await scene.victim();
        return given(bind(td, td.files[0]!, AWAY, 0, 0, 1 << 20));
      },
    },
    {
      name: 'private memory beyond the end of its file',
      must: '-22',
      async run(scene) {
        const { td } = await scene.victim();
        return given(bind(td, td.files[0]!, AWAY, (1 << 20) - 4096));
      },
    },
    {
      name: 'content for a TD that is measured already',
      must: '-22',
      async run(scene) {
        const { td } = await scene.victim();
        const data = { sourceAddr: td.vm.mm.mmap(4096), gpa: NOWHERE, nrPages: 1 };
        return given(td.vcpu.memoryEncryptOp({ id: 3, flags: 1, data }));
      },
    },
    {
      name: 'measured twice',
      must: '-22',
      run: async (scene) => given((await scene.victim()).td.vm.memoryEncryptOp({ id: 4, data: 0n })),
    },
    {
      name: 'made twice',
      must: '-22',
      async run(scene) {
        const { td } = await scene.victim();
        return given(td.vm.memoryEncryptOp({ id: 1, data: { attributes: 1n, xfam: 3n, cpuid: [] } }));
      },
    },
    {
      name: 'a vCPU after the TD was measured',
      must: '-5',
      async run(scene) {
        const { td } = await scene.victim();
        return given(td.vm.createVcpu(1));
      },
    },
    {
      name: 'run before it is measured',
      must: '-22',
      async run(scene) {
        const other = scene.beside(true);
        const result = await other.td.vcpu.run();
        other.close();
        return given(result);
      },
    },
    {
      name: 'content twice at one place',
      must: '-5',
      async run(scene) {
        const other = scene.beside(true);
        const data = { sourceAddr: other.td.vm.mm.mmap(4096), gpa: SECRET_PAGE, nrPages: 1 };
        const result = other.td.vcpu.memoryEncryptOp({ id: 3, flags: 1, data });
        other.close();
        return given(result);
      },
    },
    {
      name: 'content where the TD has no memory',
      must: '-22',
      async run(scene) {
        const other = scene.beside(true);
        const data = { sourceAddr: other.td.vm.mm.mmap(4096), gpa: 0x8000_0000, nrPages: 1 };
        const result = other.td.vcpu.memoryEncryptOp({ id: 3, flags: 1, data });
        other.close();
        return given(result);
      },
    },
    {
      name: 'content from nowhere',
      must: '-14',
      async run(scene) {
        const other = scene.beside(true);
        const data = { sourceAddr: 0x7777_0000_0000, gpa: NOWHERE, nrPages: 1 };
        const result = other.td.vcpu.memoryEncryptOp({ id: 3, flags: 1, data });
        other.close();
        return given(result);
      },
    },
    ...(
      [
        ['attributes that do not exist', { attributes: 1n << 5n, xfam: 3n }],
        ['a TD that is open to debuggers', { attributes: 1n, xfam: 3n }],
        ['features that do not exist', { attributes: 0n, xfam: 1n << 63n }],
        ['without the features that must be', { attributes: 0n, xfam: 0n }],
      ] as const
    ).map(
      ([name, data]): Attack<KvmScene> => ({
        name,
        must: '-22',
        run: (scene) => given(scene.initialize({ ...data, cpuid: [] })),
      }),
    ),
    {
      name: 'TDs until there are no KeyIDs',
      must: '-28',
      run: (scene) => given(scene.allKeyIds()),
    },
    {
      name: 'everything closed in the wrong order: nothing stays',
      must: 'as before',
      run: (scene) => scene.closeBackwards(),
    },
  ],
};
