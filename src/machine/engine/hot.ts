/**
 * Instructions that get an arm in the interpreter's loop: one example encoding per shape, most executed first, as
 * `mode bytes` or `mode local bytes` for branches within a page; pairs joined by + are fused.
 *
 * Made from profiles of kernel boots and compute kernels by tools/hot-shapes.ts. Which shapes stand here changes speed only.
 */
export const HOT_EXAMPLES: readonly string[] = [];
