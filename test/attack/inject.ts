/** Events that the host may not bring into a TD. */
import { ASK, type Attack, type Family, type Lab, TDH } from './lab.ts';

const NOTIFICATION_VECTOR = 0x0024_0001_0000_0002n;
const DESCRIPTOR = 0x0024_0003_0000_2016n;
const PIN = 0x0024_0002_0000_4000n;
const NOTIFY = 0xf2;
const ALL = 2n ** 64n - 1n;

/** VMCS fields with which a hypervisor of VMs injects events or gets the guest's. */
const FIELDS: readonly (readonly [string, bigint, string])[] = [
  ['VM-entry interruption information', 0x4016n, 'ID_INCORRECT'],
  ['VM-entry exception error code', 0x4018n, 'ID_INCORRECT'],
  ['VM-entry controls', 0x4012n, 'ID_INCORRECT'],
  ['VM-exit controls', 0x400cn, 'ID_INCORRECT'],
  ['exception bitmap', 0x4004n, 'NOT_WRITABLE'],
  ['primary controls', 0x4002n, 'NOT_WRITABLE'],
  ['CR0 mask', 0x6000n, 'ID_INCORRECT'],
  ['host RIP', 0x6c16n, 'ID_INCORRECT'],
  ['EPT pointer', 0x201an, 'NOT_WRITABLE'],
  ['MSR bitmap', 0x2004n, 'NOT_WRITABLE'],
  ['TD HKID', 0x4026n, 'NOT_WRITABLE'],
  ['TSC offset', 0x2010n, 'NOT_WRITABLE'],
  ['external-interrupt exiting', 0x4000n, 'NOT_WRITABLE'],
  ['EPT in the secondary controls', 0x401en, 'NOT_WRITABLE'],
];
/** Bits of the last two that are the host's are not in the mask. */
const MASKS: Readonly<Record<string, bigint>> = {
  'external-interrupt exiting': 1n,
  'EPT in the secondary controls': 2n,
};

/** The victim waits with interrupts on; a vector is posted for it. @returns whether a handler ran */
function post(lab: Lab, vector: number): string {
  const { victim, host } = lab;
  const descriptor = lab.page();
  const set = (rdx: bigint, r8: bigint | number, r9: bigint = ALL): void =>
    void host.expect(TDH.VP_WR, { rcx: victim.vcpu.tdvpr, rdx, r8, r9 });
  set(NOTIFICATION_VECTOR, NOTIFY);
  set(DESCRIPTOR, descriptor);
  set(PIN, 0x80, 0x80n);
  host.memory.write32(descriptor + 4 * (vector >>> 5), 2 ** (vector & 31));
  host.memory.write32(descriptor + 32, 1);
  const { apic } = host.machine.processors[0]!;
  apic.writeMsr(0x80f, 0x1ffn);
  apic.writeMsr(0x83f, BigInt(NOTIFY));
  const { called, fault } = victim.ask(ASK.WAIT);
  if (!called) return 'it does not run';
  return fault === 0n ? 'nothing' : `handler ${fault}`;
}

export const inject: Family = {
  name: 'inject exceptions and interrupts',
  attacks: [
    ...FIELDS.map(
      ([name, code, why]): Attack => ({
        name: `write the ${name}`,
        must: `TDX_METADATA_FIELD_${why}`,
        run: (lab) =>
          lab.status(TDH.VP_WR, {
            rcx: lab.victim.vcpu.tdvpr,
            rdx: 0x0024_0000_0000_0000n | code,
            r8: 0x8000_0b0en,
            r9: MASKS[name] ?? ALL,
          }),
      }),
    ),
    ...[6, 13, 14, 20].map(
      (vector): Attack => ({
        name: `post vector ${vector}, that of an exception`,
        must: 'nothing',
        run: (lab) => post(lab, vector),
      }),
    ),
    {
      name: 'have a notification vector outside 0 to 255',
      must: 'TDX_METADATA_FIELD_VALUE_NOT_VALID',
      run: (lab) => lab.status(TDH.VP_WR, { rcx: lab.victim.vcpu.tdvpr, rdx: NOTIFICATION_VECTOR, r8: 0x100, r9: ALL }),
    },
    {
      name: 'put the posted-interrupt descriptor into private memory',
      must: 'TDX_METADATA_FIELD_VALUE_NOT_VALID',
      run: (lab) => lab.status(TDH.VP_WR, { rcx: lab.victim.vcpu.tdvpr, rdx: DESCRIPTOR, r8: 33n << 46n, r9: ALL }),
    },
  ],
};
