/**
 * Fields of the TD VMCS as metadata: class 0, the VMCS encoding as code.
 *
 * @tdx "ABI Reference: Metadata", TD VMCS
 */
import type { FieldName as VmcsFieldName } from '../../machine/vtx/field-slots.ts';
import { FIELDS, type Field as VmcsField } from '../../machine/vtx/fields.ts';
import { CONTEXT, type Field, fieldOf } from './field.ts';

/** What the host of any TD reaches, or of a debug TD beside that. */
const HOST: Partial<Record<VmcsFieldName, string>> = {
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: 'Hr Hw Dr Dw',
  MSR_BITMAP: 'Hr Dr',
  PML_ADDRESS: 'Hr Dr Dw[0xfffffffffffff000]',
  TSC_OFFSET: 'Hr Dr Dw',
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: 'Hr Hw[0xffffffffffffffc0] Dr Dw[0xffffffffffffffc0]',
  VM_FUNCTION_CONTROLS: 'Hr Dr',
  EPT_POINTER: 'Hr Dr',
  EPTP_LIST_ADDRESS: 'Hr Dr',
  TSC_MULTIPLIER: 'Hr Dr Dw',
  SHARED_EPT_POINTER: 'Hr[0xffffffffff000] Hw[0xffffffffff000] Dr Dw[0xffffffffff000]',
  PIN_CONTROLS: 'Hr[0x80] Hw[0x80] Dr Dw[0x80]',
  SECONDARY_CONTROLS: 'Hr[0xc0000000] Hw[0xc0000000] Dr Dw[0xc0130c04]',
  PLE_GAP: 'Hr Dr Dw',
  PLE_WINDOW: 'Hr Dr Dw',
  NOTIFY_WINDOW: 'Hr Hw Dr Dw',
  TD_HKID: 'Hr Dr',
};

/** Guest state and controls that the host of a debug TD may see and change. */
const DEBUG: Partial<Record<VmcsFieldName, string>> = {
  EXCEPTION_BITMAP: 'Dr Dw[0xfffbffff]',
  PRIMARY_CONTROLS: 'Dr',
  GUEST_DEBUGCTL: 'Dr Dw[0xffc7]',
  GUEST_PAT: 'Dr Dw',
  GUEST_EFER: 'Dr Dw',
  GUEST_PERF_GLOBAL_CTRL: 'Dr Dw',
  GUEST_INTERRUPTIBILITY: 'Dr Dw',
  GUEST_PENDING_DEBUG: 'Dr Dw',
};

/** Registers and segments, by the beginning of their names. */
const DEBUG_STATE =
  /^GUEST_((ES|CS|SS|DS|FS|GS|LDTR|TR)_(SELECTOR|BASE|LIMIT|ACCESS_RIGHTS)|[GI]DTR_(BASE|LIMIT)|CR[034]|DR7|RSP|RIP|RFLAGS)$/;

const WIDTH_CODE = { 16: 1n, 32: 2n, 64: 3n, natural: 3n } as const;
const INC_SIZE = 1n << 50n;

const accessOf = (name: VmcsFieldName): string | undefined =>
  HOST[name] ?? DEBUG[name] ?? (DEBUG_STATE.test(name) ? 'Dr Dw' : undefined);

function metadataField({ name, width, encoding }: VmcsField, access: string): Field {
  const id = INC_SIZE | (BigInt(CONTEXT.VP) << 52n) | (WIDTH_CODE[width] << 32n) | BigInt(encoding);
  return fieldOf(`VMCS_${name}`, [id, 1, 1, 0, access]);
}

/** The fields, by name. */
export const TD_VMCS_FIELDS: Readonly<Record<string, Field>> = Object.fromEntries(
  FIELDS.flatMap((field) => {
    const access = accessOf(field.name);
    return access === undefined ? [] : [[`VMCS_${field.name}`, metadataField(field, access)]];
  }),
);

const BY_ENCODING: ReadonlyMap<number, VmcsField> = new Map(FIELDS.map((field) => [field.encoding, field]));

/** The VMCS field that a metadata field's code names. */
export const vmcsFieldOf = (code: number): VmcsField => BY_ENCODING.get(code)!;
