/**
 * Encodes the little AML that the DSDT needs: names, integers, packages, devices, resource templates.
 *
 * @see ACPI "ACPI Machine Language (AML) Specification", "Resource Data Types for ACPI"
 */

/** Encoded AML. */
export type Aml = Uint8Array;

const NULL_NAME = 0x00;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const QWORD_PREFIX = 0x0e;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const NAME_OP = 0x08;
const EXT_OP_PREFIX = 0x5b;
const DEVICE_OP = 0x82;
const ROOT_CHAR = 0x5c;

/** Joins encoded terms. */
export function concat(...parts: readonly Aml[]): Aml {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const ascii = (text: string): Aml => Uint8Array.from(text, (char) => char.charCodeAt(0));

/** `\_SB`, `_HID`: at most one segment, padded with underscores, after an optional root character. */
function nameString(path: string): Aml {
  const rooted = path.startsWith('\\');
  const segment = rooted ? path.slice(1) : path;
  const bytes = segment === '' ? Uint8Array.of(NULL_NAME) : ascii(segment.padEnd(4, '_'));
  return rooted ? concat(Uint8Array.of(ROOT_CHAR), bytes) : bytes;
}

/** PkgLength counts itself, so its size depends on its value. */
function withPackageLength(body: Aml): Aml {
  if (body.length + 1 < 0x40) return concat(Uint8Array.of(body.length + 1), body);
  for (let extra = 1; extra <= 3; extra++) {
    const length = body.length + 1 + extra;
    if (length >= 1 << (4 + 8 * extra)) continue;
    const lead = new Uint8Array(1 + extra);
    lead[0] = (extra << 6) | (length & 0xf);
    for (let n = 0; n < extra; n++) lead[n + 1] = (length >>> (4 + 8 * n)) & 0xff;
    return concat(lead, body);
  }
  throw new RangeError('AML term too long');
}

/** The shortest encoding of a non-negative integer. */
export function integer(value: number): Aml {
  if (value === 0 || value === 1) return Uint8Array.of(value);
  const constant = (prefix: number, size: number): Aml => {
    const out = new Uint8Array(1 + size);
    out[0] = prefix;
    let rest = BigInt(value);
    for (let n = 1; n <= size; n++, rest >>= 8n) out[n] = Number(rest & 0xffn);
    return out;
  };
  if (value <= 0xff) return constant(BYTE_PREFIX, 1);
  if (value <= 0xffff) return constant(WORD_PREFIX, 2);
  if (value <= 0xffff_ffff) return constant(DWORD_PREFIX, 4);
  return constant(QWORD_PREFIX, 8);
}

/** An ASCII string object. */
export function string(text: string): Aml {
  return concat(Uint8Array.of(STRING_PREFIX), ascii(text), Uint8Array.of(0));
}

/** EISAID("PNP0501") as the integer that _HID holds. */
export function eisaId(id: string): Aml {
  const letter = (n: number): number => id.charCodeAt(n) - 0x40;
  const hex = (n: number): number => Number.parseInt(id[n]!, 16);
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  return Uint8Array.of(DWORD_PREFIX, vendor >> 8, vendor & 0xff, (hex(3) << 4) | hex(4), (hex(5) << 4) | hex(6));
}

/** Name(path, value) */
export function name(path: string, value: Aml): Aml {
  return concat(Uint8Array.of(NAME_OP), nameString(path), value);
}

/** Package() { elements } */
export function packageOf(...elements: readonly Aml[]): Aml {
  return concat(Uint8Array.of(PACKAGE_OP), withPackageLength(concat(Uint8Array.of(elements.length), ...elements)));
}

/** Scope(path) { terms } */
export function scope(path: string, ...terms: readonly Aml[]): Aml {
  return concat(Uint8Array.of(SCOPE_OP), withPackageLength(concat(nameString(path), ...terms)));
}

/** Device(path) { terms } */
export function device(path: string, ...terms: readonly Aml[]): Aml {
  return concat(Uint8Array.of(EXT_OP_PREFIX, DEVICE_OP), withPackageLength(concat(nameString(path), ...terms)));
}

/** IO(Decode16, base, base, 1, length) */
export function ioPorts(base: number, length: number): Aml {
  const low = base & 0xff;
  const high = base >> 8;
  return Uint8Array.of(0x47, 1, low, high, low, high, 1, length);
}

/** IRQNoFlags() { irq }: edge-triggered, active high. */
export function irq(number: number): Aml {
  const mask = 1 << number;
  return Uint8Array.of(0x22, mask & 0xff, mask >> 8);
}

/** ResourceTemplate() { descriptors } */
export function resources(...descriptors: readonly Aml[]): Aml {
  // A checksum of 0 says that there is none.
  const bytes = concat(...descriptors, Uint8Array.of(0x79, 0));
  return concat(Uint8Array.of(BUFFER_OP), withPackageLength(concat(integer(bytes.length), bytes)));
}
