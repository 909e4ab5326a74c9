/** Registers the TypeScript handlers of x87 instructions. */
import './arithmetic.ts';
import './compare.ts';
import './control.ts';
import './decimal.ts';
import './image.ts';
import './scale.ts';
import './transfer.ts';
