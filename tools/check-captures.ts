/**
 * Finds closures that change a variable of the function around them.
 *
 * V8 14 can miscompile hot loops in which they stand, now and then: the result is wrong, and another one in the next run. A
 * field of an object does as well and is safe. What changes module-level variables is not concerned.
 *
 * `node tools/check-captures.ts` prints each place as `file:line: name` and exits with 1 if there is one.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { relative, sep } from 'node:path';
import { parseSync } from 'oxc-parser';

/** What this needs to know of a syntax tree's nodes. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly [key: string]: unknown;
}

/** The names a block or function declares, and how many functions stand around it. */
interface Scope {
  readonly depth: number;
  readonly names: Set<string>;
}

/** The front ends are not hot. What only tests run may be; they use the same code. */
const EXEMPT = /^src\/cli\/|\.test\.ts$|\/testing\//;

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';

const isFunction = (node: Node): boolean =>
  /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type);

function children(node: Node): Node[] {
  return Object.values(node).flatMap((value) =>
    Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : [],
  );
}

/** The identifiers that a pattern binds. */
function bound(pattern: Node): string[] {
  if (pattern.type === 'Identifier') return [pattern['name'] as string];
  if (pattern.type === 'AssignmentPattern') return bound(pattern['left'] as Node);
  if (pattern.type === 'Property') return bound(pattern['value'] as Node);
  return children(pattern).flatMap(bound);
}

/** Names declared in a block, before any of its statements is looked at. */
function declared(node: Node): string[] {
  if (isFunction(node)) return (node['params'] as Node[]).flatMap(bound);
  return children(node)
    .filter((child) => child.type === 'VariableDeclaration')
    .flatMap((child) => (child['declarations'] as Node[]).flatMap((one) => bound(one['id'] as Node)));
}

/** The identifiers that a node assigns to. */
function assigned(node: Node): string[] {
  const target =
    node.type === 'AssignmentExpression'
      ? node['left']
      : node.type === 'UpdateExpression'
        ? node['argument']
        : undefined;
  if (!isNode(target)) return [];
  return target.type === 'Identifier' || target.type.endsWith('Pattern') ? bound(target) : [];
}

/** `line: name` of every closure's change to a captured local variable in a file's text. */
export function findCaptures(path: string, text: string): string[] {
  const found: string[] = [];
  const visit = (node: Node, outer: readonly Scope[], around: number): void => {
    const depth = isFunction(node) ? around + 1 : around;
    const scopes = [...outer, { depth, names: new Set(declared(node)) }];
    for (const name of assigned(node)) {
      const home = scopes.findLast((scope) => scope.names.has(name));
      if (home !== undefined && home.depth > 0 && home.depth < depth) {
        found.push(`${text.slice(0, node.start).split('\n').length}: ${name}`);
      }
    }
    for (const child of children(node)) visit(child, scopes, depth);
  };
  visit(parseSync(path, text).program as unknown as Node, [], 0);
  return found;
}

if (import.meta.main) {
  const places = readdirSync('src', { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative('.', `${entry.parentPath}/${entry.name}`).split(sep).join('/'))
    .filter((file) => !EXEMPT.test(file))
    .sort()
    .flatMap((file) => findCaptures(file, readFileSync(file, 'utf8')).map((place) => `${file}:${place}`));
  for (const place of places)
    console.error(`${place} is changed by a closure: V8 may miscompile it; use a field of an object`);
  if (places.length > 0) process.exit(1);
  console.log('captures: none changed');
}
