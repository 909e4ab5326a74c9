/** `softvt doctor`: what this platform offers and what it lacks. */

import { freemem } from 'node:os';
import { type CommandDef, defineCommand } from 'citty';

/** One thing that was looked at. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  /** Without it nothing runs. */
  readonly required: boolean;
}

const OLDEST_NODE = [20, 19] as const;
const MIB = 2 ** 20;
/** Guest RAM of the demo, the host beside it, and the process. */
const COMFORTABLE_MEMORY = 600 * MIB;

/** A module with one function that uses SIMD: v128.const, drop. */
const SIMD_MODULE = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 0xfd, 12],
  ...new Array<number>(16).fill(0),
  ...[0x1a, 0x0b],
);
/** A module with one function that tail-calls itself: return_call 0. */
const TAIL_CALL_MODULE = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 6, 1, 4, 0, 0x12, 0, 0x0b],
);

function memoryOf(pages: number, shared: boolean): boolean {
  try {
    return new WebAssembly.Memory({ initial: 1, maximum: pages, shared }).buffer.byteLength > 0;
  } catch {
    return false;
  }
}

/** Looks at the platform. */
export function findings(): Finding[] {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const recent = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  const free = freemem();
  const terminal = process.stdin.isTTY === true;
  const feature = (name: string, ok: boolean, required: boolean, detail = ok ? 'yes' : 'no'): Finding => ({
    name,
    ok,
    required,
    detail,
  });
  return [
    feature('Node', recent, true, `${process.versions.node} (${OLDEST_NODE.join('.')} or later)`),
    feature('WebAssembly SIMD', WebAssembly.validate(SIMD_MODULE), false),
    feature('WebAssembly tail calls', WebAssembly.validate(TAIL_CALL_MODULE), false),
    feature('WebAssembly memory of 4 GiB', memoryOf(65536, false), true),
    feature('shared WebAssembly memory', memoryOf(65536, true), false),
    feature('free memory', free >= COMFORTABLE_MEMORY, false, `${Math.floor(free / MIB)} MiB`),
    feature('terminal on stdin', terminal, false, terminal ? 'yes' : 'no: the console is not interactive'),
    feature('VMs', true, true, 'yes, under KVM on VT-x'),
    feature('TDs', true, true, 'yes, under KVM on the TDX module'),
  ];
}

/** The command; `exit` receives 1 if something that is needed is missing. */
export function doctorCommandWith(exit: (code: number) => void): CommandDef {
  return defineCommand({
    meta: { name: 'doctor', description: 'what this platform offers and lacks' },
    run() {
      const found = findings();
      for (const { name, ok, required, detail } of found) {
        console.log(`${(ok ? 'ok' : required ? 'MISSING' : '-').padEnd(8)}${name}: ${detail}`);
      }
      exit(found.every(({ ok, required }) => ok || !required) ? 0 : 1);
    },
  });
}
