/** Wasm helper functions all generated code calls: flags of a recipe whose kind is not known, and 64×64→128 multiplication. */
import { I32, I64, ModuleBuilder, type ValType } from '../engine/wasm.ts';
import { Code } from './code.ts';
import { add, and, type Bits, type Expr, isNegative, mul, select, shr, sub, u64 } from './expr.ts';
import { evaluate, KIND_COUNT, statusWord, storedRecipe } from './flags.ts';

/** Function indexes of the helpers in the module under construction. */
export interface Support {
  /** By even condition code / 2: (kind, a, b) → 0 or 1. */
  readonly condition: readonly number[];
  readonly statusWord: number;
  readonly mulHighU: number;
  readonly mulHighS: number;
}

const EVEN = [0, 2, 4, 6, 8, 10, 12, 14];
const PER_KIND: ValType[] = [I32, I64, I64];

/** Builds the module that exports the helpers by name; each other module imports them. */
export function buildSupport(): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  const perKind = (name: string, fromRecipe: (r: ReturnType<typeof storedRecipe>) => Expr<Bits>): void => {
    const func = module.declare();
    const code = new Code(3);
    const arms = [...Array(KIND_COUNT).keys()];
    for (const arm of arms.toReversed()) code.block(0x02, `kind${arm}`);
    code.out.getLocal(0).brTable(arms.slice(0, -1), KIND_COUNT - 1);
    for (const arm of arms) {
      code.end();
      code.raw(() => code.out.u8(0x0f), fromRecipe(storedRecipe(arm, code.local(64, 1), code.local(64, 2))));
      code.flush();
    }
    code.out.u8(0x00);
    module.define(func, PER_KIND, [I32], code.locals, code.out, name);
  };
  const pure = (name: string, body: (a: Expr<64>, b: Expr<64>) => Expr<64>): void => {
    const func = module.declare();
    const code = new Code(2);
    code.raw(() => {}, body(code.local(64, 0), code.local(64, 1)));
    code.flush();
    module.define(func, [I64, I64], [I64], code.locals, code.out, name);
  };
  for (const code of EVEN) perKind(`condition${code}`, (r) => evaluate(r, code));
  perKind('statusWord', statusWord);
  pure('mulHighU', mulHighU);
  pure('mulHighS', (a, b) =>
    sub(mulHighU(a, b), add(select(isNegative(a), b, u64(0)), select(isNegative(b), a, u64(0)))),
  );
  return module.build();
}

/** Imports the helpers into a module. */
export function importSupport(module: ModuleBuilder): Support {
  return {
    condition: EVEN.map((code) => module.importFunction(`condition${code}`, PER_KIND, [I32])),
    statusWord: module.importFunction('statusWord', PER_KIND, [I32]),
    mulHighU: module.importFunction('mulHighU', [I64, I64], [I64]),
    mulHighS: module.importFunction('mulHighS', [I64, I64], [I64]),
  };
}

/** Schoolbook on 32-bit halves. */
function mulHighU(a: Expr<64>, b: Expr<64>): Expr<64> {
  const low = (e: Expr<64>) => and(e, u64(0xffff_ffff));
  const high = (e: Expr<64>) => shr(e, u64(32));
  const cross = add(mul(high(a), low(b)), high(mul(low(a), low(b))));
  const middle = add(low(cross), mul(low(a), high(b)));
  return add(add(mul(high(a), high(b)), high(cross)), high(middle));
}
