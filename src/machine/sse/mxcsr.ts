/** MXCSR as an environment of the software FPU, and how an instruction ends. @sdm "MXCSR Control and Status Register", "SIMD Floating-Point Exceptions" */
import { MXCSR } from '../engine/layout.ts';
import { DONE, type Outcome, UD, XM } from '../outcome.ts';
import { CR4_OSXMMEXCPT, type Processor } from '../processor.ts';
import { ALL_EXCEPTIONS, Environment, PRE_COMPUTATION, type Rounding } from '../softfloat/environment.ts';

const DENORMALS_ARE_ZERO = 0x40;
const FLUSH_TO_ZERO = 0x8000;

/** The environment that MXCSR asks for. */
export function environmentOf(p: Processor): Environment {
  const mxcsr = p.read32(MXCSR);
  return new Environment(
    ((mxcsr >> 13) & 3) as Rounding,
    (mxcsr >> 7) & ALL_EXCEPTIONS,
    false,
    0,
    (mxcsr & FLUSH_TO_ZERO) !== 0,
    (mxcsr & DENORMALS_ARE_ZERO) !== 0,
  );
}

/**
 * Ends an instruction: flags into MXCSR, then either an exception or `write`. An unmasked exception found before the
 * computation leaves no flags of later ones.
 *
 * @param kept flags of earlier steps of the instruction, which are raised in any case
 */
export function finish(p: Processor, env: Environment, write: () => Outcome | undefined, kept = 0): Outcome {
  if (env.unmasked & PRE_COMPUTATION) env.flags &= PRE_COMPUTATION;
  if ((env.flags | kept) !== 0) p.write32(MXCSR, p.read32(MXCSR) | env.flags | kept);
  if (env.unmasked !== 0) return p.raise(p.cr4 & CR4_OSXMMEXCPT ? XM : UD);
  return write() ?? DONE;
}
