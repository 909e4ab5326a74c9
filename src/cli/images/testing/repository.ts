/** A tiny package repository on a local HTTP server, whose answers a test can spoil. */

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { writeXz } from './xz-writer.ts';

/** A package to offer. */
export interface OfferedPackage {
  readonly name: string;
  readonly version: string;
  readonly depends?: string;
  readonly deb: Uint8Array;
}

/** How the server spoils the answers for one path. */
export interface Fault {
  /** Break the connection after so many bytes of the body, for the next `times` requests. */
  readonly cutAfter?: number;
  times?: number;
  /** Send these bytes instead. */
  readonly replace?: Uint8Array;
  /** Ignore Range. */
  readonly noRange?: boolean;
}

/** A running repository. */
export interface Repository {
  /** Base address, as SOFTVT_MIRROR takes it. */
  readonly base: string;
  /** Each request as `path` or `path from OFFSET`. */
  readonly requests: string[];
  /** By path from the base, without a slash in front. */
  readonly faults: Map<string, Fault>;
  /** Offers a suite; replaces what it held. `sign` turns the index's text into `InRelease`. */
  publish(suite: string, packages: readonly OfferedPackage[], options?: PublishOptions): Promise<void>;
  close(): Promise<void>;
}

/** How a suite is published. */
export interface PublishOptions {
  readonly sign?: (release: string) => Promise<string>;
  readonly byHash?: boolean;
  readonly validUntil?: string;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function pathOf(entry: OfferedPackage): string {
  return `pool/main/${entry.name}_${entry.version.replace(/^\d+:/, '')}_amd64.deb`;
}

function stanza(entry: OfferedPackage): string {
  return [
    `Package: ${entry.name}`,
    `Version: ${entry.version}`,
    ...(entry.depends === undefined ? [] : [`Depends: ${entry.depends}`]),
    'Description: a package',
    ` Package: of the tests`,
    `Filename: ${pathOf(entry)}`,
    `Size: ${entry.deb.length}`,
    `SHA256: ${sha256(entry.deb)}`,
    '',
  ].join('\n');
}

/** Starts a repository on a free port of the loopback interface. */
export async function startRepository(): Promise<Repository> {
  const files = new Map<string, Uint8Array>();
  const requests: string[] = [];
  const faults = new Map<string, Fault>();

  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const path = (request.url ?? '').replace(/^\/debian\//, '');
    const fault = faults.get(path);
    const body = fault?.replace ?? files.get(path);
    const range = fault?.noRange === true ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const from = Number(range?.[1] ?? 0);
    requests.push(from > 0 ? `${path} from ${from}` : path);
    if (body === undefined) {
      response.writeHead(404).end();
      return;
    }
    const rest = body.subarray(from);
    response.writeHead(range === null ? 200 : 206, { 'content-length': rest.length });
    if (fault?.cutAfter !== undefined && (fault.times ?? 1) > 0) {
      fault.times = (fault.times ?? 1) - 1;
      response.write(rest.subarray(0, fault.cutAfter), () => response.destroy());
      return;
    }
    response.end(rest);
  };

  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/debian`;

  return {
    base,
    requests,
    faults,
    async publish(suite, packages, options = {}) {
      for (const path of [...files.keys()]) if (path.startsWith(`dists/${suite}/`)) files.delete(path);
      for (const entry of packages) files.set(pathOf(entry), entry.deb);
      const list = writeXz(Buffer.from(packages.map(stanza).join('\n')));
      const directory = `dists/${suite}/main/binary-amd64`;
      files.set(`${directory}/Packages.xz`, list);
      if (options.byHash === true) files.set(`${directory}/by-hash/SHA256/${sha256(list)}`, list);
      const release = [
        'Origin: Test',
        `Codename: ${suite}`,
        ...(options.byHash === true ? ['Acquire-By-Hash: yes'] : []),
        ...(options.validUntil === undefined ? [] : [`Valid-Until: ${options.validUntil}`]),
        'SHA256:',
        ` ${sha256(list)} ${list.length} main/binary-amd64/Packages.xz`,
        '',
      ].join('\n');
      files.set(`dists/${suite}/InRelease`, Buffer.from((await options.sign?.(release)) ?? release));
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
