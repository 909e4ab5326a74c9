/**
 * VMX on each CPU: VMXON and VMXOFF, and the list of VMCSs whose data may be on a CPU.
 *
 * @upstream arch/x86/kvm/vmx/vmx.c vmx_enable_virtualization_cpu(), loaded_vmcs_clear(), alloc_vmcs()
 */
import type { Cpu } from '../../../host/cpus.ts';
import { EBUSY, EFAULT, EIO, ENOMEM, type Errno } from '../../../host/errno.ts';
import type { Host } from '../../../host/host.ts';
import { PAGE_OWNER } from '../../../host/pages.ts';
import { readMsr } from '../../../machine/msr/msr.ts';
import { CR4_VMXE, type Processor } from '../../../machine/processor.ts';
import { writeCr4 } from '../../../machine/system/control-registers.ts';
import type { Hpa } from '../../../util/address.ts';
import { sameVmcsConfig, setupVmcsConfig, type VmcsConfig } from './capabilities.ts';
import { LoadedVmcs, VM_SUCCEED } from './vmcs.ts';
import type { VmxModuleParameters } from './x86_ops.ts';

/** What the loaded VMX backend keeps for the whole system. */
export class VmxHardware {
  readonly host: Host;
  /** The boot CPU's configuration, which every CPU must match. */
  readonly config: VmcsConfig;
  readonly parameters: VmxModuleParameters;
  /** The processors send interrupts between vCPUs. @upstream enable_ipiv */
  enableIpiv = false;
  /** VMXON region of each possible CPU (per_cpu vmxarea). */
  readonly vmxarea: Hpa[] = [];
  /** VMCSs that are active on each CPU (loaded_vmcss_on_cpu); made before anything is enabled. */
  readonly loadedVmcssOnCpu: Set<LoadedVmcs>[];
  /** Current VMCS of each CPU (current_vmcs). */
  readonly currentVmcs: (LoadedVmcs | null)[];
  readonly #vpids: Set<number> = new Set();
  /** Faults of VMX instructions are nobody's bug any more. @upstream kvm_rebooting */
  rebooting = false;

  constructor(host: Host, config: VmcsConfig, parameters: VmxModuleParameters = {}) {
    this.host = host;
    this.config = config;
    this.parameters = parameters;
    this.loadedVmcssOnCpu = host.cpus.possible.map(() => new Set());
    this.currentVmcs = host.cpus.possible.map(() => null);
  }

  /** The VMXON regions of all CPUs. @upstream alloc_kvm_area() */
  allocKvmArea(): Errno {
    for (const cpu of this.host.cpus.possible) {
      const region = this.allocVmcsRegion();
      if (region === undefined) {
        this.freeKvmArea();
        return -ENOMEM;
      }
      this.vmxarea[cpu.id] = region;
    }
    return 0;
  }
  freeKvmArea(): void {
    for (const region of this.vmxarea.splice(0)) this.host.pages.free(region);
  }

  /** A region with the revision identifier. @upstream alloc_vmcs_cpu() */
  allocVmcsRegion(): Hpa | undefined {
    const region = this.host.pages.alloc(PAGE_OWNER.vmcs);
    if (region !== undefined) this.host.machine.memory.write32(region, this.config.revisionId);
    return region;
  }

  /** A number for a vCPU's linear mappings in the TLB; 0 when all are taken. @upstream allocate_vpid() */
  allocateVpid(): number {
    for (let vpid = 1; vpid < 0x10000; vpid++) {
      if (this.#vpids.has(vpid)) continue;
      this.#vpids.add(vpid);
      return vpid;
    }
    return 0;
  }
  freeVpid(vpid: number): void {
    this.#vpids.delete(vpid);
  }

  /** −EIO if this CPU is not like the boot CPU. @upstream vmx_check_processor_compat() */
  checkProcessorCompat(cpu: Cpu): Errno {
    const config = setupVmcsConfig((index) => readMsr(cpu.processor, index));
    if (typeof config !== 'number' && sameVmcsConfig(config, this.config)) return 0;
    this.host.log(`kvm: CPU ${cpu.id} feature inconsistency!`);
    return -EIO;
  }

  /** (A) @upstream vmx_enable_virtualization_cpu() */
  enableCpu(cpu: Cpu): Errno {
    const { processor } = cpu;
    // Somebody else's hypervisor has this CPU.
    if (processor.cr4 & CR4_VMXE) return -EBUSY;
    setVmxe(processor, true);
    if (processor.vtx.vmxon(this.vmxarea[cpu.id]!) === VM_SUCCEED) return 0;
    setVmxe(processor, false);
    return -EFAULT;
  }

  /** (B) @upstream vmx_disable_virtualization_cpu() */
  disableCpu(cpu: Cpu): void {
    this.clearLocalLoadedVmcss(cpu);
    const result = cpu.processor.vtx.vmxoff();
    if (result !== VM_SUCCEED && !this.rebooting) throw new Error(`VMXOFF failed: ${result}`);
    setVmxe(cpu.processor, false);
  }

  /** VMCLEAR of everything on this CPU. @upstream vmclear_local_loaded_vmcss() */
  clearLocalLoadedVmcss(cpu: Cpu): void {
    for (const loaded of [...this.loadedVmcssOnCpu[cpu.id]!]) this.#clearLocal(loaded, cpu);
  }

  #clearLocal(loaded: LoadedVmcs, cpu: Cpu): void {
    if (loaded.cpu !== cpu) return;
    if (this.currentVmcs[cpu.id] === loaded) this.currentVmcs[cpu.id] = null;
    this.#vmclear(loaded, cpu);
    this.loadedVmcssOnCpu[cpu.id]!.delete(loaded);
    loaded.cpu = null;
    loaded.launched = false;
  }

  #vmclear(loaded: LoadedVmcs, cpu: Cpu): void {
    const result = cpu.processor.vtx.vmclear(loaded.vmcs);
    if (result !== VM_SUCCEED && !this.rebooting) throw new Error(`vmclear failed: ${loaded.vmcs.toString(16)}`);
  }

  /** VMCLEAR wherever the VMCS is, by IPI if need be. @upstream loaded_vmcs_clear() */
  loadedVmcsClear(loaded: LoadedVmcs): void {
    const { cpu } = loaded;
    if (cpu === null) return;
    if (cpu === this.host.cpu) this.#clearLocal(loaded, cpu);
    else this.host.cpus.smpCallFunctionSingle(cpu, () => this.#clearLocal(loaded, cpu));
  }

  /** Makes the VMCS current on this CPU; true if it was somewhere else before. @upstream vmx_vcpu_load_vmcs() */
  loadVmcs(loaded: LoadedVmcs, cpu: Cpu): boolean {
    const already = loaded.cpu === cpu;
    if (!already) {
      this.loadedVmcsClear(loaded);
      this.loadedVmcssOnCpu[cpu.id]!.add(loaded);
      loaded.cpu = cpu;
    }
    if (this.currentVmcs[cpu.id] !== loaded) {
      this.currentVmcs[cpu.id] = loaded;
      if (cpu.processor.vtx.vmptrld(loaded.vmcs) !== VM_SUCCEED)
        throw new Error(`vmptrld failed: ${loaded.vmcs.toString(16)}`);
    }
    return !already;
  }

  /** @upstream alloc_loaded_vmcs() */
  allocLoadedVmcs(): LoadedVmcs | undefined {
    const region = this.allocVmcsRegion();
    if (region === undefined) return undefined;
    const loaded = new LoadedVmcs(region);
    // A fresh region may be cleared anywhere: its launch state becomes "clear".
    const { cpu } = this.host;
    this.#vmclear(loaded, cpu);
    return loaded;
  }

  /** @upstream free_loaded_vmcs() */
  freeLoadedVmcs(loaded: LoadedVmcs): void {
    this.loadedVmcsClear(loaded);
    this.host.pages.free(loaded.vmcs);
  }
}

/** Sets or clears CR4.VMXE on a processor. */
function setVmxe(processor: Processor, on: boolean): void {
  writeCr4(processor, BigInt((on ? processor.cr4 | CR4_VMXE : processor.cr4 & ~CR4_VMXE) >>> 0));
}
