/** How each emulator is asked to run the same guest, and which are installed. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bootDisk, type DiskGuest } from './disk.ts';
import type { GuestImages } from './guest-image.ts';
import { type Command, type WatchedRun, watch } from './watch.ts';

/** An emulator that the bench can use. */
export interface Emulator {
  readonly name: string;
  /** Runs a guest until it prints `last`; it prints `entry` when the kernel is entered. */
  run(guest: DiskGuest, last: string, seconds: number): Promise<WatchedRun>;
}

const MIB = 2 ** 20;
const SOFTVT_CHILD: string = fileURLToPath(new URL('softvt-child.ts', import.meta.url));
const V86_CHILD: string = fileURLToPath(new URL('v86-child.ts', import.meta.url));

function inDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'softvt-bench-'));
  return work(directory).finally(() => rmSync(directory, { recursive: true }));
}

/** softvt itself, as a process of its own. */
export const SOFTVT: Emulator = {
  name: 'softvt',
  run: (guest, last, seconds) =>
    inDirectory((directory) => {
      const kernel = join(directory, 'kernel');
      const initrd = join(directory, 'initrd');
      writeFileSync(kernel, guest.kernel);
      if (guest.initrd !== undefined) writeFileSync(initrd, guest.initrd);
      const args = [SOFTVT_CHILD, kernel, guest.initrd === undefined ? '' : initrd, guest.commandLine];
      return watch({ program: process.execPath, args: [...args, String(guest.memorySize)] }, last, seconds);
    }),
};

/** v86, a peer for 32-bit Multiboot images only; on Node too, in a process of its own. */
export const V86: Emulator = {
  name: 'v86',
  run: (guest, last, seconds) =>
    inDirectory((directory) => {
      const kernel = join(directory, 'kernel');
      writeFileSync(kernel, guest.kernel);
      return watch({ program: process.execPath, args: [V86_CHILD, kernel, String(guest.memorySize)] }, last, seconds);
    }),
};

/** First line of what a program says of its version, or undefined if it is not installed. */
function versionOf(program: string, ...args: string[]): string | undefined {
  const { error, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input: '' });
  if (error !== undefined) return undefined;
  return /\d+\.\d+(\.\d+)?/.exec(stdout + stderr)?.[0] ?? 'of unknown version';
}

/** A peer that boots from a disk of ours. */
function diskEmulator(
  name: string,
  images: GuestImages,
  command: (directory: string, disk: string, cylinders: number, mebibytes: number) => Command,
): Emulator {
  return {
    name,
    run: (guest, last, seconds) =>
      inDirectory((directory) => {
        const { bytes, cylinders } = bootDisk(images, guest);
        const disk = join(directory, 'disk');
        writeFileSync(disk, bytes);
        return watch(command(directory, disk, cylinders, guest.memorySize / MIB), last, seconds);
      }),
  };
}

const QEMU_ARGS = ['-nodefaults', '-accel', 'tcg', '-display', 'none', '-serial', 'stdio', '-no-reboot'];

/**
 * QEMU. A Linux kernel is booted by -kernel, as its users do: from our disk the same boot takes several times as long (7.2,
 * cause not known). Nothing tells when the kernel is entered then, so the time counts from the start of the process.
 */
function qemu(program: string, images: GuestImages): Emulator | undefined {
  const version = versionOf(program, '--version');
  if (version === undefined) return undefined;
  const fromDisk = diskEmulator(`QEMU ${version}`, images, (_, disk, __, mebibytes) => ({
    program,
    args: [...QEMU_ARGS, '-m', `${mebibytes}M`, '-drive', `file=${disk},format=raw,if=ide`],
  }));
  return {
    name: fromDisk.name,
    run: (guest, last, seconds) => {
      const { initrd } = guest;
      if (initrd === undefined) return fromDisk.run(guest, last, seconds);
      return inDirectory(async (directory) => {
        const files = [join(directory, 'kernel'), join(directory, 'initrd')] as const;
        writeFileSync(files[0], guest.kernel);
        writeFileSync(files[1], initrd);
        const boot = ['-kernel', files[0], '-initrd', files[1], '-append', guest.commandLine];
        const run = await watch(
          { program, args: [...QEMU_ARGS, '-m', `${guest.memorySize / MIB}M`, ...boot] },
          last,
          seconds,
        );
        return { ...run, lines: [{ text: 'entry', cpu: 0, wall: 0, memory: 0 }, ...run.lines] };
      });
    },
  };
}

function bochs(images: GuestImages): Emulator | undefined {
  const version = versionOf('bochs', '--help');
  if (version === undefined) return undefined;
  return diskEmulator(`Bochs ${version}`, images, (directory, disk, cylinders, mebibytes) => {
    const configuration = join(directory, 'bochsrc');
    const commands = join(directory, 'commands');
    // A build with the debugger waits for a command; others ignore -rc.
    writeFileSync(commands, 'continue\n');
    writeFileSync(
      configuration,
      [
        'config_interface: textconfig',
        'display_library: rfb, options="timeout=0"',
        `memory: guest=${mebibytes}, host=${mebibytes}`,
        'romimage: file=/usr/share/bochs/BIOS-bochs-latest',
        'vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest',
        'ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14',
        `ata0-master: type=disk, path="${disk}", mode=flat, cylinders=${cylinders}, heads=16, spt=63`,
        'boot: disk',
        'cpu: model=corei7_haswell_4770, count=1, ips=100000000, reset_on_triple_fault=0',
        'clock: sync=none',
        // The speaker wants a sound card.
        'plugin_ctrl: speaker=0',
        'com1: enabled=1, mode=file, dev=/dev/stdout',
        `log: ${join(directory, 'log')}`,
        'panic: action=fatal',
        'info: action=ignore',
        'error: action=ignore',
        '',
      ].join('\n'),
    );
    // Bochs opens /dev/stdout anew, which works for a pipe but not for the socket that Node makes.
    const script = 'exec bochs -q -f "$1" -rc "$2" > >(cat)';
    return { program: 'bash', args: ['-c', script, 'bash', configuration, commands] };
  });
}

/** The peers that are installed. */
export function peers(images: GuestImages): Emulator[] {
  const program = process.env['SOFTVT_BENCH_QEMU'] ?? 'qemu-system-x86_64';
  return [qemu(program, images), bochs(images)].filter((peer) => peer !== undefined);
}
