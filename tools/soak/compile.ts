/** A guest that compiles: the sources of Lua, by the distribution's compiler, on all processors, and what comes of it runs. */

import { hostTool } from '../debian/packages.ts';
import { fetchSource } from '../debian/source.ts';
import type { Workload } from '../workload/workload.ts';

/** GCC as the distribution builds its packages with it, or TCC, which does the same in a hundredth of the time. */
export type Compiler = 'gcc' | 'tcc';

const TOOLS: Readonly<Record<Compiler, { readonly packages: readonly string[]; readonly variables: string }>> = {
  gcc: { packages: ['gcc-12'], variables: 'CC=gcc-12' },
  tcc: { packages: ['tcc'], variables: 'CC=tcc AR="tcc -ar rcs" RANLIB=true' },
};

/** Their names. */
export const COMPILERS: readonly string[] = Object.keys(TOOLS);

/** A computation with closures, strings, tables and floats for the interpreter that was built. */
const PROGRAM = `local t, s = {}, 0
for i = 1, 3000 do t[i] = string.format("%.14g %s", math.sin(i) * i ^ 1.5, ("x"):rep(i % 7)) end
table.sort(t)
for i, v in ipairs(t) do for n in v:gmatch("%d+") do s = (s * 31 + tonumber(n)) % 1000000007 end end
print(_VERSION, #t, s, t[1], t[#t], pcall(error, "caught"), 7 // 2, 2 ^ 53 | 1)`;

/** The workload: every object file, library and program that `make -j` makes is the same as one of this host. */
export function compilation(compiler: Compiler, jobs: number): Workload {
  const { packages, variables } = TOOLS[compiler];
  const archive = fetchSource('lua5.4');
  return {
    packages: ['make', 'libc6-dev', 'coreutils', 'dash', ...packages],
    env: { PATH: '/bin', HOME: '/', LC_ALL: 'C.UTF-8', TMPDIR: '/tmp', PROGRAM },
    cases: [
      {
        name: 'compile',
        command: `cd src; make -j${jobs} ${variables} generic >log 2>&1 || { cat log; exit 1; }
  sha256sum *.o *.a lua luac; ./lua -e "$PROGRAM"; ./luac -o out ../test.lua; sha256sum out`,
        fill: (directory) => {
          hostTool('tar', ['-xf', archive, '-C', directory, '--strip-components=1', '--no-same-owner']);
          hostTool('sh', ['-c', 'printf %s "$0" >"$1/test.lua"', PROGRAM, directory]);
        },
      },
    ],
  };
}
