/**
 * Records what the real processor saves in the cases of src/machine/system/xsave-cases.ts: prints one hash per case.
 *
 * `node tools/record-xsave.ts [count]`; needs gcc and a processor with XSAVEC and protection keys. The output is the text of
 * src/machine/system/xsave.recorded.ts.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AREA_BYTES, fnv1a, xsaveCase } from '../src/machine/system/xsave-cases.ts';

const INPUT_BYTES: number = 2 * AREA_BYTES + 64;
const count = Number(process.argv[2] ?? 64);
const directory = mkdtempSync(join(tmpdir(), 'record-xsave-'));
try {
  const program = join(directory, 'record');
  execFileSync('gcc', ['-O1', '-mgeneral-regs-only', '-o', program, join(import.meta.dirname, 'record-xsave.c')]);
  const input = new Uint8Array(INPUT_BYTES * count);
  for (let seed = 0; seed < count; seed++) {
    const { from, to, restore, save, kind, wide } = xsaveCase(seed);
    const at = seed * INPUT_BYTES;
    input.set(from, at);
    input.set(to, at + AREA_BYTES);
    const words = new DataView(input.buffer, at + 2 * AREA_BYTES);
    [restore, save, kind, wide ? 1 : 0].forEach((word, i) => {
      words.setUint32(4 * i, word, true);
    });
  }
  const output = execFileSync(program, { input });
  const hashes = Array.from({ length: count }, (_, seed) =>
    fnv1a(output.subarray(seed * AREA_BYTES, (seed + 1) * AREA_BYTES))
      .toString(16)
      .padStart(8, '0'),
  );
  console.log('/** Hashes of what a real processor saved, by seed (tools/record-xsave.ts). */');
  console.log('export const RECORDED: readonly string[] = `');
  for (let i = 0; i < count; i += 12) console.log(`  ${hashes.slice(i, i + 12).join(' ')}`);
  console.log('`\n  .trim()\n  .split(/\\s+/);');
} finally {
  rmSync(directory, { recursive: true });
}
