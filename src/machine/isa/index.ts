/** All instruction tables. Importing this fills `rows`. */
import './tables/alu.ts';
import './tables/bit.ts';
import './tables/bmi.ts';
import './tables/control.ts';
import './tables/exchange.ts';
import './tables/flag.ts';
import './tables/move.ts';
import './tables/muldiv.ts';
import './tables/rotate.ts';
import './tables/shift.ts';
import './tables/stack.ts';
import './tables/string.ts';

export { rows } from './row.ts';
