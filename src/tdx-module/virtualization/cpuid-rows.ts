/**
 * How each CPUID leaf of a TD is made, bit by bit.
 *
 * Numbers are hexadecimal, registers in the order EAX,EBX,ECX,EDX, `-` is four zeros. A bit that no column names is the
 * processor's own. Subleaf `*`: ECX selects none.
 *
 * @tdx "ABI Reference: CPUID Virtualization"
 */

/** EAX, EBX, ECX, EDX; unsigned 32 bits. */
export type Registers = readonly [eax: number, ebx: number, ecx: number, edx: number];

export interface CpuidRow {
  /** Position in the table, and in TDCS.CPUID_VALUES. */
  readonly index: number;
  readonly leaf: number;
  /** Null where ECX selects nothing. */
  readonly subleaf: number | null;
  /** `virtual`: answered from the TDCS. `ve`: #VE always. `topology`: #VE until the TD turns ENUM_TOPOLOGY on. */
  readonly kind: 'virtual' | 've' | 'topology';
  /** Bits that are always 1. */
  readonly one: Registers;
  /** Bits that are 0 unless `one` or a rule of cpuid-rules.ts sets them. */
  readonly computed: Registers;
  /** Bits that the host sets as it likes. */
  readonly direct: Registers;
  /** Bits of the processor that the host may take away. */
  readonly allow: Registers;
  /** Bits whose value on the processor TDH.SYS.INIT verifies, and that value. */
  readonly verifyMask: Registers;
  readonly verifyValue: Registers;
}

/** leaf, subleaf, kind, one, computed, direct, allow, verify mask, verify value. */
const TABLE = `
  0 * virtual 23,0,0,0 ffffffdc,0,0,0 - - 0,ffffffff,ffffffff,ffffffff 0,756e6547,6c65746e,49656e69
  1 * virtual 0,0,80000000,200 f000c000,ff0000ff,8010060,40120400 fff3fff,ff0000,0,0 0,0,31044d88,b8440000 0,ff00,47faa217,1fa9fbff 0,800,47faa217,1fa9fbff
  3 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  4 0 virtual - 3c00,0,0,4 ffffc3ff,fffff000,ffffffff,fffffffb - 0,fff,0,0 0,3f,0,0
  4 1 virtual - 3c00,0,0,4 ffffc3ff,fffff000,ffffffff,fffffffb - 0,fff,0,0 0,3f,0,0
  4 2 virtual - 3c00,0,0,4 ffffc3ff,fffff000,ffffffff,fffffffb - 0,fff,0,0 0,3f,0,0
  4 3 virtual - 3c00,0,0,fffffff8 ffffc3ff,fffff000,ffffffff,7 - e0,fff,0,1 60,3f,0,0
  4 4 virtual - ffffffff,ffffffff,ffffffff,ffffffff - - 1f,0,0,0 -
  5 * virtual - ffff0000,ffff0000,fffffffc,0 - - - -
  6 * ve - - - - 800000,0,0,0 -
  7 0 virtual - 0,404006,643e8010,2298c3 - 0,dc2b9b18,2417f65,5411c ffffffff,219424c3,99000000,fc082600 2,219424c3,99000000,fc080400
  7 1 virtual - ffffe2cf,ffffffff,ffffffff,ffffffff - 1d30,0,0,0 - -
  7 2 virtual - ffffffff,ffffffff,ffffffff,ffffffc0 - 0,0,0,28 0,0,0,17 0,0,0,17
  8 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  a * virtual - 0,0,0,ffff6000 - - ff00,0,ffffff80,8000 800,0,0,8000
  b 0 topology - ffffffe0,ffff0000,ffff0000,ffffffff - - - -
  b 1 topology - ffffffe0,ffff0000,ffff0000,ffffffff - - - -
  d 0 virtual - fff9fd18,ffffffff,0,ffffffff - - 3,0,0,0 3,0,0,0
  d 1 virtual - ffffffe0,ffffffff,ffff26ff,ffffffff - - f,0,1800,0 f,0,1800,0
  d 2 virtual - 0,0,0,ffffffff - - - -
  d 3 virtual - 0,0,0,ffffffff - - - -
  d 4 virtual - 0,0,0,ffffffff - - - -
  d 5 virtual - 0,0,0,ffffffff - - - -
  d 6 virtual - 0,0,0,ffffffff - - - -
  d 7 virtual - 0,0,0,ffffffff - - - -
  d 8 virtual - 0,0,0,ffffffff - - - -
  d 9 virtual - 0,0,0,ffffffff - - - -
  d a virtual - 0,0,0,ffffffff - - - -
  d b virtual - 0,0,0,ffffffff - - - -
  d c virtual - 0,0,0,ffffffff - - - -
  d d virtual - 0,0,0,ffffffff - - - -
  d e virtual - 0,0,0,ffffffff - - - -
  d f virtual - 0,0,0,ffffffff - - - -
  d 10 virtual - 0,0,0,ffffffff - - - -
  d 11 virtual - 0,0,0,ffffffff - - - -
  d 12 virtual - 0,0,0,ffffffff - - - -
  e * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  11 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  12 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  13 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  14 0 virtual - 0,fffffe00,7ffffff0,ffffffff - - ffffffff,0,0,0 1,0,0,0
  14 1 virtual - fff8,0,ffffffff,ffffffff - - - -
  15 * virtual 1,0,17d7840,0 fffffffe,0,fe8287bf,ffffffff - - - -
  19 * virtual - fffffff8,ffffffeb,fffffffd,ffffffff - - - -
  1c * virtual - - - ff,0,0,0 - -
  1d 0 virtual - - - - - -
  1d 1 virtual - - - - - -
  1e * virtual - - - - - -
  1f 0 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  1f 1 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  1f 2 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  1f 3 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  1f 4 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  1f 5 topology - ffffffe0,ffff0000,ffff0000,ffffffff 1f,ffff,ff00,0 - - -
  20 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  21 0 virtual 0,65746e49,20202020,5844546c ffffffff,9a8b91b6,dfdfdfdf,a7bbab93 - - - -
  22 * virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  23 0 virtual - fffffff0,0,ffffffff,ffffffff - f,0,0,0 - -
  23 1 virtual - 0,0,ffffffff,ffffffff - - ffffff00,fffffff0,0,0 -
  23 2 virtual - ffffffff,ffffffff,ffffffff,ffffffff - - - -
  23 3 virtual - 0,ffffffff,ffffffff,ffffffff - - - -
  80000000 * virtual 80000008,0,0,0 7ffffff7,ffffffff,ffffffff,ffffffff - - - -
  80000001 * virtual - ffffffff,ffffffff,fffffede,d3efffff - - 0,0,121,2c100800 0,0,121,2c100800
  80000006 * ve - - - - 0,0,ff,0 0,0,40,0
  80000007 * virtual - ffffffff,ffffffff,ffffffff,fffffeff - - 0,0,0,100 0,0,0,100
  80000008 * virtual - ffff0000,fffffdff,ffffffff,ffffffff - 0,200,0,0 ff,200,0,0 34,200,0,0
`;

const NONE: Registers = [0, 0, 0, 0];

function registers(text: string): Registers {
  if (text === '-') return NONE;
  const [eax = 0, ebx = 0, ecx = 0, edx = 0] = text.split(',').map((word) => Number.parseInt(word, 16));
  return [eax, ebx, ecx, edx];
}

function parse(line: string, index: number): CpuidRow {
  const [leaf, subleaf, kind, ...masks] = line.trim().split(' ') as [string, string, CpuidRow['kind'], ...string[]];
  const [one, computed, direct, allow, verifyMask, verifyValue] = masks.map(registers) as [
    Registers,
    Registers,
    Registers,
    Registers,
    Registers,
    Registers,
  ];
  return {
    index,
    leaf: Number.parseInt(leaf, 16),
    subleaf: subleaf === '*' ? null : Number.parseInt(subleaf, 16),
    kind,
    one,
    computed,
    direct,
    allow,
    verifyMask,
    verifyValue,
  };
}

/** All rows, by index. */
export const CPUID_ROWS: readonly CpuidRow[] = TABLE.trim().split('\n').map(parse);

const byLeaf: ReadonlyMap<string, CpuidRow> = new Map(
  CPUID_ROWS.map((row) => [row.subleaf === null ? `${row.leaf}` : `${row.leaf}.${row.subleaf}`, row]),
);

/** The row of a leaf and, where the leaf has subleaves, of a subleaf. */
export const cpuidRow = (leaf: number, subleaf: number): CpuidRow | undefined =>
  byLeaf.get(`${leaf}`) ?? byLeaf.get(`${leaf}.${subleaf}`);
