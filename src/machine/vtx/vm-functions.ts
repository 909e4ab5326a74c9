/** VMFUNC and its one function, EPTP switching. @sdm "VM Functions" */
import { RAX, RCX } from '../engine/layout.ts';
import { implement } from '../isa/handlers.ts';
import type { Insn } from '../isa/insn.ts';
import { flushVpid, tlbContextChanged } from '../mmu/tlb.ts';
import { DONE, type Outcome, UD } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import { SECONDARY } from './controls.ts';
import { eptPointerValid } from './ept-pointer.ts';
import { F } from './field-slots.ts';
import { loadEptPointer } from './load-guest.ts';
import { REASON } from './reasons.ts';

const FUNCTIONS = 64;
const EPTP_SWITCHING = 0;
const LIST_ENTRIES = 512;

/** No CPL check: any guest software may call what the host enables. */
function vmfunc(p: Processor, insn: Insn): Outcome {
  const { vtx } = p;
  const number = p.gpr32(RAX);
  if (!(vtx.secondary & SECONDARY.VM_FUNCTIONS) || number >= FUNCTIONS) return p.raise(UD);
  const vmcs = vtx.current!;
  const enabled = number === EPTP_SWITCHING && (vmcs.low(F.VM_FUNCTION_CONTROLS) & 1) !== 0;
  const index = p.gpr32(RCX);
  if (!enabled || index >= LIST_ENTRIES) return vtx.instructionExit(insn, REASON.VMFUNC);
  const eptp = p.machine.memory.read64(vmcs.address(F.EPTP_LIST_ADDRESS) + index * 8);
  if (!eptPointerValid(vtx, eptp)) return vtx.instructionExit(insn, REASON.VMFUNC);
  // all checks passed
  vmcs.set64(F.EPT_POINTER, eptp);
  vmcs.setLow(F.EPTP_INDEX, index);
  loadEptPointer(vtx, vmcs);
  if (vtx.vpid === 0) flushVpid(p, 0);
  tlbContextChanged(p);
  return DONE;
}

implement('VMFUNC', vmfunc);
