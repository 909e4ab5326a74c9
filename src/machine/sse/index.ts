/** Registers the TypeScript handlers of SSE floating-point, cryptographic and string instructions. */
import './approximations.ts';
import './arithmetic.ts';
import './compare.ts';
import './convert.ts';
import './aes.ts';
import './sha.ts';
import './string-compare.ts';
import './fma.ts';
import './half.ts';
import './masked.ts';
