/** A host kernel that means ill: it reads and writes memory, and lies about what it asked of the TDX module. */
import { withKeyId } from '../../src/machine/seam/key-id.ts';
import type { Hpa } from '../../src/util/address.ts';
import { INIT_CPUID, KVM_MEMORY_ATTRIBUTE_PRIVATE } from '../kvm/td-lab.ts';
import { ASK, type KvmScene, type KvmServer, NOWHERE, SECRET_PAGE, SHARED_PAGE, sharedAlias } from './kvm-lab.ts';
import type { Attack, Family } from './lab.ts';

const CODE_PAGE = 0x1_0000;
const RESET_PAGE_FILE = 1;
const RDX = 2;
const R8 = 8;
const ADDRESS = 0xf_ffff_ffff_f000n;

const hex = (value: bigint): string => `0x${value.toString(16)}`;

/** A page of the victim read by the kernel. */
const look = (name: string, gpa: number): Attack<KvmScene> => ({
  name,
  must: '0x0',
  async run(scene) {
    const victim = await scene.victim();
    return hex(scene.lab.host.machine.memory.read64(victim.frame(gpa)));
  },
});

/** SEAMCALLs that KVM is told to have succeeded, and that were never made. */
function forget(scene: KvmScene, ...names: string[]): void {
  scene.lab.seam.intercept = (call) => (names.includes(call.name) ? 0n : undefined);
}
/** What the module answers to calls of a leaf, last one told. */
function answerOf(scene: KvmScene, leaf: string, attempt: () => void): string {
  const { calls } = scene.lab.seam;
  const before = calls.length;
  attempt();
  return calls.slice(before).some(({ name }) => name === leaf) ? 'asked' : 'not asked';
}
const take = ({ td }: KvmServer, gpa: number): number =>
  td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes: 0n, flags: 0n });
const give = ({ td }: KvmServer, gpa: number): number =>
  td.vm.setMemoryAttributes({ address: gpa, size: 4096, attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE, flags: 0n });

/** The kernel takes a page without one of the steps. */
const without = (step: string, then: 'dies' | 'waits'): Attack<KvmScene> => ({
  name: `take a page without TDH.${step}: the page stays the TD’s, the VM is stopped`,
  must: 'asked, page owned, VM bugged',
  then,
  async run(scene) {
    const victim = await scene.victim();
    forget(scene, step.replaceAll('.', '_'));
    const asked = answerOf(scene, 'MEM_PAGE_REMOVE', () => take(victim, SECRET_PAGE));
    const owned = scene.isOwned(victim.frame(SECRET_PAGE)) ? 'page owned' : 'page free';
    return `${asked}, ${owned}, VM ${victim.td.vm.kvm.vmBugged ? 'bugged' : 'fine'}`;
  },
});

/** The kernel makes a shared page of the victim something else; it is asked to read it before and afterwards. */
async function throughShared(scene: KvmScene, forge: (entry: bigint, frame: Hpa) => bigint): Promise<string> {
  const victim = await scene.victim();
  const alias = sharedAlias(SHARED_PAGE);
  await victim.ask(ASK.WRITE, alias, 0x5an);
  const before = (await victim.ask(ASK.READ, alias)).result;
  if (!scene.forgeShared(victim, SHARED_PAGE, (entry) => forge(entry, scene.bystander.frame(SECRET_PAGE))))
    return 'no entry found';
  // A new epoch takes what processors kept of the old entry.
  scene.move(victim);
  const { done, result } = await victim.ask(ASK.READ, alias);
  return `${hex(before)}, then ${done ? hex(result) : 'no answer'}`;
}

export const kernel: Family<KvmScene> = {
  name: 'host kernel, beside and under KVM',
  attacks: [
    look('read the page with the secret', SECRET_PAGE),
    look('read the guest’s code', CODE_PAGE),
    look('read the guest’s page tables', 0x1000),
    {
      name: 'write the page with the secret: the TD dies of it',
      must: 'written',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        scene.lab.host.machine.memory.write64(victim.frame(SECRET_PAGE), 0xeeen);
        return 'written';
      },
    },
    {
      name: 'write the guest’s code: the TD dies of it',
      must: 'written',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        scene.lab.host.machine.memory.write64(victim.frame(CODE_PAGE), 0xccccn);
        return 'written';
      },
    },
    {
      name: 'write a page that the guest has no use for any more: it never notices',
      must: 'written',
      async run(scene) {
        const victim = await scene.victim();
        scene.lab.host.machine.memory.write64(victim.td.files[RESET_PAGE_FILE]!.page(0)!, 0xccccn);
        return 'written';
      },
    },
    {
      name: 'copy the victim’s page over the bystander’s frame of no use, under the host’s key: zeros',
      must: '0x0',
      async run(scene) {
        const victim = await scene.victim();
        const { memory } = scene.lab.host.machine;
        const page = scene.page();
        for (let at = 0; at < 4096; at += 8) memory.write64(page + at, memory.read64(victim.frame(SECRET_PAGE) + at));
        const got = memory.read64(page);
        scene.giveBack(page);
        return hex(got);
      },
    },
    {
      name: 'kill a TD: the host’s memory works afterwards, all of it',
      must: 'dies, works',
      async run(scene) {
        const other = await scene.beside().start();
        scene.lab.host.machine.memory.write64(other.frame(SECRET_PAGE), 0xeeen);
        const fate = await other.condition();
        other.close();
        return `${fate}, ${scene.allMemoryWorks() ? 'works' : 'does not work'}`;
      },
    },
    without('MEM.RANGE.BLOCK', 'dies'),
    without('MEM.TRACK', 'dies'),
    {
      name: 'take a page without TDH.MEM.PAGE.REMOVE and read it: zeros, and still the TD’s',
      must: '0x0, page owned',
      then: 'waits',
      async run(scene) {
        const victim = await scene.victim();
        const frame = victim.frame(SECRET_PAGE);
        forget(scene, 'MEM_PAGE_REMOVE', 'PHYMEM_PAGE_WBINVD');
        take(victim, SECRET_PAGE);
        const got = scene.lab.host.machine.memory.read64(frame);
        return `${hex(got)}, ${scene.isOwned(frame) ? 'page owned' : 'page free'}`;
      },
    },
    {
      name: 'give the guest a frame that it has already',
      must: 'refused',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const frame = BigInt(victim.frame(SECRET_PAGE));
        let status = 0n;
        scene.observe(
          'MEM_PAGE_AUG',
          (p) => p.setGpr(R8, frame),
          (p) => (status = p.gpr(0)),
        );
        await victim.ask(ASK.ACCEPT, NOWHERE);
        return status >> 63n === 1n ? 'refused' : 'given';
      },
    },
    {
      name: 'give the guest a frame of another TD',
      must: 'refused',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const frame = BigInt(scene.bystander.frame(SECRET_PAGE));
        let status = 0n;
        scene.observe(
          'MEM_PAGE_AUG',
          (p) => p.setGpr(R8, frame),
          (p) => (status = p.gpr(0)),
        );
        await victim.ask(ASK.ACCEPT, NOWHERE);
        return status >> 63n === 1n ? 'refused' : 'given';
      },
    },
    {
      name: 'frames of two pages exchanged behind the TD’s back',
      must: 'exchanged',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const { memory } = scene.lab.host.machine;
        const [one, other] = [victim.frame(SECRET_PAGE), victim.frame(CODE_PAGE)];
        for (let at = 0; at < 4096; at += 8) {
          const kept = memory.read64(one + at);
          memory.write64(one + at, memory.read64(other + at));
          memory.write64(other + at, kept);
        }
        return 'exchanged';
      },
    },
    {
      name: 'a page taken, written with something, and given back: the guest sees no such thing',
      must: '0 0 -5',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        const frame = victim.frame(SECRET_PAGE);
        const there = take(victim, SECRET_PAGE);
        scene.lab.host.machine.memory.write64(frame, 0x5ec2_e7a7_1e57_0002n);
        const back = give(victim, SECRET_PAGE);
        const { exit } = await victim.ask(ASK.NOTHING);
        return `${there} ${back} ${typeof exit === 'number' ? exit : exit.kind}`;
      },
    },
    {
      name: 'a new page has what the kernel left in it: zeros, when the guest accepts it',
      must: '0x0 0x0',
      async run(scene) {
        const victim = await scene.victim();
        const { memory } = scene.lab.host.machine;
        memory.write64(victim.frame(NOWHERE), 0x6b61_6621n);
        const { result } = await victim.ask(ASK.ACCEPT, NOWHERE);
        return `${hex(result)} ${hex((await victim.ask(ASK.READ, NOWHERE)).result)}`;
      },
    },
    {
      name: 'the vCPU taken to another CPU without TDH.VP.FLUSH',
      must: 'refused',
      then: 'dies',
      async run(scene) {
        const victim = await scene.victim();
        forget(scene, 'VP_FLUSH');
        let status = 0n;
        scene.observe(
          'VP_ENTER',
          () => {},
          (p) => (status = p.gpr(0)),
          ['VP_FLUSH'],
        );
        scene.move(victim);
        await victim.ask(ASK.NOTHING);
        return status >> 63n === 1n ? 'refused' : 'entered';
      },
    },
    {
      name: 'an old page put back with its content of then: the guest sees what it wrote last, or nothing',
      must: '0x2 0x0',
      async run(scene) {
        const victim = await scene.victim();
        const { memory } = scene.lab.host.machine;
        await victim.ask(ASK.ACCEPT, NOWHERE);
        await victim.ask(ASK.WRITE, NOWHERE, 1n);
        const old = memory.read64(victim.frame(NOWHERE));
        await victim.ask(ASK.WRITE, NOWHERE, 2n);
        const { result } = await victim.ask(ASK.READ, NOWHERE);
        take(victim, NOWHERE);
        memory.write64(victim.frame(NOWHERE), old);
        give(victim, NOWHERE);
        await victim.ask(ASK.ACCEPT, NOWHERE);
        return `${hex(result)} ${hex((await victim.ask(ASK.READ, NOWHERE)).result)}`;
      },
    },
    {
      name: 'shared EPT that leads to a private page of the bystander: it reads as zeros',
      must: '0x5a, then 0x0',
      run: (scene) => throughShared(scene, (entry, frame) => (entry & ~ADDRESS) | BigInt(frame)),
    },
    {
      name: 'shared EPT with the bystander’s KeyID: no access at all',
      must: '0x5a, then no answer',
      then: 'dies',
      run: (scene) =>
        throughShared(scene, (entry, frame) => (entry & ~ADDRESS) | BigInt(withKeyId(frame, scene.bystander.keyId))),
    },
    {
      name: 'a new TD with the KeyID of one that runs',
      must: 'refused',
      async run(scene) {
        const victim = await scene.victim();
        let status = 0n;
        scene.observe(
          'MNG_CREATE',
          (p) => p.setGpr(RDX, BigInt(victim.keyId)),
          (p) => {
            status = p.gpr(0);
          },
        );
        const errno = scene.initialize({ attributes: 0n, xfam: 3n, cpuid: INIT_CPUID });
        return status >> 63n === 1n && errno < 0 ? 'refused' : 'made';
      },
    },
    {
      name: 'a key given up without writing caches back: refused, the KeyID is lost',
      must: 'one KeyID lost',
      async run(scene) {
        const other = scene.beside();
        const { keyIds } = scene.lab.host.tdx;
        const before = keyIds.inUse;
        forget(scene, 'PHYMEM_CACHE_WB');
        other.close();
        return keyIds.inUse === before ? 'one KeyID lost' : 'KeyID free';
      },
    },
    {
      name: 'a TD torn down without flushing: refused, the KeyID is lost',
      must: 'one KeyID lost',
      async run(scene) {
        const other = await scene.beside().start();
        const { keyIds } = scene.lab.host.tdx;
        const before = keyIds.inUse;
        forget(scene, 'VP_FLUSH', 'MNG_VPFLUSHDONE');
        other.close();
        return keyIds.inUse === before ? 'one KeyID lost' : 'KeyID free';
      },
    },
  ],
};
