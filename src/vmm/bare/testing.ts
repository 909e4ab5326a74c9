/** Bare guests for tests: assembled code and somewhere to run it. */

import { defaultPlatform } from '../../host/platform.ts';
import { assemble } from '../../machine/isa/assembler/assemble.ts';
import { ByteWriter } from '../byte-writer.ts';
import type { GuestConfig } from '../guest-run.ts';
import type { ConsoleSink } from '../serial-console.ts';
import { BareRunner } from './bare-runner.ts';

const LOAD_ADDRESS = 0x100000;
const HEADER_SIZE = 32;

/** A Multiboot image of 32-bit code, which begins at 100020h. */
export function multibootCode(source: string): Uint8Array {
  const entry = LOAD_ADDRESS + HEADER_SIZE;
  const { bytes } = assemble(source, 32, BigInt(entry));
  const flags = 0x10000;
  return new ByteWriter()
    .u32(0x1badb002, flags, -(0x1badb002 + flags) >>> 0)
    .u32(LOAD_ADDRESS, LOAD_ADDRESS, 0, 0, entry)
    .bytes(bytes)
    .finish();
}

/** Collects what a guest prints. */
export class Screen implements ConsoleSink {
  text = '';
  ready: Promise<void> | undefined;
  write(bytes: Uint8Array): void {
    this.text += new TextDecoder('latin1').decode(bytes);
  }
}

/** What a test guest is if nothing else is said. */
export const BARE_CONFIG: GuestConfig = {
  type: 'bare',
  kernel: new Uint8Array(0),
  kernelName: 'kernel',
  commandLine: '',
  memorySize: 0x400000,
  cpus: 1,
  seed: 0,
  clock: 'virtual',
  epochSeconds: 0,
  reboot: false,
};

/** Starts a bare guest. */
export function startBare(extra: Partial<GuestConfig>): { guest: BareRunner; screen: Screen } {
  const screen = new Screen();
  return { screen, guest: new BareRunner(defaultPlatform, { ...BARE_CONFIG, ...extra }, screen) };
}
