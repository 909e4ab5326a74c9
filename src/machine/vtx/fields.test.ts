import { expect, test } from 'vitest';
import { PROFILES } from '../profiles.ts';
import { VmxCapabilities } from './capabilities.ts';
import { F } from './field-slots.ts';
import { encodingByName, FIELDS } from './fields.ts';
import { VMCS_BYTES } from './vmcs.ts';

/** Every encoding of the SDM's "Field Encoding in VMCS" and of later extensions, as listed there, in groups. */
const LISTED = `
  0000 0002 0004 0006 0008 000A  0800 0802 0804 0806 0808 080A 080C 080E 0810 0812 0814
  0C00 0C02 0C04 0C06 0C08 0C0A 0C0C
  2000 2002 2004 2006 2008 200A 200C 200E 2010 2012 2014 2016 2018 201A 201C 201E 2020 2022 2024 2026 2028 202A 202C 202E
  2030 2032 2034 2036 2038 203A 203C 203E 2040 2042 2044 204A 204C 204E 2052  2400 2402 2404
  2800 2802 2804 2806 2808 280A 280C 280E 2810 2812 2814 2816 2818 281A 281C 281E 2820 2822 2824 2826 2828 282E 2830
  2C00 2C02 2C04 2C06 2C08 2C0A 2C0C 2C0E 2C10 2C12 2C14 2C16 2C1A
  4000 4002 4004 4006 4008 400A 400C 400E 4010 4012 4014 4016 4018 401A 401C 401E 4020 4022 4024 4026
  4400 4402 4404 4406 4408 440A 440C 440E
  4800 4802 4804 4806 4808 480A 480C 480E 4810 4812 4814 4816 4818 481A 481C 481E 4820 4822 4824 4826 4828 482A 482E  4C00
  6000 6002 6004 6006 6008 600A 600C 600E  6400 6402 6404 6406 6408 640A
  6800 6802 6804 6806 6808 680A 680C 680E 6810 6812 6814 6816 6818 681A 681C 681E 6820 6822 6824 6826 6828 682A 682C
  6C00 6C02 6C04 6C06 6C08 6C0A 6C0C 6C0E 6C10 6C12 6C14 6C16 6C18 6C1A 6C1C`;

test('the computed encodings are the listed ones, each once', () => {
  const listed = LISTED.trim()
    .split(/\s+/)
    .map((text) => Number.parseInt(text, 16));
  expect(FIELDS.map(({ encoding }) => encoding).toSorted((a, b) => a - b)).toEqual(listed.toSorted((a, b) => a - b));
});

test('a field lies in the slot of its name', () => {
  expect(FIELDS.map(({ name }) => name)).toEqual(Object.keys(F));
  FIELDS.forEach((field, slot) => {
    expect(field.slot).toBe(slot);
  });
});

test.each([
  ['VPID', 0x0000],
  ['GUEST_ES_SELECTOR', 0x0800],
  ['GUEST_TR_SELECTOR', 0x080e],
  ['HOST_TR_SELECTOR', 0x0c0c],
  ['EPT_POINTER', 0x201a],
  ['TSC_MULTIPLIER', 0x2032],
  ['GUEST_PHYSICAL_ADDRESS', 0x2400],
  ['GUEST_PDPTE3', 0x2810],
  ['HOST_EFER', 0x2c02],
  ['SECONDARY_CONTROLS', 0x401e],
  ['EXIT_REASON', 0x4402],
  ['GUEST_TR_ACCESS_RIGHTS', 0x4822],
  ['PREEMPTION_TIMER_VALUE', 0x482e],
  ['HOST_SYSENTER_CS', 0x4c00],
  ['CR4_READ_SHADOW', 0x6006],
  ['GUEST_LINEAR_ADDRESS', 0x640a],
  ['GUEST_RIP', 0x681e],
  ['HOST_RIP', 0x6c16],
] as const)('%s has the encoding %i', (name, encoding) => {
  expect(encodingByName(name)).toBe(encoding);
});

test('the content fits the region that IA32_VMX_BASIC tells', () => {
  const size = Number((new VmxCapabilities(PROFILES.pc).msrs.get(0x480)! >> 32n) & 0x1fffn);
  expect(VMCS_BYTES).toBeLessThanOrEqual(size);
  expect(size).toBeLessThanOrEqual(4096);
});

test('a field whose control cannot be 1 does not exist', () => {
  const names = new Set(new VmxCapabilities(PROFILES.pc).fields.map(({ name }) => name));
  expect(names.has('PID_POINTER_TABLE')).toBe(true);
  expect(names.has('POSTED_INTERRUPT_DESCRIPTOR_ADDRESS')).toBe(true);
  expect(names.has('TERTIARY_CONTROLS')).toBe(true);
  expect(names.has('HLAT_POINTER')).toBe(false);
  expect(names.has('EPT_POINTER')).toBe(true);
  expect(names.has('PREEMPTION_TIMER_VALUE')).toBe(true);
});
