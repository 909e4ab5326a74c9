/**
 * CPUID feature bits by name. Names are those of Linux's /proc/cpuinfo where it has one, else the SDM's in lower case.
 *
 * A bit is here if some part of softvt asks for it by name; whether a processor offers it is its profile's decision.
 * Rows of the instruction tables name the feature that brings them (`feature: 'bmi1'`).
 */

export type CpuidRegister = 'eax' | 'ebx' | 'ecx' | 'edx';

/** Where a feature bit lies. */
export interface FeatureBit {
  readonly leaf: number;
  readonly subleaf: number;
  readonly register: CpuidRegister;
  readonly bit: number;
}

type Row = readonly [leaf: number, subleaf: number, register: CpuidRegister, bits: string];

/** `bit:name` pairs of each register of feature bits. @sdm "CPUID—CPU Identification" */
const ROWS: readonly Row[] = [
  [
    1,
    0,
    'ecx',
    `0:pni 1:pclmulqdq 2:dtes64 3:monitor 4:ds_cpl 5:vmx 6:smx 7:est 8:tm2 9:ssse3 11:sdbg 12:fma 13:cx16
    14:xtpr 15:pdcm 17:pcid 18:dca 19:sse4_1 20:sse4_2 21:x2apic 22:movbe 23:popcnt 24:tsc_deadline_timer 25:aes 26:xsave
    27:osxsave 28:avx 29:f16c 30:rdrand 31:hypervisor`,
  ],
  [
    1,
    0,
    'edx',
    `0:fpu 1:vme 2:de 3:pse 4:tsc 5:msr 6:pae 7:mce 8:cx8 9:apic 11:sep 12:mtrr 13:pge 14:mca 15:cmov 16:pat
    17:pse36 19:clflush 21:ds 22:acpi 23:mmx 24:fxsr 25:sse 26:sse2 27:ss 28:ht 29:tm 31:pbe`,
  ],
  [6, 0, 'eax', '2:arat'],
  [
    7,
    0,
    'ebx',
    `0:fsgsbase 1:tsc_adjust 2:sgx 3:bmi1 4:hle 5:avx2 6:fdp_excptn_only 7:smep 8:bmi2 9:erms 10:invpcid 11:rtm
    13:zero_fcs_fds 14:mpx 16:avx512f 17:avx512dq 18:rdseed 19:adx 20:smap 21:avx512ifma 23:clflushopt 24:clwb
    25:intel_pt 28:avx512cd 29:sha_ni 30:avx512bw 31:avx512vl`,
  ],
  [
    7,
    0,
    'ecx',
    `1:avx512vbmi 2:umip 3:pku 4:ospke 5:waitpkg 6:avx512_vbmi2 7:cet_ss 8:gfni 9:vaes 10:vpclmulqdq
    11:avx512_vnni 12:avx512_bitalg 13:tme 14:avx512_vpopcntdq 16:la57 22:rdpid 23:kl 24:bus_lock_detect 25:cldemote
    27:movdiri 28:movdir64b 29:enqcmd 30:sgx_lc 31:pks`,
  ],
  [
    7,
    0,
    'edx',
    `4:fsrm 8:avx512_vp2intersect 10:md_clear 14:serialize 15:hybrid 16:tsxldtrk 18:pconfig 19:arch_lbr
    20:cet_ibt 22:amx_bf16 23:avx512_fp16 24:amx_tile 25:amx_int8 26:spec_ctrl 27:stibp 28:l1d_flush 29:arch_capabilities
    30:core_capabilities 31:ssbd`,
  ],
  [7, 1, 'eax', '4:avx_vnni 5:avx512_bf16 6:lass 10:fzrm 11:fsrs 12:fsrcs 17:fred 18:lkgs 19:wrmsrns 22:hreset 26:lam'],
  [7, 2, 'edx', '0:psfd 1:ipred_ctrl 2:rrsba_ctrl 3:ddpd_u 4:bhi_ctrl 5:mcdt_no'],
  [0xd, 1, 'eax', '0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves 4:xfd'],
  [0x80000001, 0, 'ecx', '0:lahf_lm 5:abm 8:3dnowprefetch'],
  [0x80000001, 0, 'edx', '11:syscall 20:nx 26:pdpe1gb 27:rdtscp 29:lm'],
  [0x80000007, 0, 'edx', '8:constant_tsc'],
  [0x80000008, 0, 'ebx', '9:wbnoinvd'],
];

const bits: Map<string, FeatureBit> = new Map();
for (const [leaf, subleaf, register, text] of ROWS) {
  for (const pair of text.trim().split(/\s+/)) {
    const [bit, name] = pair.split(':') as [string, string];
    if (bits.has(name)) throw new Error(`two feature bits named ${name}`);
    bits.set(name, { leaf, subleaf, register, bit: Number(bit) });
  }
}

/** The bit of a feature; throws for a name that the table lacks (a typing error in a profile or an instruction row). */
export function featureBit(name: string): FeatureBit {
  const bit = bits.get(name);
  if (!bit) throw new Error(`no CPUID feature named ${name}`);
  return bit;
}

/** Every known name. */
export const featureNames = (): IterableIterator<string> => bits.keys();

/** One register of one leaf with the bits of all features in `offered` set. */
export function featureWord(
  offered: ReadonlySet<string>,
  leaf: number,
  subleaf: number,
  register: CpuidRegister,
): number {
  let word = 0;
  for (const name of offered) {
    const at = featureBit(name);
    if (at.leaf === leaf && at.subleaf === subleaf && at.register === register) word |= 1 << at.bit;
  }
  return word >>> 0;
}
