/** Generated code that is the same for every machine: the interpreter with its hot handlers, and the helpers. */
import { decode } from '../isa/decode.ts';
import { buildSupport } from '../isa/support.ts';
import { HOT_EXAMPLES } from './hot.ts';
import { generateInterpreter, type HandlerBody } from './interpreter.ts';
import { prebuiltCode } from './prebuilt-code.ts';
import { type Shaped, shapeKey } from './record.ts';

/** A hot handler: number SPECIAL_COUNT and its place in the list. */
export interface HotHandler {
  /** Shapes of its instructions. */
  readonly key: string;
  /** It executes two records. */
  readonly pair: boolean;
}

/** The code as bytes, as a build can keep it. */
export interface CommonCode {
  readonly hot: readonly HotHandler[];
  readonly support: Uint8Array<ArrayBuffer>;
  readonly interpreter: Uint8Array<ArrayBuffer>;
}

/** The code as modules. */
export interface CommonModules {
  readonly hot: readonly HotHandler[];
  readonly support: WebAssembly.Module;
  readonly interpreter: WebAssembly.Module;
}

/** The shapes of one instruction or a pair as text. */
export const bodyKey = (body: HandlerBody): string => body.map(shapeKey).join('+');

/** Makes the code from the instruction tables. */
export function generateCommonCode(): CommonCode {
  const bodies = new Map<string, HandlerBody>();
  for (const example of HOT_EXAMPLES) {
    const body = example.split('+').map(parseExample);
    const key = bodyKey(body);
    if (!bodies.has(key)) bodies.set(key, body);
  }
  return {
    hot: [...bodies].map(([key, body]) => ({ key, pair: body.length === 2 })),
    support: buildSupport(),
    interpreter: generateInterpreter([...bodies.values()]),
  };
}

/** `64 4889d8` or, for a branch within its page, `64 local 7405`. */
function parseExample(text: string): Shaped {
  const [mode, ...rest] = text.trim().split(' ');
  const bytes = Uint8Array.from(rest.at(-1)!.match(/../g)!, (h) => Number.parseInt(h, 16));
  const insn = decode(bytes, 0, bytes.length, Number(mode) as 16 | 32 | 64);
  if (typeof insn === 'string') throw new Error(`hot example ${text}: ${insn}`);
  return { insn, local: rest.length > 1 };
}

let modules: CommonModules | null = null;

/** The modules, made when the first machine of the process asks: from what the build has kept, or from the tables. */
export function commonModules(): CommonModules {
  if (modules === null) {
    const { hot, support, interpreter } = prebuiltCode ?? generateCommonCode();
    modules = { hot, support: new WebAssembly.Module(support), interpreter: new WebAssembly.Module(interpreter) };
  }
  return modules;
}
