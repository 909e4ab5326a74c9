/** Guest-side leaves; the dispatcher of TDCALL finds them by number. */
import type { GuestLeaf } from '../objects/call.ts';
import { tdgMemPageAccept } from './mem-page-accept.ts';
import { tdgMrReport } from './mr-report.ts';
import { tdgMrRtmrExtend } from './mr-rtmr-extend.ts';
import { tdgMrVerifyreport } from './mr-verifyreport.ts';
import { GUEST_NOT_OFFERED } from './not-offered.ts';
import { tdgSysRd } from './sys-rd.ts';
import { tdgSysRdall } from './sys-rdall.ts';
import { tdgVmRd } from './vm-rd.ts';
import { tdgVmWr } from './vm-wr.ts';
import { tdgVpCpuidveSet } from './vp-cpuidve-set.ts';
import { tdgVpInfo } from './vp-info.ts';
import { tdgVpRd } from './vp-rd.ts';
import { tdgVpVeinfoGet } from './vp-veinfo-get.ts';
import { tdgVpVmcall } from './vp-vmcall.ts';
import { tdgVpWr } from './vp-wr.ts';

/** Every leaf of the interface: one that this module does not offer answers OPERAND_INVALID for RAX. */
export const GUEST_LEAF_LIST: readonly GuestLeaf[] = [
  tdgVpVmcall,
  tdgVpInfo,
  tdgMrRtmrExtend,
  tdgVpVeinfoGet,
  tdgMrReport,
  tdgVpCpuidveSet,
  tdgMemPageAccept,
  tdgVmRd,
  tdgVmWr,
  tdgVpRd,
  tdgVpWr,
  tdgSysRd,
  tdgSysRdall,
  tdgMrVerifyreport,
  ...GUEST_NOT_OFFERED,
];
