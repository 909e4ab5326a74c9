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
import { FieldArea } from './field-area.ts';
import { Tdcs } from './tdcs.ts';

/** LIFECYCLE_STATE. @tdx "TD Life Cycle State Machine" */
export const LIFECYCLE = { HKID_ASSIGNED: 0, KEYS_CONFIGURED: 1, BLOCKED: 2, TEARDOWN: 3 } as const;

/** Pages that a TDCS must have before it can be used. */
export const TDCS_BASE_PAGES = 6;

export class Tdr extends FieldArea<TdrFieldName> {
  readonly module: TdxModule;
  readonly pa: Hpa;
  protected override readonly fields: Readonly<Record<TdrFieldName, Field>> = TDR_FIELDS;
  protected override readonly keyed: KeyedMemory;
  override readonly keyId: number;
  /** The TD's control structure, usable when all its pages are there. */
  readonly tdcs: Tdcs;

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

  /** The TD's private KeyID. */
  get hkid(): number {
    return this.num('HKID');
  }
  get lifecycle(): number {
    return this.num('LIFECYCLE_STATE');
  }
  get fatal(): boolean {
    return this.num('FATAL') !== 0;
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
