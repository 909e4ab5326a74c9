import { expect, test } from 'vitest';
import { checkLayers, findImports, importersOfBothBackends, violation } from './check-layers.ts';

function check(from: string, specifier: string): string | undefined {
  return violation({ from, line: 1, specifier });
}

test('imports of every form are found with their line', () => {
  const text = [
    "import { a } from './a.ts';",
    "import type { B } from '../b.ts';",
    'import {',
    '  c,',
    "} from './c.ts';",
    "export { d } from './d.ts';",
    "export * from './e.ts';",
    "import './f.ts';",
    "const g = await import('./g.ts');",
    "// a comment about importing from 'nowhere'",
    "const text = 'import';",
  ].join('\n');
  expect(findImports('src/util/x.ts', text).map(({ line, specifier }) => `${line} ${specifier}`)).toEqual([
    '1 ./a.ts',
    '2 ../b.ts',
    '5 ./c.ts',
    '6 ./d.ts',
    '7 ./e.ts',
    '8 ./f.ts',
    '9 ./g.ts',
  ]);
});

test.each([
  ['src/kvm/x86/x86.ts', '../../host/pages.ts'],
  ['src/kvm/x86/x86.ts', '../../machine/processor.ts'],
  ['src/machine/processor.ts', '../devices/lapic.ts'],
  ['src/cli/main.ts', 'node:fs'],
  ['src/cli/main.ts', 'citty'],
  ['src/util/crypto/hash.ts', '@noble/hashes/sha2.js'],
  ['src/kvm/x86/x86.test.ts', '../../vmm/vm.ts'],
  ['src/kvm/x86/vmx/main.ts', './tdx.ts'],
  ['src/index.ts', './vmm/vm.ts'],
  ['src/cli/main.ts', '../index.ts'],
  ['src/host/timers.ts', '../devices/clock.ts'],
  ['src/host/timers.ts', '../devices/timer-queue.ts'],
  ['src/machine/vtx/test-entry.ts', 'vitest'],
])('%s may import %s', (from, specifier) => {
  expect(check(from, specifier)).toBeUndefined();
});

test.each([
  ['src/machine/processor.ts', '../kvm/x86/x86.ts', 'machine must not import kvm'],
  ['src/kvm/index.ts', '../index.ts', 'nothing in a layer imports'],
  ['src/host/timers.ts', '../devices/uart.ts', 'host must not import devices'],
  ['src/host/tdx.ts', '../tdx-module/module.ts', 'host must not import tdx-module'],
  ['src/kvm/x86/vmx/tdx.ts', '../../../tdx-module/module.ts', 'kvm must not import tdx-module'],
  ['src/kvm/virt/kvm_main.ts', '../../vmm/vm.ts', 'kvm must not import vmm'],
  ['src/kvm/virt/kvm_main.ts', '../x86/x86.ts', 'knows no architecture'],
  ['src/kvm/x86/vmx/vmx.ts', './tdx.ts', 'vmx.ts must not import tdx.ts'],
  ['src/kvm/x86/vmx/tdx.ts', './vmx.ts', 'tdx.ts must not import vmx.ts'],
  ['src/machine/memory.ts', 'node:buffer', 'runs in browsers'],
  ['src/machine/memory.ts', 'fs', 'runs in browsers'],
  ['src/vmm/vm.ts', 'citty', 'imports no packages'],
  ['src/vmm/vm.ts', './serial', 'end in .ts'],
  ['src/vmm/vm.ts', '../../tools/build.ts', 'nothing in a layer imports'],
  ['src/machine/vtx/entry.ts', './test-guest.ts', 'only tests import'],
  ['src/machine/machine.ts', './processor/testing/lab.ts', 'only tests import'],
])('%s may not import %s', (from, specifier, rule) => {
  expect(check(from, specifier)).toContain(rule);
});

test('only main.ts imports both backends', () => {
  const both = (from: string) => ['./vmx.ts', './tdx.ts'].map((specifier) => ({ from, line: 1, specifier }));
  expect(importersOfBothBackends(both('src/kvm/x86/vmx/main.ts'))).toEqual([]);
  expect(importersOfBothBackends(both('src/kvm/x86/vmx/common.ts'))).toEqual(['src/kvm/x86/vmx/common.ts']);
});

test('the repository keeps its own rules', () => {
  expect(checkLayers('.')).toEqual([]);
});
