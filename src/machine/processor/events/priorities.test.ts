/**
 * What comes first where several events want to be delivered at one instruction boundary, or one instruction could fault in
 * several ways. @sdm "Priority Among Concurrent Events"
 */
import { describe, expect, it, test } from 'vitest';
import { FCW, FSW, RAX, RDI, RSI } from '../../engine/layout.ts';
import { assemble } from '../../isa/assembler/assemble.ts';
import { AC, DB, GP, MF, NM, NMI, PF, SS_FAULT, UD } from '../../outcome.ts';
import {
  BLOCKED_BY_MOV_SS,
  CR0_AM,
  CR0_EM,
  CR0_MP,
  CR0_NE,
  CR0_TS,
  CR4_DE,
  CR4_OSFXSR,
  FLAG_AC,
  FLAG_IF,
  FLAG_TF,
} from '../../processor.ts';
import { runProcessor, STOP } from '../../run.ts';
import { privilegeChanged } from '../rip.ts';
import { updateSlowFlags } from '../slow-flags.ts';
import { CODE, DATA, Lab, SEL } from '../testing/lab.ts';

const HANDLERS = 0xa000;
const HANDLER_SIZE = 0x80;
const LOG = 0xe000;
const VECTOR = 0x51;
/** In a page that is not there. */
const NOWHERE = 0x4000_0000n;
/** The end of what is mapped. */
const END = 0x100_0000;

/**
 * Runs code to its HLT, or until a fault. Handlers write vector and DR6 down, clear DR6, set RF in the frame and return;
 * those of faults that would repeat themselves end the run.
 */
function run(source: string, prepare: (l: Lab) => void, cpl: 0 | 3 = 0): string[] {
  const l = new Lab('long', cpl);
  const { p, machine } = l;
  p.cr0 |= CR0_NE | CR0_MP;
  p.cr4 |= CR4_DE | CR4_OSFXSR;
  const put = (at: number, text: string): void =>
    machine.memory.writeBytes(at, assemble(`bits 64\norg ${at}\n${text}`).bytes);
  for (const vector of [DB, NMI, UD, NM, SS_FAULT, GP, PF, MF, AC, VECTOR]) {
    const at = HANDLERS + vector * HANDLER_SIZE;
    l.idt(vector, { selector: SEL.code64, offset: BigInt(at), type: 14, dpl: 3 });
    const returns = vector === DB || vector === NMI || vector === VECTOR;
    // Past an instruction breakpoint by RF, and no further steps.
    const restart = `mov rax, dr6
       mov [rsi+1], ax
       test al, 1
       jz further
       or dword [rsp+24], 0x10000
     further:
       and dword [rsp+24], 0xfffffeff
       mov eax, 0xffff0ff0
       mov dr6, rax`;
    put(
      at,
      `push rax
       mov byte [rsi], ${vector}
       mov word [rsi+1], 0
       ${vector === DB ? restart : ''}
       add rsi, 4
       pop rax
       ${returns ? 'iretq' : 'hlt'}`,
    );
  }
  put(CODE, source);
  p.setGpr(RSI, BigInt(LOG));
  p.setGpr(RDI, BigInt(DATA));
  p.dr6 = 0xffff_0ff0;
  prepare(l);
  updateSlowFlags(p);
  privilegeChanged(p);
  expect(runProcessor(p, machine.clock.now() + 10_000)).toBe(STOP.idle);
  const seen: string[] = [];
  for (let at = LOG; at < Number(p.gpr(RSI)); at += 4) {
    const bits = machine.memory.read16(at + 1) & 0xe00f;
    seen.push(`${machine.memory.read8(at)}${bits === 0 ? '' : `:${bits.toString(16)}`}`);
  }
  return seen;
}

/** Breakpoint 0: an instruction. */
const breakAt = (l: Lab, offset: number): void => {
  l.p.dr[0] = BigInt(CODE + offset);
  l.p.dr7 = 0x402;
};
/** Breakpoint 1: data written at RDI. */
const watch = (l: Lab): void => {
  l.p.dr[1] = BigInt(DATA);
  l.p.dr7 |= 0x408 | (0xd << 20);
};
const interrupt = (l: Lab): void => {
  const { p } = l;
  p.apic.mmioWrite(0xf0, 4, 0x1ff);
  p.apic.accept(0, VECTOR, false);
};

// What is delivered first is on top of the stack last: its handler runs after those of the events behind it.
describe('at one boundary', () => {
  it('one #DB tells of a data breakpoint and the single step', () => {
    const seen = run('mov [rdi], eax\nhlt', (l) => {
      watch(l);
      l.p.rflags |= FLAG_TF;
    });
    expect(seen).toEqual(['1:4002']);
  });

  it('traps of the instruction before, then an NMI, then an interrupt, then a breakpoint on the next', () => {
    // The shadow lets all of them arrive at the boundary behind the store.
    const seen = run('mov [rdi], eax\nnop\nhlt', (l) => {
      watch(l);
      l.p.dr[0] = BigInt(CODE + 2);
      l.p.dr7 |= 2;
      l.p.rflags |= FLAG_IF;
      l.p.interruptShadow = BLOCKED_BY_MOV_SS;
      l.p.nmiPending = true;
      interrupt(l);
    });
    // The NMI came at the first instruction of the trap's handler, the interrupt when that returned.
    expect(seen).toEqual([`${NMI}`, `${DB}:2`, `${VECTOR}`, `${DB}:1`]);
  });

  it('an NMI comes before an instruction breakpoint', () => {
    const seen = run('nop\nhlt', (l) => {
      breakAt(l, 0);
      l.p.nmiPending = true;
      l.p.eventsPending = true;
    });
    expect(seen).toEqual(['2', '1:1']);
  });

  it('the single step of one instruction comes before the breakpoint on the next', () => {
    const seen = run('nop\nnop\nhlt', (l) => {
      breakAt(l, 1);
      l.p.rflags |= FLAG_TF;
    });
    expect(seen).toEqual(['1:4000', '1:1']);
  });

  it('an instruction breakpoint comes before the faults of fetching, decoding and executing', () => {
    for (const [source, vector] of [
      ['ud2', UD],
      [`mov eax, [${NOWHERE}]`.replace('n', ''), PF],
    ] as const) {
      expect(run(source, (l) => breakAt(l, 0))).toEqual(['1:1', `${vector}`]);
    }
    const fetch = run(`jmp rax`, (l) => {
      l.p.setGpr(RAX, NOWHERE);
      l.p.dr[0] = NOWHERE;
      l.p.dr7 = 0x402;
    });
    expect(fetch).toEqual(['1:1', `${PF}`]);
  });

  it('behind MOV SS a breakpoint on the instruction is lost, and a data breakpoint of MOV SS waits', () => {
    const seen = run('mov ss, [rdi]\nnop\nhlt', (l) => {
      l.machine.memory.write16(DATA, SEL.data);
      l.p.dr[0] = BigInt(CODE + 2);
      l.p.dr[1] = BigInt(DATA);
      l.p.dr7 = 0x40a | (0x7 << 20);
    });
    expect(seen).toEqual(['1:2']);
  });
});

describe('one instruction', () => {
  it('whose bytes run into a page that is not there: #PF, unless it is too long before', () => {
    const at = (bytes: number[]) => (l: Lab) => {
      l.machine.memory.writeBytes(END - bytes.length, Uint8Array.from(bytes));
      l.p.setGpr(RAX, BigInt(END - bytes.length));
    };
    expect(run('jmp rax', at([0x0f]))).toEqual([`${PF}`]);
    expect(run('jmp rax', at(Array(14).fill(0x66)))).toEqual([`${PF}`]);
    expect(run('jmp rax', at(Array(15).fill(0x66)))).toEqual([`${GP}`]);
    expect(run('jmp rax', at([0xf0, 0x0f]))).toEqual([`${PF}`]);
  });

  test.each<[string, string, (l: Lab) => void, number]>([
    ['LOCK is refused before CR0.TS is looked at', 'db 0xf0\nfld1', (l) => (l.p.cr0 |= CR0_TS), UD],
    ['SSE with CR0.EM: undefined before not available', 'addps xmm0, xmm1', (l) => (l.p.cr0 |= CR0_EM | CR0_TS), UD],
    ['x87 with CR0.EM: not available', 'fld1', (l) => (l.p.cr0 |= CR0_EM), NM],
    ['not available before the operand', `fld qword [rdi]`, (l) => (l.p.cr0 |= CR0_TS), NM],
    ['SSE not available before its operand is misaligned', 'addps xmm0, [rdi+1]', (l) => (l.p.cr0 |= CR0_TS), NM],
  ])('%s', (_name, source, prepare, vector) => {
    const seen = run(source, (l) => {
      l.p.setGpr(RDI, NOWHERE);
      prepare(l);
    });
    expect(seen).toEqual([`${vector}`]);
  });

  // As a processor does: a waiting instruction looks at pending exceptions before its operand.
  test.each([
    ['fld qword [rdi]', MF],
    ['fst qword [rdi]', MF],
    ['frstor [rdi]', MF],
    ['fldenv [rdi]', MF],
    ['movq mm0, [rdi]', MF],
    ['emms', MF],
    ['fnop', MF],
    ['fnstsw [rdi]', PF],
    ['fxrstor [rdi]', PF],
    ['ldmxcsr [rdi]', PF],
    ['db 0xd9, 0xd1', UD],
  ])('%s with a pending x87 exception', (source, vector) => {
    const seen = run(source, (l) => {
      l.p.setGpr(RDI, NOWHERE);
      l.p.write16(FCW, 0x37b);
      l.p.write16(FSW, 0x8084);
    });
    expect(seen).toEqual([`${vector}`]);
  });

  it('segment and canonical form, then alignment, then the page tables', () => {
    const at = (address: bigint) => (l: Lab) => {
      l.p.cr0 |= CR0_AM;
      l.p.rflags = 2 | FLAG_AC;
      l.p.setGpr(RDI, address);
    };
    expect(run('mov eax, [rdi]', at(0x8000_0000_0000_0001n), 3)).toEqual([`${GP}`]);
    expect(run('mov eax, [rdi]', at(NOWHERE + 1n), 3)).toEqual([`${AC}`]);
    expect(run('mov eax, [rdi]', at(NOWHERE), 3)).toEqual([`${PF}`]);
  });

  it('general detect comes before nothing but privilege: #DB with BD', () => {
    expect(run('mov rax, dr0', (l) => (l.p.dr7 = 0x2400))[0]).toBe('1:2000');
    expect(run('mov rax, dr0', (l) => (l.p.dr7 = 0x2400), 3)).toEqual([`${GP}`]);
  });
});
