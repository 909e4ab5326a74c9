/** `softvt images`: lists, fetches and checks the cached guest images, and makes initramfs files of them. */

import { readFileSync, writeFileSync } from 'node:fs';
import { type CommandDef, defineCommand } from 'citty';
import { SoftvtError } from '../../util/errors.ts';
import { errnoOf } from './cache-files.ts';
import { catalogEntry, DEFAULT_IMAGES } from './catalog.ts';
import { buildInitramfs } from './initramfs.ts';
import { collectModules } from './modules.ts';
import { progressWriter } from './progress.ts';
import { type ImageStore, type ImageStoreOptions, openImageStore } from './store.ts';

/** The driver by which user space in a TD reaches the TDX module. */
const TDX_GUEST = 'tdx_guest';

const offline = { type: 'boolean', description: 'never use the network' } as const;

/** Runs `work` on a store that reports its progress on stderr. */
async function withStore<T>(options: ImageStoreOptions, work: (store: ImageStore) => Promise<T>): Promise<T> {
  const writer = progressWriter(process.stderr);
  try {
    return await work(openImageStore({ ...options, progress: writer.listener }));
  } finally {
    writer.end();
  }
}

/** Writes the file the user named; unlike the cache it may be a pipe or a device. */
function writeOutput(path: string, data: Uint8Array): void {
  try {
    writeFileSync(path, data);
  } catch (error) {
    throw new SoftvtError('ERR_SOFTVT_OUTPUT', `cannot write ${path}: ${errnoOf(error) ?? 'unknown error'}`, {
      cause: error,
    });
  }
}

/** Prints a table row; the last column is not padded. */
function row(...columns: readonly string[]): void {
  const widths = [12, 10, 30];
  console.log(
    columns
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join(' ')
      .trimEnd(),
  );
}

function list(): void {
  row('NAME', 'SUITE', 'CACHED VERSION', 'MODULES');
  for (const { entry, manifest } of openImageStore().list()) {
    let modules = '';
    if (entry.kind === 'kernel' && manifest !== undefined) modules = manifest.modules === undefined ? 'no' : 'yes';
    row(entry.name, entry.suite, manifest?.version ?? '-', modules);
  }
}

const listCommand = defineCommand({
  meta: { name: 'list', description: 'the known images, and what the cache has of them' },
  run: () => list(),
});

const fetchCommand = defineCommand({
  meta: { name: 'fetch', description: `fetch or bring up to date; without names: ${DEFAULT_IMAGES.join(', ')}` },
  args: {
    modules: {
      type: 'boolean',
      default: true,
      description: 'the kernels’ loadable modules',
      negativeDescription: 'leave the modules out',
    },
    offline,
  },
  async run({ args }) {
    const names = args._.length > 0 ? args._ : DEFAULT_IMAGES;
    const entries = names.map(catalogEntry);
    await withStore({ refresh: true, offline: args.offline ?? false }, async (store) => {
      for (const entry of entries) {
        if (entry.kind === 'file') await store.ensureFile(entry.name);
        else await store.ensureImage(entry.name, { modules: args.modules });
      }
    });
    list();
  },
});

const verifyCommand = defineCommand({
  meta: { name: 'verify', description: 'hash every cached file again' },
  run() {
    const store = openImageStore();
    const damaged = store.verify();
    if (damaged.length > 0) {
      const more = damaged.length > 1 ? ` and ${damaged.length - 1} more` : '';
      throw new SoftvtError('ERR_SOFTVT_HASH', `${damaged[0]}${more}`, { hint: 'softvt images fetch mends it' });
    }
    const cached = store.list().filter(({ manifest }) => manifest !== undefined);
    console.log(`${cached.length} cached images, all as they were fetched`);
  },
});

const pathCommand = defineCommand({
  meta: { name: 'path', description: 'print where an image lies; fetch it if need be' },
  args: { name: { type: 'positional', description: 'an image of softvt images list', required: true }, offline },
  async run({ args }) {
    const entry = catalogEntry(args.name);
    console.log(
      await withStore({ offline: args.offline ?? false }, async (store) =>
        entry.kind === 'file' ? await store.ensureFile(entry.name) : (await store.ensureImage(entry.name)).vmlinuz,
      ),
    );
  },
});

const initrdCommand = defineCommand({
  meta: { name: 'initrd', description: 'write an initramfs: busybox, a marker line, then power-off or a shell' },
  args: {
    out: { type: 'string', required: true, valueHint: 'FILE', description: 'the file to write' },
    shell: { type: 'boolean', description: 'a shell on the console instead of powering off' },
    kernel: { type: 'string', valueHint: 'NAME', description: 'the image whose modules --load means' },
    load: { type: 'string', valueHint: 'MODULE,…', description: 'modules to put in and load, with what they need' },
    tdreport: { type: 'boolean', description: 'load tdx_guest, read a TDREPORT and print it (with --kernel)' },
    offline,
  },
  async run({ args }) {
    const { out, kernel } = args;
    const tdreport = args.tdreport === true;
    const load = [...(args.load?.split(',') ?? []), ...(tdreport ? [TDX_GUEST] : [])];
    if ((kernel === undefined) !== (load.length === 0)) {
      throw new SoftvtError('ERR_SOFTVT_USAGE', '--kernel belongs together with --load or --tdreport');
    }
    await withStore({ offline: args.offline ?? false }, async (store) => {
      const busybox = readFileSync(await store.ensureBusybox());
      const init = args.shell === true ? 'shell' : 'poweroff';
      if (kernel === undefined) {
        writeOutput(out, buildInitramfs({ busybox, init }));
        return;
      }
      const { modules = '' } = await store.ensureImage(kernel, { modules: true });
      const set = await collectModules(modules, load);
      writeOutput(out, buildInitramfs({ busybox, init, tdreport, ...set }));
    });
  },
});

/** The `softvt images` command with its subcommands. */
export const imagesCommand: CommandDef = defineCommand({
  meta: { name: 'images', description: 'list, fetch, verify the cached guest images' },
  default: 'list',
  subCommands: {
    list: listCommand,
    fetch: fetchCommand,
    verify: verifyCommand,
    path: pathCommand,
    initrd: initrdCommand,
  },
});
