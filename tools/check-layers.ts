/**
 * Checks who imports whom, exactly: project references are transitive and would let a layer reach through another.
 *
 * `node tools/check-layers.ts` prints each violation as `file:line: rule` and exits with 1 if there is one.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { posix, relative, sep } from 'node:path';

/** The layers each layer may import, itself apart. What is not named here may import everything. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  util: [],
  devices: ['util'],
  machine: ['util', 'devices'],
  'tdx-module': ['util', 'machine'],
  host: ['util', 'machine'],
  kvm: ['util', 'devices', 'machine', 'host'],
  vmm: ['util', 'devices', 'machine', 'host', 'kvm'],
  attest: ['util'],
  debug: ['util', 'devices', 'machine', 'tdx-module', 'host', 'kvm', 'vmm', 'attest'],
};

/** Single files that a layer may import beyond its layers: the clock is the machine's, timers on it the devices'. */
const ALLOWED_FILES: Readonly<Record<string, readonly string[]>> = {
  host: ['src/devices/clock.ts', 'src/devices/timer-queue.ts'],
};

/** The composition root, which only the front ends import. */
const COMPOSITION_ROOT = 'src/index.ts';

/** Layers that may use Node; everything else runs in the browser too. */
const NODE_LAYERS: readonly string[] = ['cli'];

/** Packages the core may import: audited cryptography without dependencies. */
const CORE_PACKAGES: readonly string[] = ['@noble/hashes', '@noble/curves'];

const VMX = 'src/kvm/x86/vmx';

/** One import statement or dynamic import of a source file. */
export interface Import {
  /** Path of the importing file from the repository's root, with forward slashes. */
  readonly from: string;
  readonly line: number;
  readonly specifier: string;
}

/** Every import in a file's text. */
export function findImports(from: string, text: string): Import[] {
  const imports: Import[] = [];
  const pattern =
    /(?:^|[;}\n])\s*(?:import|export)\s(?:[^'"`;]*?\sfrom\s)?\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;
  for (const match of text.matchAll(pattern)) {
    const specifier = match[1] ?? match[2] ?? '';
    const line = text.slice(0, match.index + match[0].length).split('\n').length;
    imports.push({ from, line, specifier });
  }
  return imports;
}

/** Tests and what only tests use: `test-*.ts`, `testing.ts`, and everything in a folder `testing`. */
function isTest(path: string): boolean {
  return /\.test\.ts$|\/test-[^/]+\.ts$|\/testing(\.ts$|\/)/.test(path);
}

function layerOf(path: string): string | undefined {
  return /^src\/([^/]+)\//.exec(path)?.[1];
}

function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function checkPackage(specifier: string, layer: string): string | undefined {
  const name = packageOf(specifier.replace(/^node:/, ''));
  if (specifier.startsWith('node:') || builtinModules.includes(name))
    return `src/${layer} runs in browsers: no ${specifier}`;
  return CORE_PACKAGES.includes(name) ? undefined : `src/${layer} imports no packages: ${specifier}`;
}

/** The rule an import breaks, or undefined. */
export function violation({ from, specifier }: Import): string | undefined {
  const layer = layerOf(from);
  if (layer === undefined || isTest(from)) return undefined;
  if (!specifier.startsWith('.')) {
    // The browser's front end takes its own packages but never Node.
    if (NODE_LAYERS.includes(layer) || (layer === 'web' && !specifier.startsWith('node:'))) return undefined;
    return checkPackage(specifier, layer);
  }
  if (!specifier.endsWith('.ts')) return `imports end in .ts: ${specifier}`;
  const target = posix.join(posix.dirname(from), specifier);
  const targetLayer = layerOf(target);
  if (isTest(target)) return `only tests import ${target}`;
  if (target === COMPOSITION_ROOT && (layer === 'cli' || layer === 'web')) return undefined;
  if (ALLOWED_FILES[layer]?.includes(target) === true) return undefined;
  if (targetLayer === undefined) return `nothing in a layer imports ${target}`;
  const allowed = ALLOWED[layer];
  if (targetLayer !== layer && allowed !== undefined && !allowed.includes(targetLayer)) {
    return `${layer} must not import ${targetLayer}: ${specifier}`;
  }
  if (from.startsWith('src/kvm/virt/') && target.startsWith('src/kvm/x86/')) {
    return `kvm/virt knows no architecture: ${specifier}`;
  }
  // Both backends meet in main.ts alone.
  if (from === `${VMX}/vmx.ts` && target === `${VMX}/tdx.ts`) return 'vmx.ts must not import tdx.ts';
  if (from === `${VMX}/tdx.ts` && target === `${VMX}/vmx.ts`) return 'tdx.ts must not import vmx.ts';
  return undefined;
}

/** Files other than `main.ts` that import both backends. */
export function importersOfBothBackends(imports: readonly Import[]): string[] {
  const backends = new Map<string, Set<string>>();
  for (const { from, specifier } of imports) {
    if (from === `${VMX}/main.ts` || from.endsWith('.test.ts') || !from.startsWith('src/')) continue;
    const target = posix.join(posix.dirname(from), specifier);
    if (target !== `${VMX}/vmx.ts` && target !== `${VMX}/tdx.ts`) continue;
    backends.set(from, (backends.get(from) ?? new Set()).add(target));
  }
  return [...backends].filter(([, targets]) => targets.size === 2).map(([from]) => from);
}

/** Checks every TypeScript file below `src`. Returns one line per violation. */
export function checkLayers(root: string): string[] {
  const files = readdirSync(`${root}/src`, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, `${entry.parentPath}/${entry.name}`).split(sep).join('/'))
    .sort();
  const imports = files.flatMap((file) => findImports(file, readFileSync(`${root}/${file}`, 'utf8')));
  const lines = imports.flatMap((found) => {
    const rule = violation(found);
    return rule === undefined ? [] : [`${found.from}:${found.line}: ${rule}`];
  });
  return [
    ...lines,
    ...importersOfBothBackends(imports).map((file) => `${file}:1: only vmx/main.ts imports both backends`),
  ];
}

if (import.meta.main) {
  const violations = checkLayers('.');
  for (const line of violations) console.error(line);
  if (violations.length > 0) process.exit(1);
  console.log('layers: no violation');
}
