/** Carries attacks out and counts those that got in. */
import type { Attack, Family, Scene } from './lab.ts';

/** What came of one attack. */
export interface Verdict {
  readonly name: string;
  readonly must: string;
  readonly happened: string;
  /** Something else happened than must, the victim was changed, or somebody else noticed. */
  readonly gotIn: boolean;
}

async function judge<S extends Scene>(scene: S, attack: Attack<S>): Promise<{ happened: string; gotIn: boolean }> {
  let happened: string;
  try {
    happened = await attack.run(scene);
  } catch (error) {
    return { happened: `something broke: ${String(error)}`, gotIn: true };
  }
  if (happened !== attack.must) return { happened, gotIn: true };
  const became = await scene.release();
  if (became !== null && became !== (attack.then ?? 'goes on')) {
    return { happened: `${happened}; the victim ${became}`, gotIn: true };
  }
  if (!(await scene.othersGoOn())) return { happened: `${happened}; somebody else noticed`, gotIn: true };
  return { happened, gotIn: false };
}

/** Attacks of a family, one after the other: many share a scene, so that what one leaves is there for the next. */
export async function carryOut<S extends Scene>(family: Family<S>, newScene: () => S): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  let scene: S | null = null;
  for (const attack of family.attacks) {
    if (scene?.hasRoom !== true) scene = newScene();
    const verdict = await judge(scene, attack);
    if (verdict.gotIn) scene = null;
    verdicts.push({ name: attack.name, must: attack.must, ...verdict });
  }
  return verdicts;
}
