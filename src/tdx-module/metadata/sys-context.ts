/** Global metadata as a context: all fields are read-only. */
import type { Processor } from '../../machine/processor.ts';
import type { TdxModule } from '../module.ts';
import { STATUS, status } from '../status.ts';
import { type Element, MetadataTable, NO_FIELD_ID, type Party } from './metadata-table.ts';
import { findIn, type MetadataContext } from './read-element.ts';
import { SYS_FIELDS, type SysFieldName } from './sys-fields.ts';
import { sysValue } from './sys-values.ts';

export const SYS_TABLE: MetadataTable = new MetadataTable(SYS_FIELDS);

/** The platform's metadata as a processor sees it. */
export class SysContext implements MetadataContext {
  readonly #module: TdxModule;
  readonly #p: Processor;

  constructor(module: TdxModule, p: Processor) {
    this.#module = module;
    this.#p = p;
  }

  find(id: bigint): Element | bigint {
    return findIn(SYS_TABLE, id);
  }

  read({ field, index }: Element): { readonly value: bigint } {
    return { value: sysValue(this.#module, this.#p, field.name as SysFieldName, index) };
  }

  write(): bigint {
    return status(STATUS.METADATA_FIELD_NOT_WRITABLE);
  }

  next(element: Element | undefined, party: Party): bigint {
    const next = element === undefined ? SYS_TABLE.firstReadable(party) : SYS_TABLE.next(element, party);
    return next === undefined ? NO_FIELD_ID : SYS_TABLE.idOf(next);
  }
}
