/**
 * PCONFIG: giving a shared KeyID a key of its own, or the platform's again. Keys themselves do not exist here.
 *
 *   structure: 0 KeyID u16 | 2 control u32: 7:0 command, 23:8 algorithm | 6 reserved, 58 bytes | 64 key | 128 tweak key
 *
 * @sdm "PCONFIG—Platform Configuration"
 */
import { DS, RAX, RBX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { loadLinearBytes } from '../mmu/access.ts';
import { DONE, GP, type Outcome, UD } from '../outcome.ts';
import { linearOf } from '../processor/operands.ts';
import { FLAG_ZF, type Processor, STATUS_FLAGS } from '../processor.ts';

const MKTME_KEY_PROGRAM = 0;
const STRUCTURE_BYTES = 192;
const ALIGNMENT = 256n;

/** Commands; clearing a key and encrypting nothing both leave the platform's view of memory here. */
const SET_KEY_RANDOM = 1;
const NO_ENCRYPT = 3;
/** Algorithms of IA32_TME_ACTIVATE: AES-XTS 128, and the same with integrity. */
const ALGORITHMS = [1, 2];

/** Reasons in RAX. */
const PROGRAM_SUCCESS = 0;
const INVALID_COMMAND = 1;
const INVALID_KEYID = 3;
const INVALID_ALGORITHM = 4;

/** Programs the key; why it did not work, or 0. */
function program(p: Processor, view: DataView): number {
  const keyId = view.getUint16(0, true);
  const control = view.getUint32(2, true);
  const command = control & 0xff;
  const algorithm = (control >>> 8) & 0xffff;
  if (command > NO_ENCRYPT) return INVALID_COMMAND;
  if (keyId === 0 || keyId > p.machine.seam.mktmeKeyIds) return INVALID_KEYID;
  const setsKey = command <= SET_KEY_RANDOM;
  if (setsKey && !ALGORITHMS.includes(algorithm)) return INVALID_ALGORITHM;
  // all checks passed
  p.machine.memory.keyed.programKey(keyId, setsKey);
  return PROGRAM_SUCCESS;
}

const reservedClear = (view: DataView): boolean => {
  if (view.getUint8(5) !== 0) return false;
  for (let at = 6; at < 64; at++) if (view.getUint8(at) !== 0) return false;
  return true;
};

/** In non-root operation a control that is not offered would enable it. */
function pconfig(p: Processor, _insn: Insn): Outcome {
  if (!p.machine.seam.enabled || p.vtx.nonRoot) return p.raise(UD);
  if (p.cpl !== 0 || p.gpr32(RAX) !== MKTME_KEY_PROGRAM) return p.raise(GP, 0);
  const offset = p.mode64 ? p.gpr(RBX) : BigInt(p.gpr32(RBX));
  const linear = linearOf(p, DS, offset, STRUCTURE_BYTES, false);
  if (linear === undefined) return p.outcome;
  if (linear % ALIGNMENT !== 0n) return p.raise(GP, 0);
  const bytes = loadLinearBytes(p, linear, STRUCTURE_BYTES);
  if (bytes === undefined) return p.outcome;
  const view = new DataView(bytes.buffer);
  if (!reservedClear(view)) return p.raise(GP, 0);
  const reason = program(p, view);
  p.setGpr(RAX, BigInt(reason));
  p.rflags = ((p.rflags & ~STATUS_FLAGS) | (reason === PROGRAM_SUCCESS ? 0 : FLAG_ZF)) >>> 0;
  return DONE;
}

implement('PCONFIG', pconfig);
