import { describe, expect, test } from 'vitest';
import '../../handlers.ts';
import { Random } from '../../../util/random.ts';
import { decode } from '../../isa/decode.ts';
import { ASSIST } from '../../isa/row.ts';
import { runProcessor } from '../../run.ts';
import { TestProcessor } from '../../system/test-processor.ts';
import { MXCSR, XMM } from '../layout.ts';
import { translatorDefaults } from './defaults.ts';
import { effectsOf } from './probe.ts';
import { translatable } from './region.ts';

const CODE = 0x6000,
  CODE_END = 0x8000,
  DATA = 0x2_0000,
  STACK = 0x8_0000;
/** RSP, RSI and RDI: what random instructions leave alone. */
const POINTERS = 0xd0;

/** A random instruction without control flow that stays in the data page, or null. */
function randomInsn(random: Random): Uint8Array | null {
  const bytes = Uint8Array.from({ length: 16 }, () => random.u32() & 0xff);
  let at = 0;
  if (random.u32() % 6 === 0) bytes[at++] = 0x66;
  if (random.u32() % 3 !== 0) bytes[at++] = 0x40 | (random.u32() & 15);
  if (random.u32() % 3 === 0) bytes[at++] = 0x0f;
  at++;
  // Memory operands: [RSI or RDI + disp8]; displacements of 32 bits are too wild.
  bytes[at] = random.u32() & 1 ? 0xc0 | bytes[at]! : 0x46 | (bytes[at]! & 0x38) | (random.u32() & 1);
  bytes[at + 1] = bytes[at + 1]! & 0xf0;
  const insn = decode(bytes, 0, bytes.length, 64);
  if (typeof insn === 'string' || !translatable(insn)) return null;
  const { operation } = insn.row;
  if (operation.flow !== 'next' || operation.semantics === ASSIST || operation.implicitMemory) return null;
  if (operation.unit === 'x87' || /DIV|MXCSR|^FX|^XSAVE|CLI|STI|BT/.test(operation.mnemonic)) return null;
  const { memory } = insn;
  if (memory !== null) {
    if (memory.index >= 0 || (memory.base !== 6 && memory.base !== 7) || memory.segment > 3) return null;
    if (memory.disp < -128 || memory.disp > 127) return null;
  }
  if (effectsOf(insn).writes & POINTERS) return null;
  return bytes.slice(0, insn.length);
}

/** A random walk over random blocks, which also writes into itself. */
function randomProgram(random: Random): { code: Uint8Array; starts: number[] } {
  const code = new Uint8Array(CODE_END - CODE).fill(0x90);
  const starts = [0];
  const jumps: number[] = [];
  const patches: number[] = [];
  const immediates: number[] = [];
  let at = 0;
  const emit = (...bytes: number[]): void => {
    code.set(bytes, at);
    at += bytes.length;
  };
  while (at < code.length - 100) {
    for (let n = random.u32() % 9; n >= 0; ) {
      const insn = randomInsn(random);
      if (insn === null) continue;
      emit(...insn);
      n--;
    }
    switch (random.u32() % 12) {
      case 0: // call
        emit(0xe8, 0, 0, 0, 0);
        jumps.push(at);
        break;
      case 1: // ret
        emit(0xc3);
        break;
      case 2: // jmp [rsp]
        emit(0xff, 0x24, 0x24);
        break;
      case 3: // jmp
        emit(0xe9, 0, 0, 0, 0);
        jumps.push(at);
        break;
      case 4: // add al, imm8: what is patched
        emit(0x04, 1);
        immediates.push(at - 1);
        break;
      case 5: // rdtsc, pushfq, popfq into nowhere in particular
        emit(0x0f, 0x31, 0x9c, 0x59);
        break;
      case 6:
        if (random.u32() % 4 === 0) {
          emit(0xc6, 0x05, 0, 0, 0, 0, random.u32() & 0xff); // mov byte [rip + d], imm8
          patches.push(at);
        }
        break;
      default: // jcc
        emit(0x0f, 0x80 | (random.u32() & 15), 0, 0, 0, 0);
        jumps.push(at);
    }
    starts.push(at);
  }
  emit(0xe9, 0, 0, 0, 0);
  jumps.push(at);
  const view = new DataView(code.buffer);
  // Near targets are likelier, so that regions have loops.
  for (const end of jumps) {
    const near = starts.filter((s) => Math.abs(s - end) < 200);
    const from = near.length > 0 && random.u32() & 1 ? near : starts;
    view.setInt32(end - 4, from[random.u32() % from.length]! - end, true);
  }
  for (const end of patches) {
    if (immediates.length > 0) view.setInt32(end - 5, immediates[random.u32() % immediates.length]! - end, true);
    else code.fill(0x90, end - 7, end);
  }
  return { code, starts };
}

function prepare(seed: number, threshold: number): TestProcessor {
  const before = { ...translatorDefaults };
  Object.assign(translatorDefaults, { mode: threshold === 0 ? 'off' : 'on', threshold });
  const t = new TestProcessor().longMode();
  Object.assign(translatorDefaults, before);
  const random = new Random(seed);
  const { code, starts } = randomProgram(random);
  const { memory } = t.machine;
  memory.writeBytes(CODE, code);
  for (let n = 0; n < 8192; n += 4) memory.write32(DATA + n, random.u32());
  // Returns beyond the last call go to some block.
  for (let n = 0; n < 0x8000; n += 8) memory.write64(STACK + n, BigInt(CODE + starts[random.u32() % starts.length]!));
  for (let r = 0; r < 16; r++) t.p.setGpr(r, (BigInt(random.u32()) << 32n) | BigInt(random.u32()));
  t.p.setGpr(4, BigInt(STACK));
  t.p.setGpr(6, BigInt(DATA + 0x400));
  t.p.setGpr(7, BigInt(DATA + 0xfe0));
  t.p.write32(MXCSR, 0x1f80);
  t.p.rip = BigInt(CODE);
  return t;
}

function state({ p, machine }: TestProcessor): unknown {
  const gprs = Array.from({ length: 16 }, (_, r) => p.gpr(r).toString(16));
  const vectors = Array.from({ length: 32 }, (_, n) => p.read64(XMM + n * 8).toString(16));
  let sum = 0;
  for (const at of [CODE, DATA])
    for (const byte of machine.memory.readBytes(at, 0x2000)) sum = (Math.imul(sum, 31) + byte) | 0;
  return { gprs, vectors, sum, rip: p.rip.toString(16), flags: p.rflags, now: machine.clock.now() };
}

describe('translated code does what the interpreter does, and stops where it stops', () => {
  test.each(Array.from({ length: 24 }, (_, seed) => [seed, [1, 2, 10, 40][seed % 4]!]))(
    'random program %i, threshold %i',
    (seed, threshold) => {
      const plain = prepare(seed, 0);
      const translated = prepare(seed, threshold);
      const { translator } = translated.machine.engine;
      translator!.batch = 1 + (seed % 5);
      if (seed % 4 === 0) translator!.maxRegions = 20;
      translator!.structured = seed % 3 !== 2;
      const random = new Random(seed + 1000);
      for (let slice = 0; slice < 100; slice++) {
        const length = 1 + (random.u32() % (slice % 10 === 9 ? 5000 : 300));
        for (const t of [plain, translated]) runProcessor(t.p, t.machine.clock.now() + length);
        expect(state(translated)).toEqual(state(plain));
      }
      expect(plain.machine.clock.now()).toBeGreaterThan(10_000);
      expect(translator!.stats.regions).toBeGreaterThan(0);
    },
    60_000,
  );
});
