/** Compiles the bench guest and the disk loader with gcc. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES: string = fileURLToPath(new URL('guest', import.meta.url));

const FLAGS: readonly string[] = [
  '-O2',
  '-ffreestanding',
  '-fno-pic',
  '-no-pie',
  '-mgeneral-regs-only',
  '-mno-red-zone',
  '-fcf-protection=none',
  '-fno-stack-protector',
  '-fno-asynchronous-unwind-tables',
  // Keeps copy and sieve loops of their own instead of calls of memcpy and memset.
  '-fno-tree-loop-distribute-patterns',
  '-nostdlib',
  '-static',
  '-Wl,--build-id=none',
  '-Wl,--oformat=binary',
  '-Wl,-z,noexecstack',
  '-Wl,--no-warn-rwx-segments',
];

/** What the bench boots. */
export interface GuestImages {
  /** Multiboot image with all benches. */
  readonly guest: Uint8Array;
  /** Multiboot image with the compute kernels as 32-bit code. */
  readonly guest32: Uint8Array;
  /** Boot sector of a disk. */
  readonly bootSector: Uint8Array;
  /** What the boot sector loads. */
  readonly diskLoader: Uint8Array;
}

/** Compiles everything; a line that says why that is impossible if it is. */
export function compileGuest(): GuestImages | string {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-bench-'));
  try {
    const compile = (...args: string[]): Uint8Array => {
      const output = join(directory, 'out');
      const flags = args.includes('-c') ? FLAGS.filter((flag) => flag !== '-mgeneral-regs-only') : FLAGS;
      const { error, status, stderr } = spawnSync('gcc', [...flags, '-o', output, ...args], {
        cwd: SOURCES,
        encoding: 'utf8',
      });
      if (error !== undefined) throw new Error('gcc is not installed');
      if (status !== 0) throw new Error(`gcc cannot compile the guest: ${stderr.trim().split('\n')[0]}`);
      return readFileSync(output);
    };
    const float = join(directory, 'float.o');
    writeFileSync(float, compile('-m64', '-c', '-msse2', '-mfpmath=sse', '-fno-math-errno', 'float.c'));
    return {
      guest: compile('-m64', '-Wl,-T,guest.ld', 'start.S', 'kernels.c', 'run.c', float),
      guest32: compile('-m32', '-march=i686', '-Wl,-T,guest.ld', 'start32.S', 'kernels.c', 'run32.c'),
      bootSector: compile('-m32', '-Wl,-Ttext=0x7c00', '-Wl,-e,boot', 'disk.S'),
      diskLoader: compile('-m32', '-Os', '-Wl,-T,disk-loader.ld', 'disk-loader.c'),
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
