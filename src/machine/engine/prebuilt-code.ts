/** What the build puts in the place of this file: the common code as it has been generated then. From source there is none. */
import type { CommonCode } from './common-code.ts';

export const prebuiltCode: CommonCode | null = null;
