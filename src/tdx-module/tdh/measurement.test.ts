import { describe, expect, it } from 'vitest';
import { sha384Of } from '../../util/crypto/hash.ts';
import { OP_STATE } from '../objects/tdcs.ts';
import { TestPlatform, type TestTd } from './test-td.ts';

const EXTEND = 16;
const FINALIZE = 17;
const GPA = 0x40_0000;

/** What is hashed, written out. */
class Record {
  readonly #bytes: number[] = [];
  operation(name: string, gpa: number): this {
    const block = new Array<number>(128).fill(0);
    for (let i = 0; i < name.length; i++) block[i] = name.charCodeAt(i);
    for (let i = 0; i < 8; i++) block[16 + i] = Math.floor(gpa / 2 ** (8 * i)) % 256;
    this.#bytes.push(...block);
    return this;
  }
  data(bytes: Iterable<number>): this {
    this.#bytes.push(...bytes);
    return this;
  }
  get digest(): Uint8Array {
    return sha384Of(Uint8Array.from(this.#bytes));
  }
}

const mrtd = (td: TestTd): Uint8Array => td.tdcs.bytes('MRTD');

function finalize(td: TestTd): string {
  td.tdcs.set('NUM_VCPUS', 1);
  return td.platform.call(FINALIZE, { rcx: td.pa }).name;
}

describe('MRTD', () => {
  it('of a TD without memory is the hash of nothing', () => {
    const td = new TestPlatform(1).td();
    expect(finalize(td)).toBe('TDX_SUCCESS');
    expect(mrtd(td)).toEqual(sha384Of(new Uint8Array()));
    expect(td.tdcs.opState).toBe(OP_STATE.RUNNABLE);
  });

  it('has the address of each page added, and address and content of each chunk extended, in the order of the calls', () => {
    const td = new TestPlatform(1).td();
    const content = Uint8Array.from({ length: 4096 }, (_, i) => (i * 13) & 0xff);
    td.add(GPA, content);
    expect(td.call(EXTEND, { rcx: GPA + 256 }).name).toBe('TDX_SUCCESS');
    td.add(GPA + 0x5000);
    expect(td.call(EXTEND, { rcx: GPA }).name).toBe('TDX_SUCCESS');
    finalize(td);
    const record = new Record()
      .operation('MEM.PAGE.ADD', GPA)
      .operation('MR.EXTEND', GPA + 256)
      .data(content.subarray(256, 512))
      .operation('MEM.PAGE.ADD', GPA + 0x5000)
      .operation('MR.EXTEND', GPA)
      .data(content.subarray(0, 256));
    expect(mrtd(td)).toEqual(record.digest);
  });

  it('knows nothing of tables, pending pages and calls that fail', () => {
    const td = new TestPlatform(1).td();
    td.tables(GPA);
    td.aug(GPA);
    td.call(EXTEND, { rcx: GPA });
    td.call(EXTEND, { rcx: GPA + 1 });
    finalize(td);
    expect(mrtd(td)).toEqual(sha384Of(new Uint8Array()));
  });

  it('hashes large addresses whole', () => {
    const td = new TestPlatform(1).td({ gpaw52: true });
    const gpa = 0x5_1234_5678_9000;
    td.add(gpa);
    finalize(td);
    expect(mrtd(td)).toEqual(new Record().operation('MEM.PAGE.ADD', gpa).digest);
  });
});

describe('TDH.MR.FINALIZE', () => {
  it('needs a virtual processor, and works once', () => {
    const td = new TestPlatform(1).td();
    expect(td.platform.call(FINALIZE, { rcx: td.pa }).name).toBe('TDX_NO_VCPUS');
    expect(finalize(td)).toBe('TDX_SUCCESS');
    const value = mrtd(td);
    expect(finalize(td)).toBe('TDX_OP_STATE_INCORRECT');
    expect(mrtd(td)).toEqual(value);
    expect(td.call(EXTEND, { rcx: GPA }).name).toBe('TDX_OP_STATE_INCORRECT');
  });
});
