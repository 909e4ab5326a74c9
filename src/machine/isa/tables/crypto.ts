/** AES-NI, PCLMULQDQ and SHA: TypeScript handlers in sse/. @sdm "AESENC", "AESKEYGENASSIST", "PCLMULQDQ", "SHA256RNDS2" … */
import { ASSIST, define } from '../row.ts';
import { sse } from './simd-lanes.ts';

for (const [mnemonic, opcode] of [
  ['AESIMC', 'DB'],
  ['AESENC', 'DC'],
  ['AESENCLAST', 'DD'],
  ['AESDEC', 'DE'],
  ['AESDECLAST', 'DF'],
] as const) {
  define(mnemonic, sse('aes'), `66 0F38 ${opcode} Vdq,Wdq`, ASSIST);
}
define('AESKEYGENASSIST', sse('aes', { dst: 'w' }), '66 0F3A DF Vdq,Wdq,Ib', ASSIST);
define('PCLMULQDQ', sse('pclmulqdq'), '66 0F3A 44 Vdq,Wdq,Ib', ASSIST);

for (const [mnemonic, opcode] of [
  ['SHA1NEXTE', 'C8'],
  ['SHA1MSG1', 'C9'],
  ['SHA1MSG2', 'CA'],
  ['SHA256RNDS2', 'CB'],
  ['SHA256MSG1', 'CC'],
  ['SHA256MSG2', 'CD'],
] as const) {
  define(mnemonic, sse('sha_ni'), `NP 0F38 ${opcode} Vdq,Wdq`, ASSIST);
}
define('SHA1RNDS4', sse('sha_ni'), 'NP 0F3A CC Vdq,Wdq,Ib', ASSIST);
