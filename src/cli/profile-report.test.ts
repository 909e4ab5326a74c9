import { expect, test } from 'vitest';
import { selfTimes } from './profile-report.ts';

const node = (id: number, functionName: string, url: string) => ({ id, callFrame: { functionName, url } });

test('self times are shares by function, the largest first, named by their place below src', () => {
  const profile = {
    nodes: [
      node(1, 'run', 'file:///home/me/softvt/src/machine/run.ts'),
      node(2, 'interpret', 'wasm://wasm/1234'),
      node(3, '', 'file:///home/me/dist/cli.mjs'),
    ],
    samples: [1, 2, 2, 3],
    timeDeltas: [100, 300, 400, 200],
  };
  expect(selfTimes(profile)).toEqual([
    { name: 'interpret (generated code)', share: 0.7 },
    { name: '(anonymous) (cli.mjs)', share: 0.2 },
    { name: 'run (machine/run.ts)', share: 0.1 },
  ]);
  expect(selfTimes({ nodes: [] })).toEqual([]);
});
