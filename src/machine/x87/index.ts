/** Registers the TypeScript handlers of x87 instructions. */
import './arithmetic.ts';
import './compare.ts';
import './control.ts';
import './decimal.ts';
import './image.ts';
import './logarithm.ts';
import './scale.ts';
import './trigonometry.ts';
import './transfer.ts';
