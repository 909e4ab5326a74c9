/**
 * Finds distribution mirrors in apt's configuration.
 *
 * Both formats of sources.list(5) are read: one line per source (`*.list`) and deb822 stanzas (`*.sources`). Only
 * binary sources over http and https count.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One binary source of apt's configuration. */
export interface AptSource {
  /** The repository's base address, without a slash at its end. */
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** A keyring file that must have signed the suite's index, when the source names one. */
  readonly signedBy: string | undefined;
}

function isWebAddress(uri: string): boolean {
  return /^https?:\/\/./.test(uri);
}

/** Reads the one-line format: `deb [options] uri suite component...`. */
export function parseOneLineSources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const rawLine of text.split('\n')) {
    const line = rawLine.replace(/#.*/, '').trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (match === null) continue;
    const [, options = '', uri = '', suite = '', components = ''] = match;
    if (!isWebAddress(uri)) continue;
    const signedBy = /(?:^|\s)signed-by=(\/\S+)/i.exec(options)?.[1];
    sources.push({
      uri: uri.replace(/\/+$/, ''),
      suites: [suite],
      components: components.split(/\s+/).filter((word) => word !== ''),
      signedBy: signedBy?.split(',')[0],
    });
  }
  return sources;
}

/** Reads deb822 stanzas: `Types`, `URIs`, `Suites`, `Components`, `Signed-By`, `Enabled`. */
export function parseDeb822Sources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  // A comment line does not end a stanza; an empty line does.
  const lines = text.split('\n').filter((line) => !line.startsWith('#'));
  for (const stanza of lines.join('\n').split(/\n[ \t]*\n/)) {
    const fields = new Map<string, string>();
    for (const field of stanza.split(/\n(?![ \t])/)) {
      const colon = field.indexOf(':');
      if (colon > 0) fields.set(field.slice(0, colon).trim().toLowerCase(), field.slice(colon + 1).trim());
    }
    const words = (name: string): string[] => (fields.get(name) ?? '').split(/\s+/).filter((word) => word !== '');
    if (!words('types').includes('deb') || fields.get('enabled') === 'no') continue;
    // Signed-By may also hold the key itself; only a file can be handed on.
    const signedBy = words('signed-by').find((word) => word.startsWith('/'));
    for (const uri of words('uris').filter(isWebAddress)) {
      sources.push({
        uri: uri.replace(/\/+$/, ''),
        suites: words('suites'),
        components: words('components'),
        signedBy,
      });
    }
  }
  return sources;
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function listIfThere(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

/** Every binary web source below an apt configuration directory; empty where there is no apt. */
export function readAptSources(aptDirectory: string): AptSource[] {
  const sources = parseOneLineSources(readIfThere(join(aptDirectory, 'sources.list')));
  const parts = join(aptDirectory, 'sources.list.d');
  for (const name of listIfThere(parts)) {
    const text = (): string => readIfThere(join(parts, name));
    if (name.endsWith('.list')) sources.push(...parseOneLineSources(text()));
    else if (name.endsWith('.sources')) sources.push(...parseDeb822Sources(text()));
  }
  return sources;
}
