/**
 * Delivery through the IDT, IRETQ, SYSCALL and SYSRET in 64-bit mode where everything is as usual: flat code at levels 0 and 3, no
 * IST, no trap, and TLB entries for tables and stacks at hand. All else is TypeScript's (processor/events, processor/transfer),
 * which would do the same.
 *
 * CS and SS are loaded by noting the descriptor: 64-bit code needs no more than the selector, and TypeScript takes over the rest
 * when it runs again (engine/loaded-segments.ts).
 */
import {
  ACCESS,
  BANK_AC_CLEAR,
  BANK_AC_SET,
  BANK_USER,
  CPL,
  CS,
  CS_DESCRIPTOR,
  DIRECTION,
  FLAGS_REST,
  FMASK,
  GDT_BASE,
  GDT_LIMIT,
  IDT_BASE,
  IDT_LIMIT,
  KEEPS_SEGMENTS,
  LOADED,
  LOADED_CS,
  LOADED_SS,
  LSTAR,
  NMI_BLOCKED,
  R11,
  RCX,
  RF_TIME,
  RSP,
  SEG_SELECTOR,
  SEGMENT_SIZE,
  SEGMENTS,
  SLOW,
  SLOW_FLAGS,
  SLOW_SUPERVISOR,
  SLOW_USER,
  SS,
  SS_DESCRIPTOR,
  STAR,
  TSS_BASE,
  TSS_LIMIT,
} from '../engine/layout.ts';
import type { Cpu } from './cpu.ts';
import {
  add,
  and,
  constant,
  type Expr,
  isZero,
  ltU,
  ne,
  or,
  sar,
  select,
  shl,
  shr,
  sub,
  truncate,
  u8,
  u32,
  u64,
  xor,
  zeroExtend,
} from './expr.ts';
import { flagsFromWord, STATUS } from './flags.ts';

const TF = 0x100;
const IF = 0x200;
const DF = 0x400;
const NT = 0x4000;
const RF = 0x10000;
const VM = 0x20000;
const AC = 0x40000;
/** Bits of RFLAGS that exist. */
const DEFINED = 0x3f7fd7;

const GATE_SIZE = 16;
/** Type, S and P of the upper word's access byte: interrupt and trap gates. */
const GATE_KIND = 0x9e;
const GATE = 0x8e;
/** Of a gate's upper half: what the type field of a 16-byte descriptor must have clear there. */
const GATE_RESERVED = 0x1f00;
/** Access rights in a descriptor: code that is not conforming, accessed, present, L and not D. DPL is added. */
const CODE_KIND = 0x60fd;
const CODE = 0x2099;
/** Data that is writable, accessed, present. */
const DATA_KIND = 0xfb;
const DATA = 0x93;
/** Offset of RSP0 in the TSS. */
const RSP0 = 4;
/** RIP, CS, RFLAGS, RSP, SS; and an error code. */
const FRAME = 40;
const FRAME_WITH_ERROR = 48;

/** What SYSCALL and SYSRET load, without DPL: flat. */
const FLAT_CODE = 0x00af_9b00_0000_ffffn;
const FLAT_DATA = 0x00cf_9300_0000_ffffn;
const LEVEL_3 = 3n << 45n;

const selectorAt = (n: number): number => SEGMENTS + n * SEGMENT_SIZE + SEG_SELECTOR;
const rest = (cpu: Cpu): Expr<32> => cpu.state(FLAGS_REST, 32);
const has = (word: Expr<32>, bits: number): Expr<1> => ne(and(word, u32(bits)), u32(0));

/** Leaves for addresses that are not canonical with 48 bits. */
function mustBeCanonical(cpu: Cpu, address: Expr<64>): void {
  cpu.assistIf(ne(sar(shl(address, u8(16)), u8(16)), address));
}

/** Leaves for levels 1 and 2. */
function mustBeOuterOrInner(cpu: Cpu, level: Expr<32>): void {
  cpu.assistIf(has(add(level, u32(1)), 2));
}

/** The bank of implicit supervisor accesses, to which RFLAGS.AC does not matter. */
function implicitBank(cpu: Cpu): Expr<32> {
  const bank = cpu.code.let(cpu.state(BANK_AC_CLEAR, 32));
  cpu.assistIf(isZero(bank));
  return bank;
}

/** The descriptor of a selector of the GDT, with access rights of a kind. */
function descriptorOf(cpu: Cpu, bank: Expr<32>, selector: Expr<32>, mask: number, kind: Expr<32>): Expr<64> {
  const { code } = cpu;
  cpu.assistIf(has(selector, 4));
  const offset = code.let(and(selector, u32(0xfff8)));
  cpu.assistIf(isZero(offset));
  cpu.assistIf(ltU(cpu.state(GDT_LIMIT, 32), add(offset, u32(7))));
  const at = cpu.atHand(add(cpu.state(GDT_BASE, 64), zeroExtend(offset, 64)), u64(8), ACCESS.read, bank);
  const descriptor = code.load(at, 64);
  cpu.assistIf(ne(and(truncate(shr(descriptor, u8(40)), 32), u32(mask)), kind));
  return descriptor;
}

/** Loads a segment register. All checks have been made. */
function load(cpu: Cpu, n: typeof CS | typeof SS, selector: Expr<32>, descriptor: Expr<64>): void {
  cpu.setState(selectorAt(n), truncate(selector, 16));
  cpu.setState(n === CS ? CS_DESCRIPTOR : SS_DESCRIPTOR, descriptor);
  cpu.setState(LOADED, or(cpu.state(LOADED, 32), u32(n === CS ? LOADED_CS : LOADED_SS)));
}

/** Goes to another privilege level. */
function changeLevel(cpu: Cpu, level: 0 | 3, bank: Expr<32>): void {
  const window = and(cpu.state(SLOW_FLAGS, 32), u32(SLOW.interruptWindow));
  cpu.setState(SLOW_FLAGS, or(cpu.state(level === 0 ? SLOW_SUPERVISOR : SLOW_USER, 32), window));
  cpu.setState(CPL, u32(level));
  cpu.switchBank(bank);
}

/** Replaces RFLAGS by a word without VM and RF. */
function loadFlags(cpu: Cpu, word: Expr<32>): void {
  cpu.setState(FLAGS_REST, or(and(word, u32(DEFINED & ~STATUS & ~RF & ~VM)), u32(2)));
  cpu.setState(DIRECTION, select(has(word, DF), u64(-1), u64(1)));
  cpu.setFlags(flagsFromWord(and(word, u32(STATUS))));
}

/** The bank for a supervisor with this RFLAGS. */
function supervisorBank(cpu: Cpu, flags: Expr<32>): Expr<32> {
  const bank = cpu.code.let(select(has(flags, AC), cpu.state(BANK_AC_SET, 32), cpu.state(BANK_AC_CLEAR, 32)));
  cpu.assistIf(isZero(bank));
  return bank;
}

/** An event as `deliver` takes it. */
export interface Delivery {
  readonly vector: Expr<32>;
  /** Whether an error code is pushed, and which. */
  readonly hasError: Expr<1>;
  readonly error: Expr<32>;
  /** The gate's DPL has to allow it. */
  readonly isChecked: Expr<1>;
  /** Return address, and the RFLAGS image to push. */
  readonly rip: Expr<64>;
  readonly flags: Expr<32>;
}

/**
 * Delivers an event; the caller goes to the address that is returned.
 * @sdm "64-Bit Mode Exception and Interrupt Handling"
 */
export function deliver(cpu: Cpu, { vector, hasError, error, isChecked, rip, flags }: Delivery): Expr<64> {
  const { code } = cpu;
  const cpl = code.let(cpu.state(CPL, 32));
  mustBeOuterOrInner(cpu, cpl);
  const tables = implicitBank(cpu);

  const entry = code.let(shl(vector, u8(Math.log2(GATE_SIZE))));
  cpu.assistIf(ltU(cpu.state(IDT_LIMIT, 32), add(entry, u32(GATE_SIZE - 1))));
  const gate = cpu.atHand(add(cpu.state(IDT_BASE, 64), zeroExtend(entry, 64)), u64(GATE_SIZE), ACCESS.read, tables);
  const low = code.load(gate, 32);
  const middle = code.load(gate, 32, 4);
  const high = code.load(gate, 32, 8);
  cpu.assistIf(and(isChecked, ltU(and(shr(middle, u8(13)), u32(3)), cpl)));
  cpu.assistIf(ne(and(middle, u32((GATE_KIND << 8) | 7)), u32(GATE << 8)));
  cpu.assistIf(has(code.load(gate, 32, 12), GATE_RESERVED));
  const offset = or(and(low, u32(0xffff)), and(middle, u32(0xffff_0000)));
  const target = code.let(or(zeroExtend(offset, 64), shl(zeroExtend(high, 64), u8(32))));
  mustBeCanonical(cpu, target);
  const selector = code.let(and(shr(low, u8(16)), u32(0xfffc)));
  // The TI bit must be clear, so the RPL is all that goes.
  const descriptor = descriptorOf(cpu, tables, selector, CODE_KIND, u32(CODE));

  const top = code.variable(cpu.gpr64(RSP));
  const bank = code.variable(cpu.currentBank());
  const old = code.let(rest(cpu));
  const inner = code.let(ne(cpl, u32(0)));
  cpu.if(inner, () => {
    cpu.assistIf(ltU(cpu.state(TSS_LIMIT, 32), u32(RSP0 + 7)));
    const at = cpu.atHand(add(cpu.state(TSS_BASE, 64), u64(RSP0)), u64(8), ACCESS.read, tables);
    const stack = code.load(at, 64);
    mustBeCanonical(cpu, stack);
    top.set(stack);
    bank.set(supervisorBank(cpu, old));
  });
  const size = code.let(select(hasError, u64(FRAME_WITH_ERROR), u64(FRAME)));
  const start = code.let(sub(and(top.get(), u64(-16)), size));
  const to = code.variable(cpu.atHand(start, size, ACCESS.write, bank.get()));

  // all checks passed
  cpu.if(hasError, () => {
    cpu.storeAt(to.get(), zeroExtend(error, 64));
    to.set(add(to.get(), u32(8)));
  });
  const frame = code.let(to.get());
  const words = [rip, cpu.state(selectorAt(CS), 16), flags, cpu.gpr64(RSP), cpu.state(selectorAt(SS), 16)];
  for (const [i, word] of words.entries()) code.store(frame, zeroExtend(word, 64), i * 8);
  cpu.setGpr(RSP, start);
  // A trap gate leaves IF alone.
  const masked = select(has(middle, 0x100), u32(0), u32(IF));
  cpu.setState(FLAGS_REST, and(old, xor(or(masked, u32(TF | NT | RF | VM)), u32(-1))));
  const changes = or(
    ne(descriptor, cpu.state(CS_DESCRIPTOR, 64)),
    ne(truncate(selector, 16), cpu.state(selectorAt(CS), 16)),
  );
  cpu.if(changes, () => load(cpu, CS, selector, descriptor));
  cpu.if(inner, () => {
    load(cpu, SS, u32(0), u64(0));
    changeLevel(cpu, 0, bank.get());
  });
  return target;
}

/** IRETQ from level 0 to level 0 or 3, with a few flags changed. @sdm IRET/IRETD/IRETQ—Interrupt Return */
export function returnFromEvent(cpu: Cpu): void {
  const { code } = cpu;
  if (cpu.operandSize !== 64) return cpu.assist();
  cpu.assistIfSlow(SLOW.interruptFlag | SLOW.interruptWindow);
  cpu.assistIf(ne(cpu.state(NMI_BLOCKED, 16), constant(16, 0)));
  const frame = cpu.atHand(cpu.gpr64(RSP), u64(FRAME), ACCESS.read);
  const rip = code.load(frame, 64);
  const cs = zeroExtend(code.load(frame, 16, 8), 32);
  const image = code.load(frame, 32, 16);
  const rsp = code.load(frame, 64, 24);
  const ss = zeroExtend(code.load(frame, 16, 32), 32);
  mustBeCanonical(cpu, rip);
  const old = code.let(rest(cpu));
  cpu.assistIf(has(old, NT | TF));
  cpu.assistIf(has(xor(old, image), DEFINED & ~(STATUS | IF | DF | RF)));

  const level = code.let(and(cs, u32(3)));
  mustBeOuterOrInner(cpu, level);
  const dpl = code.let(shl(level, u8(5)));
  const tables = implicitBank(cpu);
  const codeDescriptor = descriptorOf(cpu, tables, cs, CODE_KIND, or(dpl, u32(CODE)));
  const outer = code.let(ne(level, u32(0)));
  const stackDescriptor = code.variable(u64(0));
  cpu.if(
    ne(ss, u32(0)),
    () => {
      cpu.assistIf(ne(and(ss, u32(3)), level));
      stackDescriptor.set(descriptorOf(cpu, tables, ss, DATA_KIND, or(dpl, u32(DATA))));
    },
    () => cpu.assistIf(outer),
  );
  const user = code.let(cpu.state(BANK_USER, 32));
  cpu.if(outer, () => {
    // Alignment checks may come into force.
    cpu.assistIf(has(image, AC));
    cpu.assistIf(isZero(user));
    cpu.assistIf(isZero(cpu.state(KEEPS_SEGMENTS, 32)));
  });

  // all checks passed
  const now = code.let(truncate(cpu.timestamp(), 32));
  cpu.if(has(image, RF), () => cpu.setState(RF_TIME, now));
  loadFlags(cpu, image);
  cpu.setGpr(RSP, rsp);
  const changes = or(
    or(ne(codeDescriptor, cpu.state(CS_DESCRIPTOR, 64)), ne(stackDescriptor.get(), cpu.state(SS_DESCRIPTOR, 64))),
    or(ne(truncate(cs, 16), cpu.state(selectorAt(CS), 16)), ne(truncate(ss, 16), cpu.state(selectorAt(SS), 16))),
  );
  cpu.if(changes, () => {
    load(cpu, CS, cs, codeDescriptor);
    load(cpu, SS, ss, stackDescriptor.get());
  });
  cpu.if(outer, () => changeLevel(cpu, 3, user));
  cpu.jumpTo(rip);
}

/** @sdm SYSCALL—Fast System Call */
export function systemCall(cpu: Cpu): void {
  const { code } = cpu;
  cpu.assistIfSlow(SLOW.systemCall);
  cpu.assistIf(isZero(cpu.state(CPL, 32)));
  const old = code.let(or(rest(cpu), cpu.statusWord()));
  const now = code.let(and(old, xor(truncate(cpu.state(FMASK, 64), 32), u32(-1))));
  const bank = supervisorBank(cpu, now);

  // all checks passed
  const selector = code.let(and(truncate(shr(cpu.state(STAR, 64), u8(32)), 32), u32(0xffff)));
  cpu.setGpr(RCX, cpu.nextRip());
  cpu.setGpr(R11, zeroExtend(and(old, u32(~RF)), 64));
  loadFlags(cpu, now);
  load(cpu, CS, and(selector, u32(0xfffc)), u64(FLAT_CODE));
  load(cpu, SS, and(add(selector, u32(8)), u32(0xfffc)), u64(FLAT_DATA));
  changeLevel(cpu, 0, bank);
  cpu.jumpTo(cpu.state(LSTAR, 64));
}

/** To 64-bit code. @sdm SYSRET—Return From Fast System Call */
export function systemReturn(cpu: Cpu): void {
  const { code } = cpu;
  if (cpu.operandSize !== 64) return cpu.assist();
  cpu.assistIfSlow(SLOW.systemCall | SLOW.interruptFlag | SLOW.interruptWindow);
  const target = code.let(cpu.gpr64(RCX));
  mustBeCanonical(cpu, target);
  const image = code.let(cpu.gpr(R11, 32));
  // Alignment checks may come into force with AC.
  cpu.assistIf(has(image, TF | AC));
  const bank = code.let(cpu.state(BANK_USER, 32));
  cpu.assistIf(isZero(bank));

  // all checks passed
  const selector = code.let(truncate(shr(cpu.state(STAR, 64), u8(48)), 32));
  loadFlags(cpu, image);
  load(cpu, CS, or(and(add(selector, u32(16)), u32(0xfffc)), u32(3)), u64(FLAT_CODE | LEVEL_3));
  load(cpu, SS, or(and(add(selector, u32(8)), u32(0xfffc)), u32(3)), u64(FLAT_DATA | LEVEL_3));
  changeLevel(cpu, 3, bank);
  cpu.jumpTo(target);
}

/** INT n and INT3. @sdm INT n/INTO/INT3/INT1—Call to Interrupt Procedure */
export function softwareInterrupt(cpu: Cpu, vector: Expr<32>): void {
  // Outside 64-bit mode no bank is known for the handler's code.
  if (!cpu.mode64) return cpu.assist();
  const none = constant(1, 0);
  const target = deliver(cpu, {
    vector,
    hasError: none,
    error: u32(0),
    isChecked: constant(1, 1),
    rip: cpu.nextRip(),
    flags: cpu.code.let(or(rest(cpu), cpu.statusWord())),
  });
  cpu.jumpTo(target);
}
