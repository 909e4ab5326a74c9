/** System instructions of control, debug and model-specific registers, time, TLBs, caches and waiting. */
import { RAX, RCX, RDX, SLOW, TSC_AUX } from '../../engine/layout.ts';
import type { Cpu } from '../cpu.ts';
import { and, shr, u8, u64, zeroExtend } from '../expr.ts';
import { STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';

/** May change how addresses translate or what mode the code is in. */
const mode = { flow: 'system' } as const;

define('CPUID', mode, '0F A2', ASSIST);
define('RDMSR', mode, '0F 32', ASSIST);
define('WRMSR', mode, '0F 30', ASSIST);

// ModRM.mod is ignored: the operand is a register, of 64 bits in 64-bit mode whatever the prefixes say.
define(
  'MOV_FROM_CR',
  { ...mode, dst: 'w' },
  `
    0F 20 Rd,Cd ; no64
    0F 20 Rq,Cq ; 64`,
  ASSIST,
);
define(
  'MOV_TO_CR',
  { ...mode, dst: 'w' },
  `
    0F 22 Cd,Rd ; no64
    0F 22 Cq,Rq ; 64`,
  ASSIST,
);
define(
  'MOV_FROM_DR',
  { ...mode, dst: 'w' },
  `
    0F 21 Rd,Dd ; no64
    0F 21 Rq,Dq ; 64`,
  ASSIST,
);
define(
  'MOV_TO_DR',
  { ...mode, dst: 'w' },
  `
    0F 23 Dd,Rd ; no64
    0F 23 Dq,Rq ; 64`,
  ASSIST,
);
define('CLTS', mode, '0F 06', ASSIST);
define('LMSW', { ...mode, dst: 'r' }, '0F 01 /6 Ew', ASSIST);
define(
  'SMSW',
  { ...mode, dst: 'w' },
  `
    0F 01 /4 mem Mw
    0F 01 /4 reg Rv`,
  ASSIST,
);

/** EDX:EAX := TSC. */
const timestampPair = (cpu: Cpu): void => {
  const tsc = cpu.code.let(cpu.timestamp());
  cpu.setGpr(RAX, and(tsc, u64(0xffff_ffff)));
  cpu.setGpr(RDX, shr(tsc, u8(32)));
};
define('RDTSC', {}, '0F 31', (cpu) => {
  cpu.assistIfSlow(SLOW.rdtsc);
  timestampPair(cpu);
});
define('RDTSCP', { feature: 'rdtscp' }, '0F 01 =F9', (cpu) => {
  cpu.assistIfSlow(SLOW.rdtsc);
  timestampPair(cpu);
  cpu.setGpr(RCX, zeroExtend(cpu.state(TSC_AUX, 32), 64));
});
define('RDPID', { dst: 'w', feature: 'rdpid' }, 'F3 0F C7 /7 reg Ry', ASSIST);
define('RDPKRU', { ...mode, feature: 'pku' }, 'NP 0F 01 =EE', ASSIST);
define('WRPKRU', { ...mode, feature: 'pku' }, 'NP 0F 01 =EF', ASSIST);
define('RDPMC', mode, '0F 33', ASSIST);

define('INVLPG', { ...mode, dst: 'r' }, '0F 01 /7 mem Mx', ASSIST);
define(
  'INVPCID',
  { ...mode, dst: 'r', feature: 'invpcid' },
  `
    66 0F38 82 Gd,Mdq ; no64
    66 0F38 82 Gq,Mdq ; 64`,
  ASSIST,
);
define('INVD', mode, '0F 08', ASSIST);
define('WBNOINVD', { ...mode, feature: 'wbnoinvd' }, 'F3 0F 09', ASSIST);
define('WBINVD', mode, '0F 09', ASSIST);
/** There are no caches: nothing happens, but the line's byte must be readable. */
const flushLine = (cpu: Cpu): void => void cpu.read(0);
define('CLFLUSH', { dst: 'r', feature: 'clflush' }, 'NP 0F AE /7 mem Mb', flushLine);
define('CLFLUSHOPT', { dst: 'r', feature: 'clflushopt' }, '66 0F AE /7 mem Mb', flushLine);
define('CLWB', { dst: 'r', feature: 'clwb' }, '66 0F AE /6 mem Mb', flushLine);

/** Everything before it is done before what follows: always so here. Code that was written is decoded again as it is. */
define('SERIALIZE', { feature: 'serialize' }, 'NP 0F 01 =E8', () => {});

define('MONITOR', { ...mode, feature: 'monitor' }, 'NR 0F 01 =C8', ASSIST);
define('MWAIT', { ...mode, feature: 'monitor' }, 'NR 0F 01 =C9', ASSIST);
define('PAUSE', {}, 'F3 90', (cpu) => cpu.assistIfSlow(SLOW.pause));

define('RDRAND', { dst: 'w', writes: STATUS, feature: 'rdrand' }, 'NR 0F C7 /6 reg Rv', ASSIST);
define('RDSEED', { dst: 'w', writes: STATUS, feature: 'rdseed' }, 'NR 0F C7 /7 reg Rv', ASSIST);

define('MOVDIR64B', { dst: 'r', implicitMemory: true, feature: 'movdir64b' }, '66 0F38 F8 Gv,Mx', ASSIST);
