/** Whether x87, MMX and SSE instructions may run, and the exception if not. */
import { DONE, NM, type Outcome, UD } from '../outcome.ts';
import { CR0_EM, CR0_MP, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, type Processor } from '../processor.ts';
import { AVX, SSE } from './xstate-layout.ts';

const VECTORS = Number(SSE | AVX);

/** Whether VEX-encoded vector instructions exist at present. @sdm "Detection of Intel AVX Instructions" */
export const avxEnabled = (p: Processor): boolean =>
  (p.cr4 & CR4_OSXSAVE) !== 0 &&
  (Number(BigInt.asUintN(32, p.xcr0)) & VECTORS) === VECTORS &&
  p.protectedMode &&
  !p.v86;

/** `wait` is WAIT/FWAIT; `save` is FXSAVE, FXRSTOR. */
export type FpuKind = 'x87' | 'mmx' | 'sse' | 'avx' | 'wait' | 'save';

/**
 * DONE if the instruction may run, else #NM or #UD is raised.
 * @sdm "Summary of Exceptions": CR0.EM, CR0.MP, CR0.TS, CR4.OSFXSR
 */
export function fpuAvailable(p: Processor, kind: FpuKind): Outcome {
  const { cr0 } = p;
  switch (kind) {
    case 'x87':
    case 'save':
      return cr0 & (CR0_EM | CR0_TS) ? p.raise(NM) : DONE;
    case 'wait':
      return (cr0 & (CR0_MP | CR0_TS)) === (CR0_MP | CR0_TS) ? p.raise(NM) : DONE;
    case 'mmx':
      if (cr0 & CR0_EM) return p.raise(UD);
      break;
    case 'sse':
      if (cr0 & CR0_EM || !(p.cr4 & CR4_OSFXSR)) return p.raise(UD);
      break;
    case 'avx':
      if (!avxEnabled(p)) return p.raise(UD);
      break;
  }
  return cr0 & CR0_TS ? p.raise(NM) : DONE;
}
