/** The README's example runs. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const EXAMPLE = new URL('../../docs/hello-kvm.ts', import.meta.url).pathname;

test('hello KVM: a 16-bit guest adds two numbers and writes to a port', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [EXAMPLE]);
  expect(stdout).toBe('guest wrote "4"\nguest wrote "\\n"\n');
});
