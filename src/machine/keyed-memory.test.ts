import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PhysicalMemory } from './memory.ts';
import { isPrivateKeyId, keyIdOf, stripKeyId, withKeyId } from './seam/key-id.ts';

const TD = 33;
const OTHER_TD = 34;
const RAM = 0x10000;
const PAGE = 0x3000;

function fresh(): PhysicalMemory {
  return new PhysicalMemory(RAM, true);
}

function ownedByTd(): PhysicalMemory {
  const memory = fresh();
  memory.fill(PAGE, 4096, 0xaa);
  memory.keyed.take(PAGE, TD);
  memory.keyed.write64(PAGE + 8, TD, 0x1122_3344_5566_7788n);
  return memory;
}

describe('KeyID bits of an address', () => {
  test('are bits 51:46', () => {
    const hpa = withKeyId(0x1234_5000, 63);
    expect(hpa).toBe(63 * 2 ** 46 + 0x1234_5000);
    expect([keyIdOf(hpa), stripKeyId(hpa), withKeyId(hpa, 1)]).toEqual([63, 0x1234_5000, 2 ** 46 + 0x1234_5000]);
  });
});

describe('a page that a private KeyID has taken', () => {
  test('is zero, and the owner reads what it writes', () => {
    const memory = ownedByTd();
    expect(memory.keyed.ownerOf(PAGE)).toBe(TD);
    expect(memory.keyed.read64(PAGE, TD)).toBe(0n);
    expect(memory.keyed.read32(PAGE + 8, TD)).toBe(0x5566_7788);
    expect(memory.keyed.machineCheck).toBe(-1);
  });

  test('reads as zeros for the host, and a read changes nothing', () => {
    const memory = ownedByTd();
    expect(memory.read64(PAGE + 8)).toBe(0n);
    expect(memory.readBytes(PAGE, 4096).every((byte) => byte === 0)).toBe(true);
    expect(memory.keyed.read64(PAGE + 8, TD)).toBe(0x1122_3344_5566_7788n);
    expect([memory.keyed.machineCheck, memory.keyed.poisoned(PAGE)]).toEqual([-1, false]);
  });

  test('loses a line to a host write: the host reads it, for the owner it is a machine check', () => {
    const memory = ownedByTd();
    memory.write8(PAGE + 64, 7);
    expect(memory.read64(PAGE + 64)).toBe(7n);
    expect(memory.keyed.poisoned(PAGE)).toBe(true);
    expect(memory.keyed.ownerOf(PAGE)).toBe(TD);
    expect(memory.keyed.read8(PAGE + 64, TD)).toBe(0);
    expect(memory.keyed.machineCheck).toBe(PAGE + 64);
  });

  test('keeps its other lines then', () => {
    const memory = ownedByTd();
    memory.write8(PAGE + 64, 7);
    expect(memory.keyed.read64(PAGE + 8, TD)).toBe(0x1122_3344_5566_7788n);
    expect(memory.read64(PAGE + 8)).toBe(0n);
    expect(memory.keyed.machineCheck).toBe(-1);
  });

  test('does not show its old content where the host writes a part of a line', () => {
    const memory = ownedByTd();
    memory.write8(PAGE + 1, 7);
    expect(memory.read64(PAGE + 8)).toBe(0n);
  });

  test('is a machine check for another private KeyID, and a partial write of it changes nothing', () => {
    const memory = ownedByTd();
    expect(memory.keyed.read64(PAGE + 8, OTHER_TD)).toBe(0n);
    expect(memory.keyed.machineCheck).toBe(PAGE);
    memory.keyed.write64(PAGE + 8, OTHER_TD, 1n);
    expect(memory.keyed.read64(PAGE + 8, TD)).toBe(0x1122_3344_5566_7788n);
  });

  test('has its poison cleared by MOVDIR64B with the owner’s KeyID', () => {
    const memory = ownedByTd();
    memory.write8(PAGE + 64, 7);
    memory.keyed.movdir64b(PAGE + 64, TD, new Uint8Array(64).fill(9));
    expect([memory.keyed.poisoned(PAGE), memory.keyed.read8(PAGE + 100, TD)]).toEqual([false, 9]);
  });

  test('is the host’s again when the host has written all of it', () => {
    const memory = ownedByTd();
    for (let line = PAGE; line < PAGE + 4096; line += 64) memory.keyed.movdir64b(line, 0, new Uint8Array(64));
    expect([memory.keyed.ownerOf(PAGE), memory.keyed.foreignPages]).toEqual([0, 0]);
    memory.write64(PAGE + 8, 5n);
    expect(memory.read64(PAGE + 8)).toBe(5n);
    memory.keyed.read8(PAGE + 8, TD);
    expect(memory.keyed.machineCheck).toBe(PAGE);
  });
});

describe('addresses with a KeyID outside SEAM', () => {
  test('a shared KeyID uses the platform’s key', () => {
    const memory = fresh();
    memory.write32(withKeyId(0x2000, 5), 0x1234);
    expect([memory.read32(0x2000), memory.read32(withKeyId(0x2000, 31))]).toEqual([0x1234, 0x1234]);
  });

  test('a shared KeyID with a key of its own does not', () => {
    const memory = fresh();
    memory.keyed.programKey(5, true);
    memory.write32(withKeyId(0x2000, 5), 0x1234);
    expect([memory.read32(0x2000), memory.read32(withKeyId(0x2000, 5))]).toEqual([0, 0x1234]);
    expect(memory.keyed.machineCheck).toBe(-1);
  });

  test('a private KeyID reaches nothing', () => {
    const memory = ownedByTd();
    expect(memory.read64(withKeyId(PAGE + 8, TD))).toBe(0xffff_ffff_ffff_ffffn);
    memory.write64(withKeyId(PAGE + 8, TD), 0n);
    expect(memory.keyed.read64(PAGE + 8, TD)).toBe(0x1122_3344_5566_7788n);
  });

  test('without KeyIDs all bits are the address', () => {
    const memory = new PhysicalMemory(RAM);
    memory.write32(0x2000, 0x1234);
    expect(memory.read32(withKeyId(0x2000, 5))).toBe(0xffff_ffff);
  });
});

test('what is cached of a page goes before its owner, or a line’s, changes', () => {
  const memory = fresh();
  const seen: [number, number][] = [];
  memory.keyed.ownerChanges = (page) => seen.push([page, memory.keyed.ownerOf(page)]);
  memory.keyed.take(PAGE, TD);
  memory.keyed.take(PAGE, TD);
  memory.write8(PAGE, 1);
  memory.keyed.take(PAGE, 0);
  expect(seen).toEqual([
    [PAGE, 0],
    [PAGE, TD],
    [PAGE, TD],
  ]);
});

test('accesses that no page contains are made of their parts', () => {
  const memory = ownedByTd();
  memory.write64(PAGE - 8, 0x0807_0605_0403_0201n);
  memory.keyed.write32(PAGE, TD, 0xdddd_dddd);
  expect(memory.read64(PAGE - 4)).toBe(0x0807_0605n);
  expect(memory.readBytes(RAM - 2, 4)).toEqual(Uint8Array.of(0, 0, 0xff, 0xff));
});

// ---- against a model: every byte has a line, every line an owner

const KEYS = [0, 3, TD, OTHER_TD];
const FIRST = 0x4000;
const LENGTH = 2 * 4096;

class Model {
  readonly bytes: Uint8Array = new Uint8Array(LENGTH);
  readonly owners: number[] = new Array(LENGTH / 64).fill(0);
  machineCheck = false;

  read(at: number, key: number): number {
    if (this.owners[at >> 6] === key) return this.bytes[at]!;
    if (isPrivateKeyId(key)) this.machineCheck = true;
    return 0;
  }

  /** One write within a page. */
  write(at: number, key: number, data: Uint8Array): void {
    const lines = new Set(Array.from(data, (_, i) => (at + i) >> 6));
    const whole = (line: number): boolean => line * 64 >= at && line * 64 + 64 <= at + data.length;
    for (const line of lines) {
      if (isPrivateKeyId(key) && this.owners[line] !== key && !whole(line)) {
        this.machineCheck = true;
        return;
      }
    }
    for (const line of lines) {
      if (this.owners[line] !== key) this.bytes.fill(0, line * 64, line * 64 + 64);
      this.owners[line] = key;
    }
    this.bytes.set(data, at);
  }
}

const keyId = fc.constantFrom(...KEYS);
const action = fc.oneof(
  fc.record({ kind: fc.constant('take' as const), page: fc.nat(1), keyId }),
  fc.record({
    kind: fc.constant('read' as const),
    at: fc.nat(LENGTH - 200),
    keyId,
    size: fc.integer({ min: 1, max: 200 }),
  }),
  fc.record({ kind: fc.constant('write' as const), at: fc.nat(LENGTH - 8), keyId, size: fc.constantFrom(1, 2, 4, 8) }),
  fc.record({ kind: fc.constant('line' as const), line: fc.nat(LENGTH / 64 - 1), keyId }),
  fc.record({ kind: fc.constant('fill' as const), page: fc.nat(1), keyId }),
);

test('keyed memory behaves as its model', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const memory = fresh();
      const { keyed } = memory;
      keyed.programKey(3, true);
      const model = new Model();
      let stamp = 1;
      for (const step of actions) {
        model.machineCheck = false;
        keyed.machineCheck = -1;
        stamp = (stamp % 250) + 1;
        if (step.kind === 'take') {
          keyed.take(FIRST + step.page * 4096, step.keyId);
          model.bytes.fill(0, step.page * 4096, step.page * 4096 + 4096);
          model.owners.fill(step.keyId, step.page * 64, step.page * 64 + 64);
        } else if (step.kind === 'read') {
          const seen = keyed.readBytes(FIRST + step.at, step.keyId, step.size);
          expect(seen).toEqual(Uint8Array.from(seen, (_, i) => model.read(step.at + i, step.keyId)));
        } else if (step.kind === 'write') {
          const data = new Uint8Array(step.size).fill(stamp);
          keyed.write(FIRST + step.at, step.keyId, step.size, BigInt(`0x${'01'.repeat(step.size)}`) * BigInt(stamp));
          const first = Math.min(step.size, 4096 - (step.at % 4096));
          model.write(step.at, step.keyId, data.subarray(0, first));
          if (first < step.size) model.write(step.at + first, step.keyId, data.subarray(first));
        } else if (step.kind === 'line') {
          const data = new Uint8Array(64).fill(stamp);
          keyed.movdir64b(FIRST + step.line * 64, step.keyId, data);
          model.write(step.line * 64, step.keyId, data);
        } else {
          keyed.fill(FIRST + step.page * 4096, step.keyId, 4096, stamp);
          model.write(step.page * 4096, step.keyId, new Uint8Array(4096).fill(stamp));
        }
        expect(keyed.machineCheck >= 0).toBe(model.machineCheck);
      }
      for (const page of [0, 1]) {
        const lines = model.owners.slice(page * 64, page * 64 + 64);
        expect(keyed.poisoned(FIRST + page * 4096)).toBe(new Set(lines).size > 1);
        if (new Set(lines).size === 1) expect(keyed.ownerOf(FIRST + page * 4096)).toBe(lines[0]);
      }
      expect(keyed.foreignPages === 0).toBe(model.owners.every((owner) => owner === 0));
    }),
    { numRuns: 100 },
  );
});
