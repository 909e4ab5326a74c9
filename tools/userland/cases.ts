/** The userland's workload: programs that every system has, and what each of them computes. */
import type { Case, Workload } from '../workload/workload.ts';
import { type Size, writeInputs } from './inputs.ts';

const SYSTEM = 'coreutils dash gzip bzip2 xz-utils zstd sed grep diffutils'.split(' ');
/** What a case runs, see `work/`, and where that comes from beside the system's own programs. */
const PROGRAMS: Readonly<Record<string, { readonly command: string; readonly packages: readonly string[] }>> = {
  coreutils: { command: 'sh coreutils.sh', packages: [] },
  compress: { command: 'sh compress.sh', packages: [] },
  perl: { command: 'perl perl.pl', packages: ['perl'] },
  python: { command: 'python3.11 python.py', packages: ['python3.11'] },
  selftests: { command: 'sh selftests.sh', packages: ['python3.11', 'libpython3.11-testsuite'] },
  openssl: { command: 'sh openssl.sh', packages: ['openssl'] },
  arrays: { command: 'python3.11 arrays.py', packages: ['python3-numpy', 'libopenblas0-pthread'] },
  media: {
    command: 'sh media.sh',
    packages: 'python3.11 libjpeg-turbo-progs webp flac lame opus-tools x265 libavif-bin'.split(' '),
  },
};
/** OpenSSL's own measurement. */
const SPEED = `openssl speed -seconds 1 -bytes 1024 aes-256-cbc sha256 rsa2048 ecdsap256 ecdhx25519 ed25519 &&
  openssl speed -seconds 1 -bytes 1024 -evp aes-128-gcm`;
const KEY = '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1ff0e1d2c3b4a5968778695a4b3c2d1e0f';

/** Names of the cases. */
export const CASES: readonly string[] = Object.keys(PROGRAMS);

/** The cases named, with `speed` OpenSSL's measurement behind them. */
export function userland(names: readonly string[], size: Size, speed: boolean): Workload {
  const cases = names.map(
    (name): Case => ({
      name,
      command: PROGRAMS[name]!.command,
      fill: (directory) => writeInputs(directory, size),
      ...(name === 'openssl' ? { once: 'sh keys.sh' } : {}),
    }),
  );
  const env = {
    PATH: '/bin',
    HOME: '/',
    LC_ALL: 'C.UTF-8',
    TZ: 'UTC',
    PYTHONHASHSEED: '0',
    PYTHONDONTWRITEBYTECODE: '1',
    // A processor without AVX-512 is told that it cannot be turned off.
    PYTHONWARNINGS: 'ignore',
    PERL_HASH_SEED: '0',
    key: `${KEY}00112233445566778899aabbccddeeff`,
    iv: '0f1e2d3c4b5a69788796a5b4c3d2e1f0',
    rounds: String(size.rounds),
    factors: String(size.factors),
    levels: size.levels,
    frames: String(size.frames),
    side: String(size.side),
    // Not every host has the same; with these it computes as a guest does.
    LD_LIBRARY_PATH: '/usr/lib/x86_64-linux-gnu/openblas-pthread',
    OPENBLAS_CORETYPE: 'Haswell',
    OPENBLAS_NUM_THREADS: '1',
    NPY_DISABLE_CPU_FEATURES: 'AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL',
  };
  const packages = [...SYSTEM, ...new Set(names.flatMap((name) => PROGRAMS[name]!.packages))];
  return { packages, env, cases, ...(speed ? { guestOnly: SPEED } : {}) };
}
