/**
 * The VMCS field table: every field with its width, type and index, from which its encoding follows, and the capability
 * without which it does not exist.
 *
 *   encoding:  31:15 0 | 14:13 width | 12 0 | 11:10 type | 9:1 index | 0 access (1: high half of a 64-bit field)
 *
 * @sdm "Field Encoding in VMCS"
 */
import { F, type FieldName } from './field-slots.ts';

/** Bits; natural is 64 here. */
export type FieldWidth = 16 | 32 | 64 | 'natural';
/** `exit`: information fields that VM exits write. */
export type FieldType = 'control' | 'exit' | 'guest' | 'host';

export interface Field {
  readonly name: FieldName;
  readonly slot: number;
  readonly width: FieldWidth;
  readonly type: FieldType;
  readonly index: number;
  readonly encoding: number;
  /** Capabilities of which one must be there ('sec5': the 1-setting of bit 5 of the secondary controls); none: always exists. */
  readonly needs: readonly string[];
}

const WIDTH_CODE = { 16: 0, 64: 1, 32: 2, natural: 3 } as const;
const TYPE_CODE = { control: 0, exit: 1, guest: 2, host: 3 } as const;

/** The encoding that VMREAD and VMWRITE take (access type full). */
export const encodingOf = (width: FieldWidth, type: FieldType, index: number): number =>
  (WIDTH_CODE[width] << 13) | (TYPE_CODE[type] << 10) | (index << 1);

/** Rows written as index:name or index:name:needs. */
function group(width: FieldWidth, type: FieldType, text: string): Field[] {
  return text
    .trim()
    .split(/\s+/)
    .map((row) => {
      const [index, name, needs] = row.split(':') as [string, FieldName, string | undefined];
      const at = Number.parseInt(index, 16);
      const encoding = encodingOf(width, type, at);
      return { name, slot: F[name], width, type, index: at, encoding, needs: needs?.split('|') ?? [] };
    });
}

/** All fields, at the index of their slot. */
export const FIELDS: readonly Field[] = [
  group(
    16,
    'control',
    `
    0:VPID:sec5 1:POSTED_INTERRUPT_NOTIFICATION_VECTOR:pin7 2:EPTP_INDEX:sec18 3:HLAT_PREFIX_SIZE:ter1
    4:LAST_PID_POINTER_INDEX:ter4 5:VIRTUAL_TIMER_VECTOR:ter8`,
  ),
  group(
    16,
    'guest',
    `
    0:GUEST_ES_SELECTOR 1:GUEST_CS_SELECTOR 2:GUEST_SS_SELECTOR 3:GUEST_DS_SELECTOR 4:GUEST_FS_SELECTOR
    5:GUEST_GS_SELECTOR 6:GUEST_LDTR_SELECTOR 7:GUEST_TR_SELECTOR 8:GUEST_INTERRUPT_STATUS:sec9 9:PML_INDEX:sec17
    A:GUEST_UINV:entry19|exit27`,
  ),
  group(
    16,
    'host',
    `
    0:HOST_ES_SELECTOR 1:HOST_CS_SELECTOR 2:HOST_SS_SELECTOR 3:HOST_DS_SELECTOR 4:HOST_FS_SELECTOR 5:HOST_GS_SELECTOR
    6:HOST_TR_SELECTOR`,
  ),
  group(
    64,
    'control',
    `
    0:IO_BITMAP_A 1:IO_BITMAP_B 2:MSR_BITMAP:pri28 3:EXIT_MSR_STORE_ADDRESS 4:EXIT_MSR_LOAD_ADDRESS
    5:ENTRY_MSR_LOAD_ADDRESS 6:EXECUTIVE_VMCS_POINTER 7:PML_ADDRESS:sec17 8:TSC_OFFSET 9:VIRTUAL_APIC_ADDRESS:pri21
    A:APIC_ACCESS_ADDRESS:sec0 B:POSTED_INTERRUPT_DESCRIPTOR_ADDRESS:pin7 C:VM_FUNCTION_CONTROLS:sec13
    D:EPT_POINTER:sec1 E:EOI_EXIT_BITMAP_0:sec9 F:EOI_EXIT_BITMAP_1:sec9 10:EOI_EXIT_BITMAP_2:sec9
    11:EOI_EXIT_BITMAP_3:sec9 12:EPTP_LIST_ADDRESS:vmfunc0 13:VMREAD_BITMAP:sec14 14:VMWRITE_BITMAP:sec14
    15:VE_INFORMATION_ADDRESS:sec18 16:XSS_EXITING_BITMAP:sec20 17:ENCLS_EXITING_BITMAP:sec15
    18:SPP_TABLE_POINTER:sec23 19:TSC_MULTIPLIER:sec25 1A:TERTIARY_CONTROLS:pri17 1B:ENCLV_EXITING_BITMAP:sec28
    1C:LOW_PASID_DIRECTORY:sec21 1D:HIGH_PASID_DIRECTORY:sec21 1E:SHARED_EPT_POINTER:seam
    1F:PCONFIG_EXITING_BITMAP:sec27 20:HLAT_POINTER:ter1 21:PID_POINTER_TABLE:ter4 22:SECONDARY_EXIT_CONTROLS:exit31
    25:SPEC_CTRL_MASK:ter7 26:SPEC_CTRL_SHADOW:ter7 27:GUEST_DEADLINE_SHADOW:ter8 29:INJECTED_EVENT_DATA:entry23`,
  ),
  group(
    64,
    'exit',
    `
    0:GUEST_PHYSICAL_ADDRESS:sec1 1:MSR_DATA:ter6 2:ORIGINAL_EVENT_DATA:entry23`,
  ),
  group(
    64,
    'guest',
    `
    0:VMCS_LINK_POINTER 1:GUEST_DEBUGCTL 2:GUEST_PAT:entry14|exit18 3:GUEST_EFER:entry15|exit20
    4:GUEST_PERF_GLOBAL_CTRL:entry13|exit30 5:GUEST_PDPTE0:sec1 6:GUEST_PDPTE1:sec1 7:GUEST_PDPTE2:sec1
    8:GUEST_PDPTE3:sec1 9:GUEST_BNDCFGS:entry16|exit23 A:GUEST_RTIT_CTL:entry18|exit25 B:GUEST_LBR_CTL:entry21|exit26
    C:GUEST_PKRS:entry22 D:GUEST_FRED_CONFIG:entry23 E:GUEST_FRED_RSP1:entry23 F:GUEST_FRED_RSP2:entry23
    10:GUEST_FRED_RSP3:entry23 11:GUEST_FRED_STKLVLS:entry23 12:GUEST_FRED_SSP1:entry23 13:GUEST_FRED_SSP2:entry23
    14:GUEST_FRED_SSP3:entry23 17:GUEST_SPEC_CTRL:entry24 18:GUEST_DEADLINE:ter8`,
  ),
  group(
    64,
    'host',
    `
    0:HOST_PAT:exit19 1:HOST_EFER:exit21 2:HOST_PERF_GLOBAL_CTRL:exit12 3:HOST_PKRS:exit29 4:HOST_FRED_CONFIG:exit2.1
    5:HOST_FRED_RSP1:exit2.1 6:HOST_FRED_RSP2:exit2.1 7:HOST_FRED_RSP3:exit2.1 8:HOST_FRED_STKLVLS:exit2.1
    9:HOST_FRED_SSP1:exit2.1 A:HOST_FRED_SSP2:exit2.1 B:HOST_FRED_SSP3:exit2.1 D:HOST_SPEC_CTRL:exit2.2`,
  ),
  group(
    32,
    'control',
    `
    0:PIN_CONTROLS 1:PRIMARY_CONTROLS 2:EXCEPTION_BITMAP 3:PAGE_FAULT_MASK 4:PAGE_FAULT_MATCH 5:CR3_TARGET_COUNT
    6:EXIT_CONTROLS 7:EXIT_MSR_STORE_COUNT 8:EXIT_MSR_LOAD_COUNT 9:ENTRY_CONTROLS A:ENTRY_MSR_LOAD_COUNT
    B:ENTRY_INTERRUPTION_INFO C:ENTRY_EXCEPTION_ERROR_CODE D:ENTRY_INSTRUCTION_LENGTH E:TPR_THRESHOLD:pri21
    F:SECONDARY_CONTROLS:pri31 10:PLE_GAP:sec10 11:PLE_WINDOW:sec10 12:NOTIFY_WINDOW:sec31 13:TD_HKID:seam`,
  ),
  group(
    32,
    'exit',
    `
    0:INSTRUCTION_ERROR 1:EXIT_REASON 2:EXIT_INTERRUPTION_INFO 3:EXIT_INTERRUPTION_ERROR_CODE 4:IDT_VECTORING_INFO
    5:IDT_VECTORING_ERROR_CODE 6:EXIT_INSTRUCTION_LENGTH 7:EXIT_INSTRUCTION_INFO`,
  ),
  group(
    32,
    'guest',
    `
    0:GUEST_ES_LIMIT 1:GUEST_CS_LIMIT 2:GUEST_SS_LIMIT 3:GUEST_DS_LIMIT 4:GUEST_FS_LIMIT 5:GUEST_GS_LIMIT
    6:GUEST_LDTR_LIMIT 7:GUEST_TR_LIMIT 8:GUEST_GDTR_LIMIT 9:GUEST_IDTR_LIMIT A:GUEST_ES_ACCESS_RIGHTS
    B:GUEST_CS_ACCESS_RIGHTS C:GUEST_SS_ACCESS_RIGHTS D:GUEST_DS_ACCESS_RIGHTS E:GUEST_FS_ACCESS_RIGHTS
    F:GUEST_GS_ACCESS_RIGHTS 10:GUEST_LDTR_ACCESS_RIGHTS 11:GUEST_TR_ACCESS_RIGHTS 12:GUEST_INTERRUPTIBILITY
    13:GUEST_ACTIVITY 14:GUEST_SMBASE 15:GUEST_SYSENTER_CS 17:PREEMPTION_TIMER_VALUE:pin6`,
  ),
  group(
    32,
    'host',
    `
    0:HOST_SYSENTER_CS`,
  ),
  group(
    'natural',
    'control',
    `
    0:CR0_MASK 1:CR4_MASK 2:CR0_READ_SHADOW 3:CR4_READ_SHADOW 4:CR3_TARGET_0 5:CR3_TARGET_1 6:CR3_TARGET_2
    7:CR3_TARGET_3`,
  ),
  group(
    'natural',
    'exit',
    `
    0:EXIT_QUALIFICATION 1:IO_RCX 2:IO_RSI 3:IO_RDI 4:IO_RIP 5:GUEST_LINEAR_ADDRESS`,
  ),
  group(
    'natural',
    'guest',
    `
    0:GUEST_CR0 1:GUEST_CR3 2:GUEST_CR4 3:GUEST_ES_BASE 4:GUEST_CS_BASE 5:GUEST_SS_BASE 6:GUEST_DS_BASE
    7:GUEST_FS_BASE 8:GUEST_GS_BASE 9:GUEST_LDTR_BASE A:GUEST_TR_BASE B:GUEST_GDTR_BASE C:GUEST_IDTR_BASE D:GUEST_DR7
    E:GUEST_RSP F:GUEST_RIP 10:GUEST_RFLAGS 11:GUEST_PENDING_DEBUG 12:GUEST_SYSENTER_ESP 13:GUEST_SYSENTER_EIP
    14:GUEST_S_CET:entry20|exit28 15:GUEST_SSP:entry20|exit28 16:GUEST_INTERRUPT_SSP_TABLE:entry20|exit28`,
  ),
  group(
    'natural',
    'host',
    `
    0:HOST_CR0 1:HOST_CR3 2:HOST_CR4 3:HOST_FS_BASE 4:HOST_GS_BASE 5:HOST_TR_BASE 6:HOST_GDTR_BASE 7:HOST_IDTR_BASE
    8:HOST_SYSENTER_ESP 9:HOST_SYSENTER_EIP A:HOST_RSP B:HOST_RIP C:HOST_S_CET:exit28 D:HOST_SSP:exit28
    E:HOST_INTERRUPT_SSP_TABLE:exit28`,
  ),
].flat();

/** Largest index of any encoding the processor supports: IA32_VMX_VMCS_ENUM bits 9:1. */
export const highestIndex = (fields: readonly Field[]): number => Math.max(...fields.map((f) => f.index));

/** The encoding of a field by name. */
export const encodingByName = (name: FieldName): number => FIELDS[F[name]]!.encoding;
