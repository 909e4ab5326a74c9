/** A host that lets a TD fault again and again at one instruction, without mapping the page. */
import { beforeEach, describe, expect, test } from 'vitest';
import { CATCH, CATCH_HANDLERS, ended, guest } from './guest-lab.ts';
import { LATE_PAGE } from './guest-program.ts';
import { type Exit, sharedHost, TDG, TDH, type TdHost, type Vcpu } from './td-builder.ts';

let host: TdHost;
beforeEach(() => {
  host = sharedHost();
});

const EPT_VIOLATION = 48;
const READ = 1n;
const WRITE = 2n;
/** Faults that are no attack, and one that is. */
const HARMLESS = 6;
const NOTIFY_ENABLES = 0x9100_0000_0000_0010n;

const faults = (vcpu: Vcpu, times: number): Exit[] => Array.from({ length: times }, () => vcpu.enter());
const tdvpsOf = ({ tdvpr }: Vcpu) => host.module.tdvpsAt(tdvpr);
const readPage = `mov rbx, [${LATE_PAGE}]`;

describe('zero-stepping', () => {
  test('the TD is not entered before the page is there', () => {
    const { td, vcpu } = guest(host, readPage);
    for (const exit of faults(vcpu, HARMLESS + 1)) expect([exit.reason, exit.rcx]).toEqual([EPT_VIOLATION, READ]);
    // No access of the TD's: it says that the page has to be there for writing.
    const refused = vcpu.enter({ rbp: 0xb0b0n });
    expect([refused.reason, refused.rcx, refused.rdx, refused.r8]).toEqual([
      EPT_VIOLATION,
      WRITE,
      0n,
      BigInt(LATE_PAGE),
    ]);
    expect([refused.r9, refused.rbp]).toEqual([0n, 0xb0b0n]);
    const { tdcs } = host.module.tdrAt(td.tdr);
    expect([tdcs.num('REFCOUNT', 0), tdcs.num('REFCOUNT', 1)]).toEqual([0, 0]);
    // A page that waits for acceptance is not there for a TD that gets no #VE.
    td.augPage(LATE_PAGE);
    expect(vcpu.enter().rcx).toBe(WRITE);
  });

  test('the tree is locked while it is looked at', () => {
    const { vcpu } = guest(host, readPage);
    faults(vcpu, HARMLESS + 1);
    host.module.hooks.lockHeld = (kind) => kind === 'sept_tree';
    expect(host.status(TDH.VP_ENTER, { rcx: vcpu.tdvpr })).toBe('TDX_OPERAND_BUSY 0x92');
    host.module.hooks.lockHeld = () => false;
    expect(vcpu.enter().rcx).toBe(WRITE);
  });

  test('a TD that goes on is forgotten about', () => {
    const { td, vcpu } = guest(host, `${readPage}${CATCH}`, { attributes: 0n }, CATCH_HANDLERS);
    faults(vcpu, HARMLESS + 1);
    td.augPage(LATE_PAGE);
    expect(tdvpsOf(vcpu).num('LAST_EPF_GPA_LIST_IDX')).toBe(1);
    expect(ended(vcpu.enter()).r12).toBe(48n);
    const tdvps = tdvpsOf(vcpu);
    expect([tdvps.num('LAST_EPF_GPA_LIST_IDX'), tdvps.num('POSSIBLY_EPF_STEPPING')]).toEqual([0, 0]);
  });

  test('a TD that asked for it is told', () => {
    const ask = `
        mov eax, ${TDG.VM_WR}
        xor ecx, ecx
        mov rdx, ${NOTIFY_ENABLES}
        mov r8d, 1
        mov r9d, 1
        tdcall
        `;
    const { td, vcpu } = guest(host, `${ask}${readPage}${CATCH}`, { attributes: 0n }, CATCH_HANDLERS);
    faults(vcpu, HARMLESS + 1);
    td.augPage(LATE_PAGE);
    const told = ended(vcpu.enter());
    expect([told.r12, told.rdx & 7n, told.r8, told.r9]).toEqual([48n, READ, 0n, BigInt(LATE_PAGE)]);
  });
});
