import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{src,test,tools}/**/*.test.ts'],
    // Native imports: hot loops run at real speed and `new Worker('x.ts')` works.
    experimental: { viteModuleRunner: false },
    maxWorkers: 2,
    testTimeout: 60_000,
    reporters: ['default', './tools/reporter.ts'],
    coverage: { provider: 'v8', include: ['src/**'] },
  },
});
