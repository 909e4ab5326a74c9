/** Every family of attacks. */
import { alias } from './alias.ts';
import { identity } from './identity.ts';
import { inject } from './inject.ts';
import type { Family } from './lab.ts';
import { malformed } from './malformed.ts';
import { mapTwice } from './map-twice.ts';
import { measured } from './measured.ts';
import { memoryMap } from './memory-map.ts';
import { processors } from './processors.ts';
import { readWrite } from './read-write.ts';
import { replay } from './replay.ts';
import { sharedMemory } from './shared-memory.ts';
import { teardown } from './teardown.ts';
import { tracking } from './tracking.ts';

export const FAMILIES: readonly Family[] = [
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
