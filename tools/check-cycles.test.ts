import { describe, expect, it } from 'vitest';
import { circles, valueImports } from './check-cycles.ts';

describe('circles of imports', () => {
  it('counts values, not types', () => {
    const text = [
      "import { a } from './a.ts';",
      "import type { B } from './b.ts';",
      "import { type C } from './c.ts';",
      "import { type D, d } from '../d.ts';",
      "import './e.ts';",
      "export { f } from './f.ts';",
      "export type { G } from './g.ts';",
      "export * from './h.ts';",
      "import { readFileSync } from 'node:fs';",
    ].join('\n');
    expect(valueImports('src/x/y.ts', text)).toEqual(
      ['x/a.ts', 'd.ts', 'x/e.ts', 'x/f.ts', 'x/h.ts'].map((path) => `src/${path}`),
    );
  });

  it('finds each group of files that reach each other', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c', 'missing']],
      ['c', ['a', 'd']],
      ['d', ['e']],
      ['e', ['d']],
      ['f', ['a', 'f']],
    ]);
    expect(circles(graph)).toEqual([
      ['d', 'e'],
      ['a', 'b', 'c'],
    ]);
    expect(
      circles(
        new Map([
          ['a', ['b', 'c']],
          ['b', ['c']],
          ['c', []],
        ]),
      ),
    ).toEqual([]);
  });
});
