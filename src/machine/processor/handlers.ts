/** Registers the TypeScript handlers of segments, control transfers, software interrupts and privileged flags. */
import './instructions/descriptor-queries.ts';
import './instructions/divide.ts';
import './instructions/flags.ts';
import './instructions/halt.ts';
import './instructions/segment-registers.ts';
import './instructions/software-interrupts.ts';
import './instructions/stack-frames.ts';
import './instructions/table-registers.ts';
import './transfer/far-call.ts';
import './transfer/far-jump.ts';
import './transfer/far-return.ts';
import './transfer/iret.ts';
import './transfer/system-call.ts';
