/** Source packages of the distribution at hand: apt fetches and checks them, with lists of its own below the cache. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readEnvironment } from '../../src/cli/images/environment.ts';
import { SoftvtError } from '../../src/util/errors.ts';
import { hostTool } from './packages.ts';

/** The distribution's release, as its sources are named. */
function suite(): string {
  const [, name] = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8')) ?? [];
  if (name === undefined) throw new SoftvtError('ERR_SOFTVT_PACKAGE', 'this host does not say which release it is');
  return name;
}

/** Fetches the source package `name` into the cache and returns the path of its upstream archive. */
export function fetchSource(name: string): string {
  const { cacheDirectory, mirrors } = readEnvironment();
  const directory = join(cacheDirectory, 'apt', 'source');
  mkdirSync(join(directory, 'lists', 'partial'), { recursive: true });
  const list = join(directory, 'sources.list');
  const lines = mirrors.map(({ base, keyring }) => {
    return `deb-src ${keyring === undefined ? '' : `[signed-by=${keyring}] `}${base} ${suite()} main\n`;
  });
  // The first mirror has all suites that softvt knows.
  writeFileSync(list, lines[0] ?? '');
  const own = {
    'Dir::Etc::SourceList': list,
    'Dir::Etc::SourceParts': '-',
    'Dir::State::Lists': join(directory, 'lists'),
  };
  const options = Object.entries(own).flatMap(([option, value]) => ['-o', `${option}=${value}`]);
  hostTool('apt-get', ['update', ...options], directory);
  const uris = hostTool('apt-get', ['source', '--print-uris', ...options, name], '/');
  hostTool('apt-get', ['source', '--download-only', ...options, name], directory);
  const archive = /^'\S+' (\S+\.orig\.tar\.\S+) /m.exec(uris)?.[1];
  if (archive === undefined) throw new SoftvtError('ERR_SOFTVT_PACKAGE', `${name} has no upstream archive`);
  return join(directory, archive);
}
