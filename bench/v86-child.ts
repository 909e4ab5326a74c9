/** Runs one Multiboot image on v86 and prints what the guest prints: a child of the bench. */

import { readFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { V86 } from 'v86';

const [kernel = '', memorySize = '0'] = process.argv.slice(2);
const STDOUT = 1;
const NEWLINE = 10;

const emulator = new V86({
  wasm_path: fileURLToPath(new URL('v86.wasm', import.meta.resolve('v86'))),
  memory_size: Number(memorySize),
  multiboot: { buffer: Uint8Array.from(readFileSync(kernel)).buffer },
  autostart: true,
  disable_keyboard: true,
  disable_mouse: true,
  disable_speaker: true,
});
let line: number[] = [];
emulator.add_listener('serial0-output-byte', (byte: number) => {
  line.push(byte);
  if (byte !== NEWLINE) return;
  writeSync(STDOUT, Uint8Array.from(line));
  line = [];
});
