import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,test,tools}/**/*.test.ts'],
    // Native imports: hot loops run at real speed and `new Worker('x.ts')` works.
    experimental: { viteModuleRunner: false },
    maxWorkers: 2,
    // V8 14 can miscompile hot loops whose closures change captured variables; the command turns the same feature off.
    execArgv: Number.parseInt(process.versions.v8, 10) >= 14 ? ['--no-function-context-cells'] : [],
    testTimeout: 60_000,
    reporters: ['default', './tools/reporter.ts'],
    coverage: { provider: 'v8', include: ['src/**'] },
  },
});
