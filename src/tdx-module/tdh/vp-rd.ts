/** TDH.VP.RD and TDH.VP.WR: metadata of a virtual processor, which becomes the calling logical processor's. */
import { asksForFirst, NO_FIELD_ID, type Party } from '../metadata/metadata-table.ts';
import { elementOf, followingId, readElement, writeElement } from '../metadata/read-element.ts';
import { VpContext } from '../metadata/vp-context.ts';
import type { Call, HostLeaf } from '../objects/call.ts';
import { associate, lockTdvpr, tdInState } from '../objects/checks.ts';
import { ATTRIBUTES } from '../objects/tdcs.ts';
import { TDVPS_BASE_PAGES, type Tdvps, VCPU_STATE } from '../objects/tdvps.ts';
import { OPERAND, STATUS, status } from '../status.ts';

/** RCX TDVPR, RDX identifier; out R8 value, version 1: RDX the next identifier. @tdx "TDH.VP.RD Leaf" */
export const tdhVpRd: HostLeaf = { number: 26, name: 'TDH.VP.RD', versions: [0, 1], run: read };

/** RCX TDVPR, RDX identifier, R8 value, R9 mask of what to write; out R8 the old value. @tdx "TDH.VP.WR Leaf" */
export const tdhVpWr: HostLeaf = { number: 43, name: 'TDH.VP.WR', versions: [0], run: write };

/** The virtual processor in RCX, which now is the calling logical processor's; a status where it cannot be. */
function accessible(call: Call, states: readonly number[]): Tdvps | bigint {
  const tdvps = lockTdvpr(call, call.rcx, OPERAND.RCX, 'shared');
  if (typeof tdvps === 'bigint') return tdvps;
  const tdcs = tdInState(call, tdvps.tdr);
  if (typeof tdcs === 'bigint') return tdcs;
  if (tdvps.num('NUM_TDVPS_PAGES') < TDVPS_BASE_PAGES) return status(STATUS.TDCX_NUM_INCORRECT);
  if (!states.includes(tdvps.state)) return status(STATUS.VCPU_STATE_INCORRECT);
  return associate(call, tdvps) ?? tdvps;
}

const partyOf = (tdvps: Tdvps): Party => (tdvps.tdcs.hasAttribute(ATTRIBUTES.DEBUG) ? 'debug' : 'host');

function read(call: Call): bigint {
  const { rdx, out, version } = call;
  if (version > 0) out.rdx = NO_FIELD_ID;
  out.r8 = 0n;
  const tdvps = accessible(call, [VCPU_STATE.READY, VCPU_STATE.DISABLED]);
  if (typeof tdvps === 'bigint') return tdvps;
  const context = new VpContext(tdvps);
  const party = partyOf(tdvps);
  if (version > 0 && asksForFirst(rdx)) {
    out.rdx = context.next(undefined, party);
    return status(STATUS.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
  }
  const element = elementOf(context, rdx);
  if (typeof element === 'bigint') return element;
  const result = readElement(context, element, party);
  if ('error' in result) return result.error;

  // all checks passed
  out.r8 = result.value;
  if (version > 0) out.rdx = followingId(context, element, rdx, party);
  return status(STATUS.SUCCESS);
}

function write(call: Call): bigint {
  const { rdx, r8, r9, out } = call;
  out.r8 = 0n;
  const tdvps = accessible(call, [VCPU_STATE.READY]);
  if (typeof tdvps === 'bigint') return tdvps;
  const context = new VpContext(tdvps);
  const element = elementOf(context, rdx);
  if (typeof element === 'bigint') return element;
  const result = writeElement(context, element, r8, r9, partyOf(tdvps));
  if ('error' in result) return result.error;
  out.r8 = result.value;
  return status(STATUS.SUCCESS);
}
