/**
 * Random histories of a running TD's memory against a model: pages go between private and shared and through holes while the
 * guest reads and writes them, on changing CPUs, with locks of the module held now and then. The guest always finds what the
 * model says, never what a page held before.
 */
import { expect, test } from 'vitest';
import { Random } from '../../src/util/random.ts';
import { LOAD, SHARED_ALIAS, STORE } from './td-guest.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, type Regs, TdLab, tdxHost } from './td-lab.ts';

const SEEDS = [1, 2, 3, 4, 5, 6];
const STEPS = 150;
const FIRST_PAGE = 0x40;
const PAGES = 6;
const ACCEPT = 6n;
const OPERAND_BUSY = 0x8000_0200n;
const PUNCH_HOLE = 3;

/** What the model knows of a page. */
interface Page {
  readonly gpa: number;
  isPrivate: boolean;
  /** The TD has accepted it since it was last taken. */
  accepted: boolean;
  /** First word of the private page while it is accepted, and of the shared one. */
  own: bigint;
  shared: bigint;
}

class History {
  readonly td: TdLab;
  readonly random: Random;
  readonly pages: Page[] = Array.from({ length: PAGES }, (_, i) => ({
    gpa: (FIRST_PAGE + i) * 4096,
    isPrivate: true,
    accepted: false,
    own: 0n,
    shared: 0n,
  }));
  busy = true;

  constructor(td: TdLab, random: Random) {
    this.td = td;
    this.random = random;
    td.lab.tdxModule.hooks.lockHeld = () => this.busy && random.below(40) === 0;
  }

  /** The guest makes a call until no lock is in its way. */
  async guest(regs: Regs): Promise<bigint[]> {
    for (;;) {
      const result = await this.td.call(regs);
      if (result[0]! >> 32n !== OPERAND_BUSY) return result;
    }
  }
  #word(page: Page): Uint8Array {
    return this.td.vm.mm.read(this.#address(page), 8)!;
  }
  /** Where the shared side of a page is in the process. */
  #address(page: Page): number {
    return this.td.vm.kvm.memslots.find((slot) => slot.baseGfn === 0)!.userspaceAddr + page.gpa;
  }

  /** User space says what kind the page is. */
  convert(page: Page): void {
    page.isPrivate = !page.isPrivate;
    const attributes = page.isPrivate ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0n;
    expect(this.td.vm.setMemoryAttributes({ address: page.gpa, size: 4096, attributes, flags: 0n })).toBe(0);
    // Going to shared takes the private page; its guest_memfd keeps a page that is now the host's, of zeros.
    if (!page.isPrivate) page.accepted = false;
  }
  hole(page: Page): void {
    expect(this.td.files[0]!.fallocate(PUNCH_HOLE, page.gpa, 4096)).toBe(0);
    page.accepted = false;
  }
  async accept(page: Page): Promise<void> {
    if (!page.isPrivate) return;
    const status = (await this.guest({ 0: ACCEPT, 1: BigInt(page.gpa) }))[0]! >> 32n;
    expect(status).toBe(page.accepted ? 0xb0an : 0n);
    if (!page.accepted) page.own = 0n;
    page.accepted = true;
  }
  async load(page: Page): Promise<void> {
    if (page.isPrivate && !page.accepted) return;
    const alias = page.isPrivate ? 0n : SHARED_ALIAS;
    const value = (await this.guest({ 0: BigInt(LOAD), 1: alias + BigInt(page.gpa) }))[8];
    expect(value).toBe(page.isPrivate ? page.own : page.shared);
  }
  async store(page: Page): Promise<void> {
    if (page.isPrivate && !page.accepted) return;
    const value = this.random.u64();
    const alias = page.isPrivate ? 0n : SHARED_ALIAS;
    await this.guest({ 0: BigInt(STORE), 1: alias + BigInt(page.gpa), 8: value });
    if (page.isPrivate) page.own = value;
    else page.shared = value;
  }
  /** The host's view: the shared side as it is, of the private one nothing. */
  look(page: Page): void {
    const bytes = this.#word(page);
    expect(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)).toBe(page.shared);
    const frame = this.td.files[0]!.page(page.gpa / 4096)!;
    expect(this.td.lab.host.machine.memory.read64(frame)).toBe(0n);
  }
  hostStore(page: Page): void {
    page.shared = this.random.u64();
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, page.shared, true);
    this.td.vm.mm.write(this.#address(page), bytes);
  }
  move(): void {
    this.td.vcpu.vcpu.task.cpu = this.td.lab.host.cpus.possible[this.random.below(2)]!;
  }

  async step(): Promise<void> {
    const page = this.pages[this.random.below(PAGES)]!;
    const choice = this.random.below(16);
    if (choice < 4) await this.load(page);
    else if (choice < 8) await this.store(page);
    else if (choice < 11) await this.accept(page);
    else if (choice === 11) this.convert(page);
    else if (choice === 12) this.hole(page);
    else if (choice === 13) this.look(page);
    else if (choice === 14) this.hostStore(page);
    else this.move();
  }
}

test.each(SEEDS)(
  'seed %d',
  async (seed) => {
    const lab = tdxHost();
    const free = lab.host.pages.freePages;
    const td = new TdLab({}, lab);
    await td.ready();
    const history = new History(td, new Random(seed));
    for (let i = 0; i < STEPS; i++) await history.step();
    expect(td.vm.kvm.vmBugged).toBe(false);
    td.close();
    expect(lab.host.pages.freePages).toBe(free);
  },
  60_000,
);
