/** Carries attacks out and counts those that got in. */
import { type Attack, type Family, Lab } from './lab.ts';

/** What came of one attack. */
export interface Verdict {
  readonly family: string;
  readonly attack: Attack;
  readonly happened: string;
  /** Something else happened than must, the victim was changed, or somebody else noticed. */
  readonly gotIn: boolean;
}

function judge(lab: Lab, attack: Attack): { happened: string; gotIn: boolean } {
  let happened: string;
  try {
    happened = attack.run(lab);
  } catch (error) {
    return { happened: `the module broke: ${String(error)}`, gotIn: true };
  }
  if (happened !== attack.must) return { happened, gotIn: true };
  const became = lab.release();
  if (became !== null && became !== (attack.then ?? 'goes on')) {
    return { happened: `${happened}; the victim ${became}`, gotIn: true };
  }
  if (!lab.bystander.goesOn()) return { happened: `${happened}; another TD noticed`, gotIn: true };
  return { happened, gotIn: false };
}

/** All attacks of some families, one after the other; many share a host, so that what one leaves is there for the next. */
export function* carryOut(families: readonly Family[]): Generator<Verdict> {
  let lab: Lab | null = null;
  for (const { name, attacks } of families) {
    for (const attack of attacks) {
      if (lab?.hasRoom !== true) lab = new Lab();
      const verdict = { family: name, attack, ...judge(lab, attack) };
      if (verdict.gotIn) lab = null;
      yield verdict;
    }
  }
}
