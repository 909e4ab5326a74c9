/** A guest and its host use private and shared memory at random, against a model of two memories per page. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestLab, imm32 } from './guest-lab.ts';
import { ok } from './lab.ts';

const PAGE = 4096;
const MIB2 = 0x20_0000;
const BASE = MIB2;
const PAGES = 1024;
/** Pages that steps are about: at both ends of 2 MiB of shared memory, and some between. */
const USED = [0, 1, 2, 255, 510, 511, 512, 513, 1022, 1023];
const PRIVATE = 8n;
const EFAULT = 14;
const HLT = 0xf4;

const page = fc.nat(USED.length - 1);
const value = fc.integer({ min: 1, max: 0x7fff_ffff });
const step = fc.oneof(
  fc.record({ kind: fc.constant('guest writes' as const), page, value }),
  fc.record({ kind: fc.constant('guest reads' as const), page }),
  fc.record({ kind: fc.constant('host writes' as const), page, value }),
  fc.record({ kind: fc.constant('convert' as const), page, last: page, toPrivate: fc.boolean() }),
  fc.record({ kind: fc.constant('hole' as const), page, last: page }),
  fc.record({ kind: fc.constant('map' as const), page, last: page }),
  fc.record({ kind: fc.constant('slot' as const) }),
);

test('each page has the content of the side that is in use, whatever happened before', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const lab = new GuestLab({ type: 1 });
      const shared = lab.vm.mm.mmap(PAGES * PAGE);
      const file = ok(lab.vm.createGuestMemfd({ size: PAGES * PAGE, flags: 0n }));
      const slot = { slot: 1, flags: 4, guestPhysAddr: BASE, userspaceAddr: shared, guestMemfd: file };
      const define = (size: number): void =>
        expect(lab.vm.setUserMemoryRegion2({ ...slot, memorySize: size, guestMemfdOffset: 0 })).toBe(0);
      define(PAGES * PAGE);
      const model = USED.map(() => ({ isPrivate: false, private: 0, shared: 0 }));
      /** The frames from one used page to another, and the used pages among them. */
      const range = (from: number, to: number) => {
        const [low, high] = [Math.min(from, to), Math.max(from, to)];
        const size = (USED[high]! - USED[low]! + 1) * PAGE;
        return { offset: USED[low]! * PAGE, size, pages: model.slice(low, high + 1) };
      };
      const execute = async (...code: number[]): Promise<bigint> => {
        lab.load(...code, HLT);
        lab.start();
        expect(await lab.vcpu.run()).toMatchObject({ kind: 'hlt' });
        return ok(lab.vcpu.getRegs()).rax;
      };
      for (const one of steps) {
        if (one.kind === 'slot') {
          define(0);
          define(PAGES * PAGE);
          continue;
        }
        const at = BASE + USED[one.page]! * PAGE;
        const here = model[one.page]!;
        const side = here.isPrivate ? 'private' : 'shared';
        switch (one.kind) {
          case 'guest writes':
            await execute(0xc7, 0x05, ...imm32(at), ...imm32(one.value));
            here[side] = one.value;
            break;
          case 'guest reads':
            expect(await execute(0xa1, ...imm32(at))).toBe(BigInt(here[side]));
            break;
          case 'host writes':
            lab.vm.mm.write(shared + at - BASE, Uint8Array.from(imm32(one.value)));
            here.shared = one.value;
            break;
          case 'convert': {
            const { offset, size, pages } = range(one.page, one.last);
            const attributes = one.toPrivate ? PRIVATE : 0n;
            expect(lab.vm.setMemoryAttributes({ address: BASE + offset, size, attributes, flags: 0n })).toBe(0);
            for (const changed of pages) changed.isPrivate = one.toPrivate;
            break;
          }
          case 'hole': {
            const { offset, size, pages } = range(one.page, one.last);
            expect(file.fallocate(3, offset, size)).toBe(0);
            for (const emptied of pages) emptied.private = 0;
            break;
          }
          case 'map': {
            const { offset, size } = range(one.page, one.last);
            const wanted = { gpa: BASE + offset, size, flags: 0n };
            expect(lab.vcpu.preFaultMemory(wanted)).toBe(0);
            expect(wanted.size).toBe(0);
          }
        }
      }
      // A slot that has lost its file has private pages no more.
      file.close();
      const lost = model.findIndex(({ isPrivate }) => isPrivate);
      if (lost >= 0) {
        lab.load(0xa1, ...imm32(BASE + USED[lost]! * PAGE), HLT);
        lab.start();
        expect(await lab.vcpu.run()).toBe(-EFAULT);
      }
      lab.vm.close();
    }),
    { seed: 7, numRuns: 40 },
  );
}, 60_000);
