/** Access to I/O ports: permission, VM exits, and IN and OUT. */
import { GPR, RAX, RDX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinear } from '../mmu/access.ts';
import { DONE, GP, type Outcome, VMEXIT } from '../outcome.ts';
import { matchBreakpoints, WATCH } from '../processor/events/debug.ts';
import { FLAG_IOPL, type Processor } from '../processor.ts';

/** Access sizes in bytes. */
export type PortSize = 1 | 2 | 4;

const TSS32_AVAILABLE = 9;
const TSS32_BUSY = 11;
/** Offset of the I/O map base address in a 32- or 64-bit TSS; 104 bytes are the least it has. */
const IO_MAP_BASE = 0x66n;
const TSS_MIN_LIMIT = 103;

/**
 * Whether software may access the ports: CPL within IOPL, or allowed by the TSS's bitmap. DONE, or a fault or exit.
 * @sdm "I/O Permission Bit Map"
 */
export function portsAllowed(p: Processor, port: number, size: PortSize): Outcome {
  if (!p.protectedMode || (!p.v86 && p.cpl <= (p.flagsRest & FLAG_IOPL) >> 12)) return DONE;
  const { base, limit, attributes } = p.tr;
  const type = attributes & 15;
  if ((type !== TSS32_AVAILABLE && type !== TSS32_BUSY) || limit < TSS_MIN_LIMIT) return p.raise(GP, 0);
  const map = loadLinear(p, base + IO_MAP_BASE, 2, true);
  if (map === undefined) return p.outcome;
  const at = Number(map) + (port >> 3);
  // The processor always reads two bytes, so that a port range may straddle them.
  if (at + 1 > limit) return p.raise(GP, 0);
  const bits = loadLinear(p, base + BigInt(at), 2, true);
  if (bits === undefined) return p.outcome;
  const wanted = ((1 << size) - 1) << (port & 7);
  return Number(bits) & wanted ? p.raise(GP, 0) : DONE;
}

/** All checks of an I/O instruction: permission first, then the VM exit. */
export function checkPorts(p: Processor, insn: Insn, port: number, size: PortSize, input: boolean): Outcome {
  const allowed = portsAllowed(p, port, size);
  if (allowed !== DONE) return allowed;
  return p.vtx.ioExits(insn, port, size, input) ? VMEXIT : DONE;
}

const ALL_ONES = [0, 0xff, 0xffff, 0, 0xffff_ffff];

/** Reads ports on the machine's bus; where there is none, all ones. */
export const readPorts = (p: Processor, port: number, size: PortSize): number =>
  p.machine.ports === null ? ALL_ONES[size]! : p.machine.ports.read(port, size);

export function writePorts(p: Processor, port: number, size: PortSize, value: number): void {
  p.machine.ports?.write(port, size, value);
}

/** Makes #DB pending for I/O breakpoints on ports that were accessed. @sdm "Debug Control Register (DR7)" */
export function notePortBreakpoints(p: Processor, port: number, size: PortSize): void {
  if (!(p.dr7 & 0xff)) return;
  const bits = matchBreakpoints(p, WATCH.io, BigInt(port), size);
  if (bits === 0) return;
  p.pendingDebug |= bits;
  p.eventsPending = true;
}

/** The port of IN and OUT: an immediate byte or DX. */
const portOf = (p: Processor, insn: Insn, n: number): number =>
  insn.operands[n]!.place === 'immediate' ? Number(insn.immediate) & 0xff : p.gpr32(RDX) & 0xffff;

/** @sdm "IN—Input From Port" */
export function input(p: Processor, insn: Insn): Outcome {
  const size = (insn.operands[0]!.width / 8) as PortSize;
  const port = portOf(p, insn, 1);
  const checked = checkPorts(p, insn, port, size, true);
  if (checked !== DONE) return checked;
  const value = readPorts(p, port, size);
  if (size === 1) p.write8(GPR, value);
  else if (size === 2) p.write16(GPR, value);
  else p.setGpr32(RAX, value);
  notePortBreakpoints(p, port, size);
  return DONE;
}

/** @sdm "OUT—Output to Port" */
export function output(p: Processor, insn: Insn): Outcome {
  const size = (insn.operands[1]!.width / 8) as PortSize;
  const port = portOf(p, insn, 0);
  const checked = checkPorts(p, insn, port, size, false);
  if (checked !== DONE) return checked;
  const value = p.gpr32(RAX);
  writePorts(p, port, size, size === 4 ? value : value & ALL_ONES[size]!);
  notePortBreakpoints(p, port, size);
  return DONE;
}

implement('IN', input);
implement('OUT', output);
