/** Which CR4 bits a processor with certain features has. @sdm "Control Registers" */
import {
  CR4_DE,
  CR4_FSGSBASE,
  CR4_LA57,
  CR4_MCE,
  CR4_OSFXSR,
  CR4_OSXMMEXCPT,
  CR4_OSXSAVE,
  CR4_PAE,
  CR4_PCE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PKE,
  CR4_PSE,
  CR4_PVI,
  CR4_SMAP,
  CR4_SMEP,
  CR4_SMXE,
  CR4_TSD,
  CR4_UMIP,
  CR4_VME,
  CR4_VMXE,
} from '../processor.ts';

const CR4_FEATURES: readonly (readonly [bit: number, feature: string])[] = [
  [CR4_VME, 'vme'],
  [CR4_PVI, 'vme'],
  [CR4_TSD, 'tsc'],
  [CR4_DE, 'de'],
  [CR4_PSE, 'pse'],
  [CR4_PAE, 'pae'],
  [CR4_MCE, 'mce'],
  [CR4_PGE, 'pge'],
  [CR4_PCE, 'fpu'],
  [CR4_OSFXSR, 'fxsr'],
  [CR4_OSXMMEXCPT, 'sse'],
  [CR4_UMIP, 'umip'],
  [CR4_LA57, 'la57'],
  [CR4_VMXE, 'vmx'],
  [CR4_SMXE, 'smx'],
  [CR4_FSGSBASE, 'fsgsbase'],
  [CR4_PCIDE, 'pcid'],
  [CR4_OSXSAVE, 'xsave'],
  [CR4_SMEP, 'smep'],
  [CR4_SMAP, 'smap'],
  [CR4_PKE, 'pku'],
];

/** CR4 bits that software may set (IA32_VMX_CR4_FIXED1 is the same). Unsigned 32 bits. */
export function cr4Defined(features: ReadonlySet<string>): number {
  let bits = 0;
  for (const [bit, feature] of CR4_FEATURES) if (features.has(feature)) bits |= bit;
  return bits >>> 0;
}
