/** All instruction tables. Importing this fills `rows`. */
import './tables/alu.ts';
import './tables/bit.ts';
import './tables/bmi.ts';
import './tables/control.ts';
import './tables/exchange.ts';
import './tables/flag.ts';
import './tables/flags-system.ts';
import './tables/interrupt.ts';
import './tables/io.ts';
import './tables/move.ts';
import './tables/muldiv.ts';
import './tables/rotate.ts';
import './tables/segments.ts';
import './tables/shift.ts';
import './tables/simd-arithmetic.ts';
import './tables/simd-move.ts';
import './tables/simd-shuffle.ts';
import './tables/simd-test.ts';
import './tables/sse-control.ts';
import './tables/stack.ts';
import './tables/string.ts';
import './tables/system.ts';
import './tables/transfer.ts';
import './tables/vmx.ts';
import './tables/x87-control.ts';
import './tables/xsave.ts';

export { rows } from './row.ts';
