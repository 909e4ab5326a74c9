/**
 * The scene of the attacks: a host that does what it likes, a TD that it attacks, and another TD that must not notice.
 *
 * Both TDs run a small server: on each entry it counts, reads its secret, carries out what the host asked for last, and
 * calls the host again. What the host asks for is how an attack has the guest touch what it tampered with.
 */

import type { Operands } from '../../src/tdx-module/testing/test-host.ts';
import type { Hpa } from '../../src/util/address.ts';
import { DATA, loadProgram } from '../tdx/guest-program.ts';
import { type Exit, TDH, type Td, TdHost, type TdOptions, type Vcpu } from '../tdx/td-builder.ts';

export { DATA, TDH };

/** What the TDs keep to themselves. */
export const SECRET = 0x5ec2_e7a7_1e57_0001n;
/** A page of the TD that holds nothing but a pattern, and what it holds. */
export const PAGE = 0x9000;
export const PATTERN = 0x0123_4567_89ab_cdefn;
/** Guest-physical addresses where nothing is at first. */
export const NOWHERE = 0xa000;

const REASON_TDCALL = 77;
const CALL_NUMBER = 0x7777n;

/** What the server does for the host: RBX of the answer to its call; RSI and RDX are operands. */
export const ASK = { NOTHING: 0n, READ: 1n, ACCEPT: 2n, WRITE: 3n, CPUID: 4n, RDMSR: 5n, INFO: 6n, WAIT: 7n } as const;

const SERVER = `
        mov r13, 0
        mov r14, 0
    serve:
        inc qword [${DATA + 8}]
        mov rdi, [${DATA + 8}]
        mov r12, [${DATA}]
        mov r11, ${CALL_NUMBER}
        xor r10d, r10d
        xor eax, eax
        mov ecx, 0xffcc
        tdcall
        xor r14d, r14d
        xor r13d, r13d
        lea r15, [rel serve]
        cmp bl, 1
        je read
        cmp bl, 2
        je accept
        cmp bl, 3
        je write
        cmp bl, 4
        je identify
        cmp bl, 5
        je rdmsr
        cmp bl, 6
        je info
        cmp bl, 7
        je wait
        jmp serve
    read:
        mov r13, [rsi]
        jmp serve
    accept:
        mov eax, 6
        mov rcx, rsi
        tdcall
        mov r13, rax
        jmp serve
    write:
        mov [rsi], rdx
        jmp serve
    identify:
        mov eax, esi
        mov ecx, edx
        cpuid
        mov r13d, eax
        shl rbx, 32
        or r13, rbx
        shl rdx, 32
        mov r14d, ecx
        or r14, rdx
        jmp serve
    rdmsr:
        mov ecx, esi
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov r13, rax
        jmp serve
    info:
        mov eax, 1
        tdcall
        mov r13, rdx
        jmp serve
    wait:
        sti
        mov ecx, 20000
    waiting:
        loop waiting
        cli
        jmp serve
    ve: mov eax, 3
        tdcall
        mov r14, rcx
        mov [rsp], r15
        iretq
    fault_with_code:
        add rsp, 8
        mov r14, 13
        mov [rsp], r15
        iretq
    fault:
        mov r14, 6
        mov [rsp], r15
        iretq
    interrupt:
        mov r14, 0x100
        iretq
`;
const HANDLERS = { 6: 'fault', 13: 'fault_with_code', 14: 'fault_with_code', 20: 've' } as const;

/** What the server told. */
export interface Answer {
  /** Whether it called the host as it always does. */
  readonly called: boolean;
  readonly secret: bigint;
  readonly count: bigint;
  /** What the asked operation gave, and the vector or #VE reason if it faulted. */
  readonly result: bigint;
  readonly fault: bigint;
  readonly exit: Exit;
}

/** A TD with the server in it. */
export class Server {
  readonly td: Td;
  readonly vcpu: Vcpu;
  /** Where its pages are. */
  readonly data: Hpa;
  readonly page: Hpa;
  #count = 0n;

  constructor(host: TdHost, options: TdOptions = {}, finalize = true) {
    this.td = host.createTd(options);
    loadProgram(this.td, SERVER, HANDLERS);
    this.page = this.td.addPage(PAGE, new Uint8Array(new BigUint64Array(512).fill(PATTERN).buffer));
    this.vcpu = this.td.createVcpu();
    if (finalize) this.td.finalize();
    this.data = pageOf(this.td, DATA);
  }

  /** Enters; the server does what it is asked, and calls. */
  ask(what: bigint, rsi: bigint | number = 0n, rdx = 0n, cpu = 0): Answer {
    const exit = this.vcpu.enter({ rbx: what, rsi: BigInt(rsi), rdx }, cpu);
    const called = exit.status === 'TDX_SUCCESS' && exit.reason === REASON_TDCALL && exit.r11 === CALL_NUMBER;
    return { called, secret: exit.r12, count: exit.rdi, result: exit.r13, fault: exit.r14, exit };
  }

  /** Starts it, with its secret. */
  start(): this {
    this.#must(this.ask(ASK.NOTHING));
    this.#must(this.ask(ASK.WRITE, DATA, SECRET));
    if (!this.goesOn()) throw new Error('the server does not serve');
    return this;
  }

  #must({ called, count, exit }: Answer): void {
    if (!called) throw new Error(`the server does not call: ${exit.status} ${exit.reason} ${exit.r8.toString(16)}`);
    this.#count = count;
  }

  /** Whether it is as it was: counts on, and has its secret and its page. If it does not run it may wait for the host. */
  condition(cpu = 0): 'goes on' | 'waits' | 'fooled' {
    const { called, secret, count, result } = this.ask(ASK.READ, PAGE, 0n, cpu);
    if (!called) return 'waits';
    const fine = secret === SECRET && count > this.#count && result === PATTERN;
    this.#count = count;
    return fine ? 'goes on' : 'fooled';
  }
  goesOn(cpu = 0): boolean {
    return this.condition(cpu) === 'goes on';
  }

  /** Whether the module holds it for dead. */
  get dead(): boolean {
    return this.td.host.status(TDH.VP_ENTER, { rcx: this.vcpu.tdvpr }) === 'TDX_TD_FATAL';
  }
}

/** HPA of a page of a TD. */
export function pageOf(td: Td, gpa: number): Hpa {
  return Number(td.expect(TDH.MEM_SEPT_RD, { rcx: gpa }).rcx & 0xf_ffff_ffff_f000n);
}

/** What became of the TD under attack. */
export type Fate = 'goes on' | 'dies' | 'waits' | 'fooled';

/** Where attacks happen. */
export interface Scene {
  /** Whether another attack fits. */
  readonly hasRoom: boolean;
  /** The attempt is over. @returns what became of the victim, null if there was none */
  release(): Fate | null | Promise<Fate | null>;
  /** Whether the others did not notice. */
  othersGoOn(): boolean | Promise<boolean>;
}

/** One attempt. */
export interface Attack<S extends Scene = Lab> {
  readonly name: string;
  /** What must come of it, word for word. */
  readonly must: string;
  /**
   * What becomes of the attacked TD: it goes on (if nothing is said), dies, or waits for what the host took from it. It is
   * never fooled.
   */
  readonly then?: 'dies' | 'waits';
  run(scene: S): string | Promise<string>;
}

/** Attempts of one kind. */
export interface Family<S extends Scene = Lab> {
  readonly name: string;
  readonly attacks: readonly Attack<S>[];
}

/** How many TDs an attack may make beside the victim. */
const ROOM = 6;

export class Lab implements Scene {
  readonly host: TdHost;
  readonly bystander: Server;
  #victim: Server | null = null;

  constructor() {
    this.host = new TdHost(2);
    this.bystander = new Server(this.host).start();
  }

  /** Whether another victim fits. */
  get hasRoom(): boolean {
    return this.host.hasRoom && [...this.host.module.tds].length < 30 - ROOM;
  }

  /** The TD under attack; a new one for each attempt. */
  get victim(): Server {
    return (this.#victim ??= new Server(this.host).start());
  }
  /** The attempt is over. @returns what became of the victim, if there was one */
  release(): Fate | null {
    this.host.module.hooks.lockHeld = () => false;
    const victim = this.#victim;
    this.#victim = null;
    if (victim === null) return null;
    return victim.dead ? 'dies' : victim.condition();
  }

  othersGoOn(): boolean {
    return this.bystander.goesOn();
  }

  status(leaf: number, operands: Operands = {}): string {
    return this.host.status(leaf, operands);
  }
  /** Status of a leaf on the victim. */
  onVictim(leaf: number, operands: Operands = {}): string {
    return this.host.status(leaf, { rdx: this.victim.td.tdr, ...operands });
  }
  /** A page of the host's. */
  page(): Hpa {
    return this.host.page();
  }
  /** Stores as the host's software does. */
  write(hpa: Hpa, value: bigint): void {
    this.host.memory.write64(hpa, value);
  }
  read(hpa: Hpa): bigint {
    return this.host.memory.read64(hpa);
  }

  /** Blocks, tracks and removes a page of the victim. @returns what each answered */
  takePage(gpa: number): string[] {
    return [
      this.onVictim(TDH.MEM_RANGE_BLOCK, { rcx: gpa }),
      this.status(TDH.MEM_TRACK, { rcx: this.victim.td.tdr }),
      this.onVictim(TDH.MEM_PAGE_REMOVE, { rcx: gpa }),
    ];
  }
}

/** What an exit is, for people and for `must`. */
export const exitName = ({ status, reason }: Exit): string => `${status} exit ${reason}`;
