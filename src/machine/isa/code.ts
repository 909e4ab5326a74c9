/**
 * Statement recorder and lowering.
 *
 * Rule for authors: **an expression has the value it had where it was written**, whatever is assigned later.
 * The recorder keeps that rule with as few temporaries as it can: a node used once is emitted at its use, a node used
 * more often is computed once, and a pending read of state is saved just before that state is overwritten.
 */
import { Bytes, I32, I64, V128, type ValType, VOID } from '../engine/wasm.ts';
import { ALIAS, type Bits, BYTES, CALL, CONST, constantValue, Expr, LOCAL, STATE, tick, type Width } from './expr.ts';

type Stmt =
  | { kind: 'let'; id: number; value: Expr; local: number; op: number; offset: number }
  | { kind: 'assign'; id: number; key: number; value: Expr; before: (() => void) | null; after: () => void }
  | { kind: 'store'; id: number; address: Expr; value: Expr; op: number; offset: number }
  | { kind: 'bulk'; id: number; host: Expr<32>; from: Expr<32>; bytes: Expr<32>; opcode: number }
  | { kind: 'if'; id: number; condition: Expr; then: Stmt[]; otherwise: Stmt[] | null; unlikely: boolean }
  | { kind: 'loop'; id: number; label: string; body: Stmt[] }
  | { kind: 'raw'; id: number; value: Expr | null; emit: () => void };

/** Wasm load and store opcodes by width; vectors carry the SIMD prefix in the high byte. */
export const LOAD: Record<Width | 128, number> = { 8: 0x2d, 16: 0x2f, 32: 0x28, 64: 0x29, 128: 0xfd00 };
export const STORE: Record<Width | 128, number> = { 8: 0x3a, 16: 0x3b, 32: 0x36, 64: 0x37, 128: 0xfd0b };
export type LoadWidth = Width | 128;
/** Bulk instructions, after the prefix FC. */
const MEMORY_COPY = 10;
const MEMORY_FILL = 11;
const ANY_STATE = -1;
/** Keys of mutable locals start here, above any back-end's. */
const VARIABLE_KEYS = 0x10000;

/** One wasm function under construction. */
export class Code {
  readonly out: Bytes;
  readonly locals: ValType[] = [];
  readonly labels: string[] = [];
  /** Where in `out` conditional branches are that are seldom taken. */
  readonly unlikely: number[] = [];
  readonly #params: number;
  #stmts: Stmt[] = [];
  #reads: Expr[] = [];
  #free: Record<ValType, number[]> = { [I32]: [], [I64]: [], [V128]: [] };
  #taken: [ValType, number][] = [];

  constructor(params: number, capacity = 4096) {
    this.#params = params;
    this.out = new Bytes(capacity);
  }

  // ---- recording

  newLocal(type: ValType): number {
    return this.#params + this.locals.push(type) - 1;
  }

  local<W extends Bits>(width: W, index: number): Expr<W> {
    return new Expr(width, LOCAL, index);
  }

  /** A read of mutable state; `key` says what may overwrite it (an assignment to the same key). */
  state<W extends Bits>(width: W, key: number, emitRead: () => void): Expr<W> {
    const node = new Expr(width, STATE, key, null, null, null, emitRead);
    this.#reads.push(node);
    return node;
  }

  assign(key: number, value: Expr, after: () => void, before: (() => void) | null = null): void {
    value.uses++;
    this.#stmts.push({ kind: 'assign', id: tick(), key, value, before, after });
  }

  /** Loads from linear memory, here and now. */
  load<W extends LoadWidth>(address: Expr<32>, width: W, offset = 0): Expr<W> {
    address.uses++;
    const local = this.#temp(width === 64 ? I64 : width === 128 ? V128 : I32);
    this.#stmts.push({ kind: 'let', id: tick(), value: address, local, op: LOAD[width], offset });
    return this.local(width, local);
  }

  /** Computes a value here and now. */
  let<W extends Bits>(value: Expr<W>): Expr<W> {
    if (value.op === CONST || value.op === LOCAL) return value;
    value.uses++;
    const local = this.#temp(value.type);
    this.#stmts.push({ kind: 'let', id: tick(), value, local, op: 0, offset: 0 });
    return this.local(value.width, local);
  }

  /** A mutable local, for loops inside one instruction. */
  variable<W extends Bits>(initial: Expr<W>): { get(): Expr<W>; set(value: Expr<W>): void } {
    const local = this.#temp(initial.type);
    const key = VARIABLE_KEYS + local;
    const { width } = initial;
    const set = (value: Expr<W>): void => this.assign(key, value, () => this.out.setLocal(local));
    set(initial);
    return { get: () => this.state(width, key, () => void this.out.getLocal(local)), set };
  }

  store(address: Expr<32>, value: Expr<LoadWidth>, offset = 0): void {
    address.uses++;
    value.uses++;
    this.#stmts.push({ kind: 'store', id: tick(), address, value, op: STORE[value.width as LoadWidth], offset });
  }

  /** Copies bytes as if the source were read first. */
  copyBytes(to: Expr<32>, from: Expr<32>, bytes: Expr<32>): void {
    this.#bulk(MEMORY_COPY, to, from, bytes);
  }
  /** Sets bytes to the low byte of a value. */
  fillBytes(to: Expr<32>, value: Expr<32>, bytes: Expr<32>): void {
    this.#bulk(MEMORY_FILL, to, value, bytes);
  }
  #bulk(opcode: number, host: Expr<32>, from: Expr<32>, bytes: Expr<32>): void {
    host.uses++;
    from.uses++;
    bytes.uses++;
    this.#stmts.push({ kind: 'bulk', id: tick(), host, from, bytes, opcode });
  }

  if(condition: Expr<1>, then: () => void, otherwise: (() => void) | null = null): void {
    this.#if(condition, then, otherwise, false);
  }

  /** An `if` that seldom holds: the engine that compiles the code is told so. */
  ifEver(condition: Expr<1>, then: () => void): void {
    this.#if(condition, then, null, true);
  }

  #if(condition: Expr<1>, then: () => void, otherwise: (() => void) | null, unlikely: boolean): void {
    const known = constantValue(condition);
    if (known !== null) return known ? then() : otherwise?.();
    condition.uses++;
    const id = tick();
    const thenStmts = this.#nested(then);
    this.#stmts.push({
      kind: 'if',
      id,
      condition,
      then: thenStmts,
      otherwise: otherwise === null ? null : this.#nested(otherwise),
      unlikely,
    });
  }

  loop(label: string, body: () => void): void {
    const id = tick();
    this.#stmts.push({ kind: 'loop', id, label, body: this.#nested(body) });
  }

  /** Control flow and other bytes the back-end writes itself, after pushing `value`. */
  raw(emit: () => void, value: Expr | null = null): void {
    if (value !== null) value.uses++;
    this.#stmts.push({ kind: 'raw', id: tick(), value, emit });
  }

  // ---- lowering

  /** Emits everything recorded so far; called between instructions. */
  flush(): void {
    const stmts = this.#stmts;
    this.#stmts = [];
    this.#lowerAll(stmts);
    this.#recycle();
  }

  /** Forgets everything recorded so far. */
  discard(): void {
    this.#stmts.length = 0;
    this.#recycle();
  }

  #recycle(): void {
    this.#reads.length = 0;
    for (const [type, local] of this.#taken) this.#free[type].push(local);
    this.#taken.length = 0;
  }

  push(node: Expr): void {
    node.uses--;
    const { out } = this;
    if (node.local >= 0) {
      out.getLocal(node.local);
      return;
    }
    switch (node.op) {
      case CONST:
        if (node.width === 64) out.i64(node.imm);
        else out.i32(node.imm as number);
        return;
      case LOCAL:
        out.getLocal(node.imm as number);
        return;
      case STATE:
        node.emitRead!();
        break;
      default:
        if (node.a !== null) this.push(node.a);
        if (node.b !== null) this.push(node.b);
        if (node.c !== null) this.push(node.c);
        if (node.op === CALL) out.call(node.imm as number);
        else if (node.op === BYTES) out.append(node.bytes!);
        else if (node.op !== ALIAS) out.u8(node.op);
    }
    if (node.uses > 0) out.teeLocal((node.local = this.#temp(node.type)));
  }

  block(opcode: 0x02 | 0x03 | 0x04, label: string, type: number = VOID): void {
    this.out.u8(opcode).u8(type);
    this.labels.push(label);
  }

  /** The conditional branch that is emitted next is seldom taken. */
  hintUnlikely(): void {
    this.unlikely.push(this.out.length);
  }

  end(): void {
    this.out.u8(0x0b);
    this.labels.pop();
  }

  depth(label: string): number {
    const at = this.labels.lastIndexOf(label);
    if (at < 0) throw new Error(`no label ${label}`);
    return this.labels.length - 1 - at;
  }

  br(label: string): void {
    this.out.u8(0x0c).unsigned(this.depth(label));
  }

  #nested(body: () => void): Stmt[] {
    const outer = this.#stmts;
    this.#stmts = [];
    body();
    const inner = this.#stmts;
    this.#stmts = outer;
    return inner;
  }

  #temp(type: ValType): number {
    const local = this.#free[type].pop() ?? this.newLocal(type);
    this.#taken.push([type, local]);
    return local;
  }

  #lowerAll(stmts: readonly Stmt[]): void {
    for (const stmt of stmts) this.#lower(stmt);
  }

  #lower(stmt: Stmt): void {
    const { out } = this;
    switch (stmt.kind) {
      case 'let':
        this.push(stmt.value);
        if (stmt.op !== 0) out.memory(stmt.op, stmt.offset);
        out.setLocal(stmt.local);
        return;
      case 'assign':
        stmt.before?.();
        this.push(stmt.value);
        this.#saveReads(stmt.key, stmt.id);
        stmt.after();
        return;
      case 'store':
        this.push(stmt.address);
        this.push(stmt.value);
        out.memory(stmt.op, stmt.offset);
        return;
      case 'bulk':
        this.push(stmt.host);
        this.push(stmt.from);
        this.push(stmt.bytes);
        out.u8(0xfc).unsigned(stmt.opcode).u8(0);
        if (stmt.opcode === MEMORY_COPY) out.u8(0);
        return;
      case 'if':
        this.#prepare([...stmt.then, ...(stmt.otherwise ?? [])], stmt.id);
        this.push(stmt.condition);
        if (stmt.unlikely) this.hintUnlikely();
        this.block(0x04, 'if');
        this.#lowerAll(stmt.then);
        if (stmt.otherwise !== null) {
          out.u8(0x05);
          this.#lowerAll(stmt.otherwise);
        }
        this.end();
        return;
      case 'loop':
        this.#prepare(stmt.body, stmt.id);
        this.block(0x03, stmt.label);
        this.#lowerAll(stmt.body);
        this.end();
        return;
      case 'raw':
        if (stmt.value !== null) this.push(stmt.value);
        stmt.emit();
    }
  }

  /** Keeps reads that were made before statement `id` but are still wanted after it overwrites their state. */
  #saveReads(key: number, id: number): void {
    for (const read of this.#reads) {
      if (read.id < id && read.uses > 0 && read.local < 0 && (read.imm === key || key === ANY_STATE))
        this.#materialise(read);
    }
  }

  #materialise(node: Expr): void {
    node.uses++;
    this.push(node);
    if (node.local < 0) this.out.setLocal((node.local = this.#temp(node.type)));
    else this.out.u8(0x1a);
  }

  /** Before a branch: computes what nested statements share with the code around them. */
  #prepare(stmts: readonly Stmt[], id: number): void {
    for (const stmt of stmts) {
      if (stmt.kind === 'assign') this.#saveReads(stmt.key, id);
      if (stmt.kind === 'if') {
        this.#prepare([...stmt.then, ...(stmt.otherwise ?? [])], id);
        this.#share(stmt.condition, id);
      } else if (stmt.kind === 'loop') this.#prepare(stmt.body, id);
      else if (stmt.kind === 'bulk') for (const node of [stmt.host, stmt.from, stmt.bytes]) this.#share(node, id);
      else if (stmt.value !== null) this.#share(stmt.value, id);
      if (stmt.kind === 'store') this.#share(stmt.address, id);
    }
  }

  #share(node: Expr, id: number): void {
    if (node.local >= 0 || node.op === CONST || node.op === LOCAL) return;
    if (node.id < id && (node.uses > 1 || node.op === STATE)) return this.#materialise(node);
    if (node.a !== null) this.#share(node.a, id);
    if (node.b !== null) this.#share(node.b, id);
    if (node.c !== null) this.#share(node.c, id);
  }
}
