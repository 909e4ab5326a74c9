/**
 * The attack suite: what a malicious host tries on trust domains. Prints each family, and what got in: nothing.
 *
 *   npm run attack [-- family …]
 */
import { SUITE } from '../test/attack/families.ts';

const words = process.argv.slice(2);
const chosen = SUITE.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)));

let tried = 0;
let gotIn = 0;
for (const part of chosen) {
  const verdicts = await part.carryOut();
  const broken = verdicts.filter((verdict) => verdict.gotIn);
  tried += verdicts.length;
  gotIn += broken.length;
  console.log(
    `${broken.length === 0 ? 'ok  ' : 'FAIL'} ${part.name}: ${verdicts.length} tried, ${broken.length} got in`,
  );
  for (const { name, must, happened } of broken)
    console.log(`     ${name}\n       must: ${must}\n       did:  ${happened}`);
}
console.log(`\n${tried} attacks tried, ${gotIn} got in`);
process.exitCode = gotIn === 0 && tried > 0 ? 0 : 1;
