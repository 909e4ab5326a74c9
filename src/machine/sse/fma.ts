/** FMA in full: what the fast path of isa/tables/fma-fast.ts leaves. @sdm "VFMADD132PD" … */
import { implement } from '../isa/handlers.ts';
import { FMA, FMA_ORDERS } from '../isa/tables/fma-forms.ts';
import { F32, F64, type Format, pack } from '../softfloat/float.ts';
import { multiplyAdd } from '../softfloat/multiply-add.ts';
import { operand } from '../softfloat/operands.ts';
import { readLanes, writeDestination } from './lanes.ts';
import { environmentOf, finish } from './mxcsr.ts';

function fused(
  mnemonic: string,
  format: Format & { readonly bits: 32 | 64 },
  row: (typeof FMA)[number],
  order: (typeof FMA_ORDERS)[number],
): void {
  const [, , , product, even, odd] = row;
  const [, , [x, y], z] = order;
  implement(mnemonic, (p, insn) => {
    const { bits } = format;
    const c = readLanes(p, insn, 2, bits);
    if (c === undefined) return p.outcome;
    const sources = [readLanes(p, insn, 0, bits)!, readLanes(p, insn, 1, bits)!, c];
    const env = environmentOf(p);
    const result = c.map((_, i) => {
      const [f, g, h] = [x, y, z].map((n) => operand(env, format, sources[n]![i]!));
      return pack(format, multiplyAdd(env, format, f!, g!, h!, product, i & 1 ? odd : even));
    });
    return finish(p, env, () => void writeDestination(p, insn, bits, result));
  });
}

for (const row of FMA) {
  for (const order of FMA_ORDERS) {
    const name = row[0] + order[0];
    fused(`${name}PS`, F32 as Format & { bits: 32 }, row, order);
    fused(`${name}PD`, F64 as Format & { bits: 64 }, row, order);
    if (!row[2]) continue;
    fused(`${name}SS`, F32 as Format & { bits: 32 }, row, order);
    fused(`${name}SD`, F64 as Format & { bits: 64 }, row, order);
  }
}
