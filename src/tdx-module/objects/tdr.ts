/**
 * The TDR: a TD's root page, encrypted with the platform's global key, by whose address the host names the TD.
 *
 * @tdx "TD Life Cycle", TD Root (TDR)
 */
import type { KeyedMemory } from '../../machine/keyed-memory.ts';
import type { Hpa } from '../../util/address.ts';
import type { Field } from '../metadata/field.ts';
import { TDR_FIELDS, type TdrFieldName } from '../metadata/tdr-fields.ts';
import type { TdxModule } from '../module.ts';
import { PAGE } from '../platform.ts';
import { CallCounts } from './call-counts.ts';
import { FieldArea } from './field-area.ts';
import { Tdcs } from './tdcs.ts';

/** LIFECYCLE_STATE. @tdx "TD Life Cycle State Machine" */
export const LIFECYCLE = { HKID_ASSIGNED: 0, KEYS_CONFIGURED: 1, BLOCKED: 2, TEARDOWN: 3 } as const;

/** Pages that a TDCS must have before it can be used. */
export const TDCS_BASE_PAGES = 6;

type Values = Readonly<Record<TdrFieldName, bigint[]>>;
const zeros = (): Values =>
  Object.fromEntries(Object.values(TDR_FIELDS).map(({ name, count }) => [name, new Array(count).fill(0n)])) as Values;

/**
 * A TD's root. Its values are kept beside the page, which only the module writes: a host that overwrites the page loses the
 * TD but does not confuse the module, and the TD can still be torn down.
 */
export class Tdr extends FieldArea<TdrFieldName> {
  readonly module: TdxModule;
  readonly pa: Hpa;
  protected override readonly fields: Readonly<Record<TdrFieldName, Field>> = TDR_FIELDS;
  protected override readonly keyed: KeyedMemory;
  override readonly keyId: number;
  /** The TD's control structure, usable when all its pages are there. */
  readonly tdcs: Tdcs;
  /** The host's calls that named the TD or something of its, and the TD's own. */
  readonly seamcalls: CallCounts = new CallCounts();
  readonly tdcalls: CallCounts = new CallCounts();
  readonly #values: Values = zeros();
  #hkid = 0;

  /** The page must be the module's, and hold zeros. */
  constructor(module: TdxModule, pa: Hpa) {
    super();
    this.module = module;
    this.pa = pa;
    this.keyed = module.platform.keyed;
    this.keyId = module.globalKeyId;
    this.tdcs = new Tdcs(this);
  }

  override address(offset: number): Hpa {
    return this.pa + offset;
  }

  override get(name: TdrFieldName, index = 0): bigint {
    return this.#values[name][index]!;
  }
  override num(name: TdrFieldName, index = 0): number {
    return Number(this.#values[name][index]!);
  }
  override set(name: TdrFieldName, value: bigint | number, index = 0): void {
    this.#values[name][index] = BigInt(value);
    if (name === 'HKID') this.#hkid = Number(value);
    if (this.#intact) super.set(name, value, index);
  }
  override setBytes(name: TdrFieldName, data: Uint8Array): void {
    const view = new DataView(data.buffer, data.byteOffset);
    for (let i = 0; i < data.length / 8; i++) this.set(name, view.getBigUint64(8 * i, true), i);
  }

  /** Whether nobody but the module has written to the page. */
  get #intact(): boolean {
    return this.keyed.owns(this.pa, PAGE, this.keyId);
  }

  /** The TD's private KeyID. */
  get hkid(): number {
    return this.#hkid;
  }
  get lifecycle(): number {
    return this.num('LIFECYCLE_STATE');
  }
  /** The TD is dead: something went wrong in it, or the host wrote to its root or control structure. */
  get fatal(): boolean {
    return this.get('FATAL') !== 0n || !this.#intact || !this.tdcs.intact;
  }
  /** From now on every leaf answers TD_FATAL. */
  setFatal(): void {
    this.set('FATAL', 1);
  }
  get hasTdcs(): boolean {
    return this.num('NUM_TDCX') >= TDCS_BASE_PAGES;
  }

  /** Counts pages that the TD got (or, negative, gave back): the TDR goes last. */
  addChildren(pages: number): void {
    this.set('CHLDCNT', this.get('CHLDCNT') + BigInt(pages));
  }
}
