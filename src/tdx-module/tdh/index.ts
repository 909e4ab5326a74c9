/** Host-side leaves, by owner of their object; the dispatcher finds them by number. */
import type { HostLeaf } from '../objects/call.ts';
import { MEMORY_LEAVES } from './memory-leaves.ts';
import { tdhMngAddcx } from './mng-addcx.ts';
import { tdhMngCreate } from './mng-create.ts';
import { tdhMngInit } from './mng-init.ts';
import { tdhMngKeyConfig } from './mng-key-config.ts';
import { tdhMngKeyFreeid } from './mng-key-freeid.ts';
import { tdhMngKeyReclaimid } from './mng-key-reclaimid.ts';
import { tdhMngRd } from './mng-rd.ts';
import { tdhMngVpflushdone } from './mng-vpflushdone.ts';
import { tdhMngWr } from './mng-wr.ts';
import { NOT_OFFERED } from './not-offered.ts';
import { tdhPhymemCacheWb } from './phymem-cache-wb.ts';
import { tdhPhymemPageRdmd } from './phymem-page-rdmd.ts';
import { tdhPhymemPageReclaim } from './phymem-page-reclaim.ts';
import { tdhPhymemPageWbinvd } from './phymem-page-wbinvd.ts';
import { tdhSysConfig } from './sys-config.ts';
import { tdhSysInfo } from './sys-info.ts';
import { tdhSysInit } from './sys-init.ts';
import { tdhSysKeyConfig } from './sys-key-config.ts';
import { tdhSysLpInit } from './sys-lp-init.ts';
import { tdhSysLpShutdown } from './sys-lp-shutdown.ts';
import { tdhSysRd } from './sys-rd.ts';
import { tdhSysRdall } from './sys-rdall.ts';
import { tdhSysShutdown } from './sys-shutdown.ts';
import { tdhSysTdmrInit } from './sys-tdmr-init.ts';
import { tdhSysUpdate } from './sys-update.ts';
import { tdhVpEnter } from './vp-enter.ts';

/** Every leaf of the interface: one that this module does not offer answers OPERAND_INVALID for RAX. */
export const HOST_LEAF_LIST: readonly HostLeaf[] = [
  // SYS, MNG, PHYMEM
  tdhMngAddcx,
  tdhMngCreate,
  tdhMngInit,
  tdhMngKeyConfig,
  tdhMngKeyFreeid,
  tdhMngKeyReclaimid,
  tdhMngRd,
  tdhMngVpflushdone,
  tdhMngWr,
  tdhPhymemCacheWb,
  tdhPhymemPageRdmd,
  tdhPhymemPageReclaim,
  tdhPhymemPageWbinvd,
  tdhSysRdall,
  tdhSysConfig,
  tdhSysInfo,
  tdhSysInit,
  tdhSysKeyConfig,
  tdhSysLpInit,
  tdhSysLpShutdown,
  tdhSysRd,
  tdhSysShutdown,
  tdhSysTdmrInit,
  tdhSysUpdate,
  ...MEMORY_LEAVES,
  tdhVpEnter,
  ...NOT_OFFERED,
];
