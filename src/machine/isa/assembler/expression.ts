/** Integer expressions of assembly text: numbers, labels, `$`, and C's operators. */

/** The value of a name, or undefined where it has none (yet). */
export type Names = (name: string) => bigint | undefined;

const TOKEN = /\s*(0x[0-9a-f_]+|0b[01_]+|\d[\d_]*|'[^']+'|[A-Za-z_.$][\w.$]*|<<|>>|[-+*/%&|^~()])/giy;
/** Binary operators by how tightly they bind. */
const LEVELS: readonly string[][] = [['|'], ['^'], ['&'], ['<<', '>>'], ['+', '-'], ['*', '/', '%']];

function tokens(text: string): string[] {
  const found: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(text);
    if (match === null) throw new SyntaxError(`not an expression: ${text.slice(at)}`);
    found.push(match[1]!);
  }
  return found;
}

/** Evaluates an expression; throws a SyntaxError for what is none or names something unknown. */
export function evaluateExpression(text: string, names: Names): bigint {
  const rest = tokens(text);
  const primary = (): bigint => {
    const token = rest.shift();
    if (token === undefined) throw new SyntaxError(`expression ends early: ${text}`);
    if (token === '-') return -primary();
    if (token === '+') return primary();
    if (token === '~') return ~primary();
    if (token === '(') {
      const value = level(0);
      if (rest.shift() !== ')') throw new SyntaxError(`missing ): ${text}`);
      return value;
    }
    if (token.startsWith("'")) {
      return [...token.slice(1, -1)].reduceRight((value, c) => (value << 8n) | BigInt(c.charCodeAt(0)), 0n);
    }
    if (/^\d/.test(token)) return BigInt(token.replaceAll('_', ''));
    const value = names(token);
    if (value === undefined) throw new SyntaxError(`unknown name: ${token}`);
    return value;
  };
  const level = (n: number): bigint => {
    if (n === LEVELS.length) return primary();
    let value = level(n + 1);
    while (rest.length > 0 && LEVELS[n]!.includes(rest[0]!)) value = apply(rest.shift()!, value, level(n + 1));
    return value;
  };
  const value = level(0);
  if (rest.length > 0) throw new SyntaxError(`left over in ${text}: ${rest.join(' ')}`);
  return value;
}

function apply(operator: string, a: bigint, b: bigint): bigint {
  switch (operator) {
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    case '&':
      return a & b;
    case '<<':
      return a << b;
    case '>>':
      return a >> b;
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    default:
      return a % b;
  }
}
