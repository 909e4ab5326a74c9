/**
 * Fields of the TDR, the page that names a TD to the host: management, keys.
 *
 * @tdx "ABI Reference: Metadata", TD-scope metadata, TDR
 */
import { type Field, fieldsOf } from './field.ts';

/** Identifier, fields, elements per field, offset in the TDR page, access. */
const TABLE = {
  FATAL: [0x8010000000000001n, 1, 1, 0x0000, 'Hr Dr'],
  NUM_TDCX: [0x8010000200000002n, 1, 1, 0x0004, 'Hr Dr'],
  CHLDCNT: [0x8010000300000004n, 1, 1, 0x0008, 'Hr Dr'],
  LIFECYCLE_STATE: [0x8010000200000005n, 1, 1, 0x0010, 'Hr Dr'],
  TDCX_PA: [0x8010000300000010n, 9, 1, 0x0018, 'Hr Dr'],
  TD_UUID: [0x8010000300000020n, 1, 4, 0x0060, 'Hr Dr Gr Mr'],
  HKID: [0x8110000100000001n, 1, 1, 0x0100, 'Hr Dr'],
  PKG_CONFIG_BITMAP: [0x8110000300000002n, 1, 1, 0x0108, 'Hr Dr'],
  HANDOFF_VERSION: [0x8210000100000000n, 1, 1, 0x0140, 'Hr Dr'],
  SEAMDB_INDEX: [0x8210000300000001n, 1, 1, 0x0148, 'Hr Dr'],
  SEAMDB_NONCE: [0x8210000300000002n, 1, 4, 0x0150, ''],
} as const;

export type TdrFieldName = keyof typeof TABLE;
export const TDR_FIELDS: Readonly<Record<TdrFieldName, Field>> = fieldsOf(TABLE);
