/**
 * Half-precision storage: conversions to and from singles. Halves may be denormal whatever MXCSR.DAZ says, without an
 * exception, and MXCSR.FTZ does not count.
 * @sdm "VCVTPH2PS", "VCVTPS2PH", "Half-Precision Floating-Point Conversion"
 */
import { implement } from '../isa/handlers.ts';
import { storeLinearBytes } from '../mmu/access.ts';
import { naturalAlignment } from '../mmu/alignment.ts';
import { memoryAddress } from '../processor/operands.ts';
import { convert } from '../softfloat/convert.ts';
import { Environment, type Rounding } from '../softfloat/environment.ts';
import { DENORMAL, F16, F32, NORMAL, pack, unpack } from '../softfloat/float.ts';
import { operand } from '../softfloat/operands.ts';
import { readLanes, writeLanes, writeVexRegister } from './lanes.ts';
import { environmentOf, finish } from './mxcsr.ts';

implement('VCVTPH2PS', (p, insn) => {
  const source = readLanes(p, insn, 1, 16);
  if (source === undefined) return p.outcome;
  const env = environmentOf(p);
  const result = source.map((half) => {
    const f = unpack(F16, half);
    return pack(F32, convert(env, F32, f.kind === DENORMAL ? { ...f, kind: NORMAL } : f));
  });
  return finish(p, env, () => void writeLanes(p, insn, 0, 32, result));
});

implement('VCVTPS2PH', (p, insn) => {
  const source = readLanes(p, insn, 1, 32)!;
  const [target] = insn.operands;
  const size = target!.width / 8;
  const usual = environmentOf(p);
  const imm = Number(insn.immediate);
  const rounding = imm & 4 ? usual.rounding : ((imm & 3) as Rounding);
  const env = new Environment(rounding, usual.masks, false, 0, false, usual.denormalsAreZero);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (const [i, single] of source.entries())
    view.setUint16(i * 2, Number(pack(F16, convert(env, F16, operand(env, F32, single)))), true);
  return finish(p, env, () => {
    if (target!.place !== 'memory') {
      writeVexRegister(p, target!.register, bytes);
      return undefined;
    }
    // The flags are set even if the store faults.
    const at = memoryAddress(p, insn, size, true);
    return at === undefined ? p.outcome : storeLinearBytes(p, at, bytes, false, false, naturalAlignment(size));
  });
});
