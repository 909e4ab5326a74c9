/** For tests: a machine with a TDX module, and a host that calls it register by register. */
import { Machine } from '../../machine/machine.ts';
import { CR0_NE, CR0_PE, CR0_PG, CR4_PAE, CR4_VMXE, EFER_LMA, EFER_LME } from '../../machine/processor.ts';
import { seamcall } from '../../machine/seam/seamcall.ts';
import { ROOT } from '../../machine/vtx/operation.ts';
import type { Hpa } from '../../util/address.ts';
import { installTdxModule, type TdxModule } from '../module.ts';
import { statusName } from '../status.ts';

export const MIB: number = 2 ** 20;
const GIB: number = 2 ** 30;
export const RAM: number = 32 * MIB;
/** An address in no TDMR. */
export const OUTSIDE: Hpa = 2 * GIB;
/** Where the host puts PAMTs, TDMR_INFO structures and pages for TDs. */
export const PAMT: Hpa = 16 * MIB;
export const PAMT_BYTES: number = 4 * MIB + 8192 + 4096;
export const BUFFER: Hpa = 0x10_0000;
export const GLOBAL_HKID = 32;

/** Operands in registers; `cpu` is the logical processor that calls. */
export interface Operands {
  readonly rcx?: bigint | number;
  readonly rdx?: bigint | number;
  readonly r8?: bigint | number;
  readonly r9?: bigint | number;
  readonly r10?: bigint | number;
  readonly r11?: bigint | number;
  readonly version?: number;
  readonly cpu?: number;
}

export interface Result {
  /** Status by name and details: `TDX_OPERAND_INVALID 0x1`. */
  readonly name: string;
  readonly rax: bigint;
  readonly rcx: bigint;
  readonly rdx: bigint;
  readonly r8: bigint;
  readonly r9: bigint;
  readonly r10: bigint;
}

const REGISTERS = [
  ['rcx', 1],
  ['rdx', 2],
  ['r8', 8],
  ['r9', 9],
  ['r10', 10],
  ['r11', 11],
] as const;

/** Leaf numbers that bring the module up. */
const SYS = { KEY_CONFIG: 31, INIT: 33, LP_INIT: 35, TDMR_INIT: 36, CONFIG: 45 } as const;

export class TestHost {
  readonly machine: Machine;
  readonly module: TdxModule;
  #nextPage = 2 * MIB;

  constructor(processors = 1, privateKeyIds = 32) {
    this.machine = new Machine({
      processors,
      ramSize: RAM,
      profile: 'tdx-host',
      seed: 1,
      translator: 'off',
      tdx: { privateKeyIds },
    });
    this.module = installTdxModule(this.machine);
    for (const p of this.machine.processors) {
      p.cr0 = (CR0_PE | CR0_NE | CR0_PG) >>> 0;
      p.cr4 = CR4_PAE | CR4_VMXE;
      p.efer = EFER_LME | EFER_LMA;
      p.vtx.operation = ROOT;
    }
  }

  get memory(): Machine['memory'] {
    return this.machine.memory;
  }

  /** A page that nobody has. */
  page(): Hpa {
    const page = this.#nextPage;
    this.#nextPage += 4096;
    return page;
  }

  call(leaf: number, operands: Operands = {}): Result {
    const p = this.machine.processors[operands.cpu ?? 0]!;
    p.setGpr(0, BigInt(leaf) | (BigInt(operands.version ?? 0) << 16n));
    for (const [name, register] of REGISTERS) p.setGpr(register, BigInt.asUintN(64, BigInt(operands[name] ?? 0)));
    const outcome = seamcall(p);
    if (outcome !== 0) throw new Error(`SEAMCALL: outcome ${outcome.toString(16)}`);
    const [rax, rcx, rdx, r8, r9, r10] = [0, 1, 2, 8, 9, 10].map((register) => p.gpr(register)) as [
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    return { name: statusName(rax), rax, rcx, rdx, r8, r9, r10 };
  }

  /** The status alone. */
  status(leaf: number, operands: Operands = {}): string {
    return this.call(leaf, operands).name;
  }

  /** Writes a TDMR_INFO: by default one that covers the machine's memory as upstream's host does it. */
  tdmrInfo(at: Hpa, words: Partial<Record<number, number | bigint>> = {}): void {
    const info: Record<number, number | bigint> = {
      0: 0,
      8: GIB,
      16: PAMT + 4 * MIB + 8192,
      24: 4096,
      32: PAMT + 4 * MIB,
      40: 8192,
      48: PAMT,
      56: 4 * MIB,
      64: 0,
      72: MIB,
      80: PAMT,
      88: PAMT_BYTES,
      96: RAM,
      104: GIB - RAM,
      ...words,
    };
    this.memory.fill(at, 512);
    for (const [offset, value] of Object.entries(info)) this.memory.write64(at + Number(offset), BigInt(value));
  }

  /** Writes TD_PARAMS: by default what upstream's KVM asks for. Keys are offsets of 8-byte words. */
  tdParams(at: Hpa, words: Partial<Record<number, number | bigint>> = {}): void {
    const SEPT_VE_DISABLE = 1n << 28n;
    const params: Record<number, number | bigint> = {
      0: SEPT_VE_DISABLE,
      8: 3,
      16: 4,
      24: 0x1e,
      32: 4,
      40: 40,
      ...words,
    };
    this.memory.fill(at, 1024);
    for (const [offset, value] of Object.entries(params)) this.memory.write64(at + Number(offset), BigInt(value));
  }

  /** SYS.INIT, and LP.INIT on every logical processor. */
  initialize(): this {
    this.expect(SYS.INIT);
    for (const { index } of this.machine.processors) this.expect(SYS.LP_INIT, { cpu: index });
    return this;
  }

  /** As {@link initialize}, and SYS.CONFIG with one TDMR. */
  configure(): this {
    this.initialize();
    this.tdmrInfo(BUFFER + 512);
    this.memory.write64(BUFFER, BigInt(BUFFER + 512));
    this.expect(SYS.CONFIG, { rcx: BUFFER, rdx: 1, r8: GLOBAL_HKID });
    return this;
  }

  /** A module that is ready, its memory initialised. */
  ready(): this {
    this.configure();
    this.expect(SYS.KEY_CONFIG);
    while (this.expect(SYS.TDMR_INIT, { rcx: 0 }).rdx < BigInt(GIB));
    return this;
  }

  /** A call that must succeed. */
  expect(leaf: number, operands: Operands = {}): Result {
    const result = this.call(leaf, operands);
    if (result.rax !== 0n) throw new Error(`leaf ${leaf}: ${result.name}`);
    return result;
  }
}
