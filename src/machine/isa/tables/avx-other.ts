/** VEX forms of AES, carry-less multiplication and string comparison, and gathers: TypeScript handlers in sse/. @sdm "AESENC", "PCLMULQDQ", "PCMPESTRI", "VGATHERDPS", "VPGATHERQQ" */
import { STATUS } from '../flags.ts';
import { ASSIST, define } from '../row.ts';
import { avx } from './avx-lanes.ts';

for (const [mnemonic, opcode] of [
  ['VAESENC', 'DC'],
  ['VAESENCLAST', 'DD'],
  ['VAESDEC', 'DE'],
  ['VAESDECLAST', 'DF'],
] as const) {
  define(mnemonic, avx('aes'), `66 VEX.L0 0F38 ${opcode} Vdq,Hdq,Wdq`, ASSIST);
}
define('VAESIMC', avx('aes'), '66 VEX.L0 0F38 DB Vdq,Wdq', ASSIST);
define('VAESKEYGENASSIST', avx('aes'), '66 VEX.L0 0F3A DF Vdq,Wdq,Ib', ASSIST);
define('VPCLMULQDQ', avx('pclmulqdq'), '66 VEX.L0 0F3A 44 Vdq,Hdq,Wdq,Ib', ASSIST);

const compare = avx('avx', { dst: 'r', writes: STATUS });
define('VPCMPESTRM', compare, '66 VEX.L0 0F3A 60 Vdq,Wdq,Ib', ASSIST);
define('VPCMPESTRI', compare, '66 VEX.L0 0F3A 61 Vdq,Wdq,Ib', ASSIST);
define('VPCMPISTRM', compare, '66 VEX.L0 0F3A 62 Vdq,Wdq,Ib', ASSIST);
define('VPCMPISTRI', compare, '66 VEX.L0 0F3A 63 Vdq,Wdq,Ib', ASSIST);

// With quadword indexes of doublewords, the destination has half the width.
for (const [mnemonic, w, opcode, narrowData] of [
  ['VPGATHERDD', 'W0', '90', false],
  ['VPGATHERDQ', 'REX.W', '90', false],
  ['VPGATHERQD', 'W0', '91', true],
  ['VPGATHERQQ', 'REX.W', '91', false],
  ['VGATHERDPS', 'W0', '92', false],
  ['VGATHERDPD', 'REX.W', '92', false],
  ['VGATHERQPS', 'W0', '93', true],
  ['VGATHERQPD', 'REX.W', '93', false],
] as const) {
  const size = w === 'W0' ? 'd' : 'q';
  const wide = narrowData ? 'dq' : 'qq';
  const traits = { dst: 'rw' } as const;
  define(mnemonic, avx('avx2', traits), `66 VEX.L0 ${w} 0F38 ${opcode} Vdq,K${size},Hdq`, ASSIST);
  define(mnemonic, avx('avx2', traits), `66 VEX.L1 ${w} 0F38 ${opcode} V${wide},K${size},H${wide}`, ASSIST);
}
