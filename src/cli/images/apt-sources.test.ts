import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseDeb822Sources, parseOneLineSources } from './apt-sources.ts';
import { cacheDirectory, readEnvironment } from './environment.ts';

test('one-line sources: options, comments, source packages and other schemes', () => {
  const sources = parseOneLineSources(
    [
      '# deb http://commented.example/debian bookworm main',
      'deb http://one.example/debian/ bookworm main contrib # trailing',
      'deb [arch=amd64 signed-by=/keys/a.gpg] https://two.example/debian trixie main',
      'deb-src http://one.example/debian bookworm main',
      'deb cdrom:[Debian]/ bookworm main',
      'deb [trusted=yes] file:/srv/debian bookworm main',
      '',
    ].join('\n'),
  );
  expect(sources).toEqual([
    { uri: 'http://one.example/debian', suites: ['bookworm'], components: ['main', 'contrib'], signedBy: undefined },
    { uri: 'https://two.example/debian', suites: ['trixie'], components: ['main'], signedBy: '/keys/a.gpg' },
  ]);
});

test('deb822 sources: stanzas, comments inside them, continuation lines, several addresses, disabled ones', () => {
  const sources = parseDeb822Sources(
    [
      'Types: deb deb-src',
      '# a comment does not end the stanza',
      'URIs: http://one.example/debian',
      ' https://two.example/debian/',
      'Suites: bookworm bookworm-updates',
      'Components: main',
      'Signed-By: /keys/b.gpg',
      '',
      'Types: deb',
      'URIs: http://off.example/debian',
      'Suites: bookworm',
      'Components: main',
      'Enabled: no',
      '',
      'Types: deb-src',
      'URIs: http://source.example/debian',
      'Suites: bookworm',
      'Components: main',
      '',
      'types: deb',
      'uris: http://lower.example/debian',
      'suites: trixie',
      'components: main',
      'signed-by:',
      ' -----BEGIN PGP PUBLIC KEY BLOCK-----',
      ' .',
      ' mDMEZ',
    ].join('\n'),
  );
  const both = { suites: ['bookworm', 'bookworm-updates'], components: ['main'], signedBy: '/keys/b.gpg' };
  expect(sources).toEqual([
    { uri: 'http://one.example/debian', ...both },
    { uri: 'https://two.example/debian', ...both },
    { uri: 'http://lower.example/debian', suites: ['trixie'], components: ['main'], signedBy: undefined },
  ]);
});

test('the mirrors of a machine are its sources that hold the distribution, each once, the key file if it is there', () => {
  const apt = mkdtempSync(join(tmpdir(), 'softvt-apt-'));
  try {
    const keyring = join(apt, 'key.gpg');
    writeFileSync(keyring, '');
    writeFileSync(join(apt, 'sources.list'), 'deb http://list.example/debian bookworm main\n');
    mkdirSync(join(apt, 'sources.list.d'));
    const part = (name: string, text: string): void => writeFileSync(join(apt, 'sources.list.d', name), text);
    part('a.list', 'deb http://vendor.example/repo stable-tools main\ndeb http://list.example/debian trixie main\n');
    part(
      'b.sources',
      `Types: deb\nURIs: http://deb822.example/debian\nSuites: sid\nComponents: main\nSigned-By: ${keyring}\n`,
    );
    part(
      'c.sources',
      'Types: deb\nURIs: http://sec.example/debian-security\nSuites: bookworm-security\nComponents: main\n',
    );
    part('d.bak', 'deb http://ignored.example/debian bookworm main\n');
    const { mirrors } = readEnvironment({}, apt);
    expect(mirrors.map((mirror) => mirror.base)).toEqual([
      'http://list.example/debian',
      'http://deb822.example/debian',
    ]);
    expect(mirrors[1]?.keyring).toBe(keyring);
    const ownKey = readEnvironment({ SOFTVT_KEYRING: '/own.gpg' }, apt);
    expect(ownKey.mirrors.map((mirror) => mirror.keyring)).toEqual(['/own.gpg', '/own.gpg']);
    const named = readEnvironment({ SOFTVT_MIRROR: 'http://own.example/debian/' }, apt);
    expect(named.mirrors.map((mirror) => mirror.base)).toEqual(['http://own.example/debian']);
  } finally {
    rmSync(apt, { recursive: true });
  }
});

test('a machine without apt has no mirror', () => {
  expect(readEnvironment({}, '/nonexistent/apt').mirrors).toEqual([]);
});

test('the cache is SOFTVT_CACHE, else below the XDG cache directory, else below ~/.cache', () => {
  expect(cacheDirectory({ SOFTVT_CACHE: '/own', XDG_CACHE_HOME: '/xdg' })).toBe('/own');
  expect(cacheDirectory({ XDG_CACHE_HOME: '/xdg' })).toBe('/xdg/softvt');
  expect(cacheDirectory({ XDG_CACHE_HOME: 'relative' })).toMatch(/\/\.cache\/softvt$/);
});
