/**
 * The checks of VM entry as the code has them: every condition that can be the one by which a check function says no.
 *
 * What `if (a && b) return false` and `return a || b` are decided by follows from their short circuits: a condition that is
 * evaluated last, with the value that makes the function false. Such a condition is a check; a case covers it when it has
 * been decided so.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync } from 'vite';

export const ROOT: string = join(import.meta.dirname, '../..');
const FOLDER = 'src/machine/vtx';

/** Where the checks are, in the order in which VM entry makes them. */
export const CHECK_FILES: readonly (readonly [file: string, title: string])[] = [
  ['entry-controls.ts', 'Controls: VMfailValid(7)'],
  ['ept-pointer.ts', 'EPT pointer: VMfailValid(7), INVEPT, VMFUNC'],
  ['entry-host.ts', 'Host state: VMfailValid(8)'],
  ['entry-guest.ts', 'Guest state: exit reason 33'],
  ['entry-segments.ts', 'Guest segments and descriptor tables: exit reason 33'],
  ['td-controls.ts', 'Of a TD’s VMCS: the entry fails'],
  ['value-checks.ts', 'Rules that several of these share'],
];

/** One check. */
export interface Check {
  readonly file: string;
  /** The function that makes it. */
  readonly rule: string;
  /** The condition, as it stands in the source. */
  readonly condition: string;
  /** With which value of the condition VM entry fails. */
  readonly failsWhen: boolean;
}

/** The parts of an ESTree node that are looked at. */
interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

const child = (node: Node, key: string): Node => node[key] as Node;
const children = (node: Node, key: string): readonly Node[] => node[key] as readonly Node[];

/** Functions that check: they are named for what holds if they say yes. */
const CHECKING = /(Valid|Allowed|Fits)$|^is[A-Z]/;

interface CheckFunction {
  readonly name: string;
  readonly body: Node;
}

function functionsOf(program: Node): CheckFunction[] {
  const found: CheckFunction[] = [];
  for (const statement of children(program, 'body')) {
    const node = statement.type === 'ExportNamedDeclaration' ? child(statement, 'declaration') : statement;
    if (node?.type === 'FunctionDeclaration')
      found.push({ name: child(node, 'id')['name'] as string, body: child(node, 'body') });
    if (node?.type !== 'VariableDeclaration') continue;
    for (const declarator of children(node, 'declarations')) {
      const value = child(declarator, 'init');
      if (value?.type !== 'ArrowFunctionExpression') continue;
      found.push({ name: child(declarator, 'id')['name'] as string, body: child(value, 'body') });
    }
  }
  return found.filter(({ name }) => CHECKING.test(name));
}

const isFalse = (node: Node | null | undefined): boolean => node?.type === 'Literal' && node['value'] === false;

/** Operands that can be evaluated last when the whole is `outcome`, each with its value then. */
function deciding(node: Node, outcome: boolean): (readonly [Node, boolean])[] {
  const { type } = node;
  if (type === 'ParenthesizedExpression') return deciding(child(node, 'expression'), outcome);
  if (type === 'UnaryExpression' && node['operator'] === '!') return deciding(child(node, 'argument'), !outcome);
  if (type === 'ConditionalExpression')
    return [...deciding(child(node, 'consequent'), outcome), ...deciding(child(node, 'alternate'), outcome)];
  if (type === 'LogicalExpression') {
    const right = deciding(child(node, 'right'), outcome);
    // && is over early with false, || with true.
    const early = (node['operator'] === '||') === outcome;
    return early ? [...deciding(child(node, 'left'), outcome), ...right] : right;
  }
  return [[node, outcome]];
}

/** A file's checks, and its text with each of them reported to `globalThis.vtxCheck`. */
class CheckedSource {
  readonly checks: Check[] = [];
  readonly #file: string;
  readonly #text: string;
  readonly #callable: ReadonlySet<string>;
  readonly #edits: { readonly start: number; readonly end: number; readonly text: string }[] = [];
  #rule = '';

  /** @param firstId number of its first check */
  constructor(file: string, text: string, firstId: number, callable: ReadonlySet<string>) {
    this.#file = file;
    this.#text = text;
    this.#callable = callable;
    for (const { name, body } of functionsOf(parseSync(file, text).program as unknown as Node)) {
      this.#rule = name;
      if (body.type === 'BlockStatement') this.#statement(body, firstId);
      else this.#decide(body, false, firstId);
    }
  }

  get instrumented(): string {
    let text = this.#text;
    for (const { start, end, text: inserted } of [...this.#edits].sort((a, b) => b.start - a.start)) {
      text = text.slice(0, start) + inserted + text.slice(end);
    }
    return text;
  }

  #decide(expression: Node, outcome: boolean, firstId: number): void {
    for (const [node, failsWhen] of deciding(expression, outcome)) {
      if (node.type === 'Literal' || this.#callsCheck(node)) continue;
      this.#add(node, this.#text.slice(node.start, node.end), failsWhen, firstId);
    }
  }

  /** A function of the same kind says for itself why it fails. */
  #callsCheck(node: Node): boolean {
    return node.type === 'CallExpression' && this.#callable.has(String(child(node, 'callee')['name']));
  }

  #add(node: Node, condition: string, failsWhen: boolean, firstId: number): void {
    const id = firstId + this.checks.length;
    const source = this.#text.slice(node.start, node.end);
    this.#edits.push({ start: node.start, end: node.end, text: `globalThis.vtxCheck(${id}, ${failsWhen}, ${source})` });
    this.checks.push({ file: this.#file, rule: this.#rule, condition: condition.replaceAll(/\s+/g, ' '), failsWhen });
  }

  #statement(node: Node, firstId: number, context = ''): void {
    switch (node.type) {
      case 'BlockStatement':
        for (const statement of children(node, 'body')) this.#statement(statement, firstId, context);
        return;
      case 'ForStatement':
      case 'ForOfStatement':
        return this.#statement(child(node, 'body'), firstId, context);
      case 'IfStatement': {
        const [test, then, other] = [child(node, 'test'), child(node, 'consequent'), child(node, 'alternate')];
        const block = then.type === 'BlockStatement' ? children(then, 'body') : [then];
        if (block.length === 1 && block[0]!.type === 'ReturnStatement' && isFalse(child(block[0]!, 'argument'))) {
          this.#decide(test, true, firstId);
        } else this.#statement(then, firstId, context);
        if (other) this.#statement(other, firstId, 'none of the types above');
        return;
      }
      case 'SwitchStatement':
        for (const one of children(node, 'cases')) {
          const test = child(one, 'test');
          const subject = this.#text.slice(child(node, 'discriminant').start, child(node, 'discriminant').end);
          const value = test ? `${subject} is ${this.#text.slice(test.start, test.end)}` : `${subject} is another`;
          for (const statement of children(one, 'consequent')) this.#statement(statement, firstId, value);
        }
        return;
      case 'ReturnStatement': {
        const value = child(node, 'argument');
        if (isFalse(value)) this.#add(value, context, false, firstId);
        else this.#decide(value, false, firstId);
      }
    }
  }
}

/** The checks, and the instrumented text of each file by its path in the project. */
export interface EntryChecks {
  readonly checks: readonly Check[];
  readonly sources: ReadonlyMap<string, string>;
}

/** All checks in order. */
export function entryChecks(): EntryChecks {
  const texts = CHECK_FILES.map(([file]) => [file, readFileSync(join(ROOT, FOLDER, file), 'utf8')] as const);
  const shared = new Set(
    texts
      .filter(([file]) => file !== 'value-checks.ts')
      .flatMap(([file, text]) => functionsOf(parseSync(file, text).program as unknown as Node).map(({ name }) => name)),
  );
  const checks: Check[] = [];
  const sources = new Map<string, string>();
  for (const [file, text] of texts) {
    const source = new CheckedSource(file, text, checks.length, shared);
    checks.push(...source.checks);
    sources.set(`${FOLDER}/${file}`, source.instrumented);
  }
  return { checks, sources };
}
