/** Everything of a host that guests use up while they live: to be the same before and after. */
import type { Host } from '../../src/host/index.ts';
import { PAGE_OWNER } from '../../src/host/pages.ts';
import type { KvmModule } from '../../src/kvm/virt/kvm_host.ts';
import { KVM_DEVICE } from '../../src/kvm/virt/kvm_main.ts';
import type { TdxModule } from '../../src/tdx-module/module.ts';
import { vmxeCpus, vmxOnCpus } from './lab.ts';

const PAGE = 4096;

/** A tally: how many pages there are of each kind. */
type Tally = Record<string, number>;

function tally(host: Host, kindOf: (page: number) => string | number): Tally {
  const found: Tally = {};
  for (let page = 0; page < host.machine.memory.ramSize; page += PAGE) {
    const kind = kindOf(page);
    found[kind] = (found[kind] ?? 0) + 1;
  }
  return found;
}

/** What a host has in use; plain values, to compare. */
export function resourcesOf(host: Host, tdxModule?: TdxModule) {
  const kvm = host.misc.open(KVM_DEVICE) as KvmModule;
  const { keyed } = host.machine.memory;
  return {
    pages: Object.fromEntries(Object.entries(PAGE_OWNER).map(([name, owner]) => [name, host.pages.count(owner)])),
    /** Pages by the KeyID that owns them. */
    owners: tally(host, (page) => keyed.ownerOf(page)),
    poisoned: tally(host, (page) => `${keyed.poisoned(page)}`),
    /** Pages by what the TDX module holds them for. */
    pamt: tdxModule === undefined ? {} : tally(host, (page) => tdxModule.pamt.entry(page, 0)?.pageType ?? 'none'),
    tds: tdxModule === undefined ? 0 : [...tdxModule.tds].length,
    keyIds: host.tdx.keyIds.inUse,
    vmxe: vmxeCpus(host),
    vmxOn: vmxOnCpus(host),
    virtualization: kvm.usageCount,
    vms: kvm.vmList.length,
    loadedVcpus: kvm.runningVcpu.filter((vcpu) => vcpu !== null).length,
    nextTimer: host.timers.nextDeadline,
  };
}
