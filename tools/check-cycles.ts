/**
 * Finds circles of imports that exist when the program runs; imports of types alone do not count.
 *
 * `node tools/check-cycles.ts` prints each circle as a line of files and exits with 1 if there is one.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { posix, relative, sep } from 'node:path';
import { parseSync } from 'oxc-parser';

/** The files beside it that a file's text imports or exports values from, as paths from the root. */
export function valueImports(path: string, text: string): string[] {
  const { module } = parseSync(path, text);
  const specifiers = [
    ...module.staticImports
      .filter(({ entries }) => entries.length === 0 || entries.some(({ isType }) => !isType))
      .map(({ moduleRequest }) => moduleRequest.value),
    ...module.staticExports
      .flatMap(({ entries }) => entries.filter(({ isType }) => !isType))
      .map(({ moduleRequest }) => moduleRequest?.value ?? ''),
  ];
  const own = specifiers.filter((specifier) => specifier.startsWith('.'));
  return [...new Set(own)].map((specifier) => posix.join(posix.dirname(path), specifier));
}

/** Groups of files that reach each other, by Tarjan's algorithm. */
export function circles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const stack: string[] = [];
  /** Visits a file; @returns the earliest file on the stack that it reaches. */
  const visit = (file: string): number => {
    const number = order.size;
    order.set(file, number);
    const depth = stack.push(file) - 1;
    let earliest = number;
    for (const next of graph.get(file) ?? []) {
      if (!graph.has(next)) continue;
      if (!order.has(next)) earliest = Math.min(earliest, visit(next));
      else if (stack.includes(next)) earliest = Math.min(earliest, order.get(next)!);
    }
    if (earliest === number) {
      const group = stack.splice(depth);
      if (group.length > 1) found.push(group.sort());
    }
    return earliest;
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}

if (import.meta.main) {
  const files = readdirSync('src', { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative('.', `${entry.parentPath}/${entry.name}`).split(sep).join('/'));
  const found = circles(new Map(files.map((file) => [file, valueImports(file, readFileSync(file, 'utf8'))])));
  for (const group of found) console.error(`these import each other: ${group.join(' ')}`);
  if (found.length > 0) process.exit(1);
  console.log(`cycles: none in ${files.length} files`);
}
