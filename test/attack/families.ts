/** Every family of attacks. */
import { alias } from './alias.ts';
import { identity } from './identity.ts';
import { inject } from './inject.ts';
import { kernel } from './kvm-kernel.ts';
import { KvmScene } from './kvm-lab.ts';
import { userSpace } from './kvm-user.ts';
import { type Family, Lab, type Scene } from './lab.ts';
import { malformed } from './malformed.ts';
import { mapTwice } from './map-twice.ts';
import { measured } from './measured.ts';
import { memoryMap } from './memory-map.ts';
import { processors } from './processors.ts';
import { readWrite } from './read-write.ts';
import { replay } from './replay.ts';
import { carryOut, type Verdict } from './run.ts';
import { sharedMemory } from './shared-memory.ts';
import { teardown } from './teardown.ts';
import { tracking } from './tracking.ts';

/** Families and how to try them. */
export interface Part {
  readonly name: string;
  carryOut(): Promise<Verdict[]>;
}

const part = <S extends Scene>(family: Family<S>, newScene: () => S): Part => ({
  name: family.name,
  carryOut: () => carryOut(family, newScene),
});

/** SEAMCALL by SEAMCALL, with no kernel in between. */
const BARE: readonly Family[] = [
  readWrite,
  mapTwice,
  alias,
  replay,
  tracking,
  processors,
  measured,
  inject,
  identity,
  sharedMemory,
  malformed,
  memoryMap,
  teardown,
];

export const SUITE: readonly Part[] = [
  ...BARE.map((family) => part(family, () => new Lab())),
  part(userSpace, () => new KvmScene()),
  part(kernel, () => new KvmScene()),
];
