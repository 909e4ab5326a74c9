/** How a guest's run ends, in words and as the command line's exit code. */

/** Why a run is over. */
export type GuestEnd =
  | { readonly reason: 'power-off' }
  /** `by`: what asked for the reset. */
  | { readonly reason: 'reset'; readonly by: string }
  /** `rip` is undefined where nobody can see it: in a TD. */
  | { readonly reason: 'triple-fault'; readonly vcpu: number; readonly rip: bigint | undefined }
  /** A TD reported that it cannot go on. */
  | { readonly reason: 'td-fatal'; readonly code: number; readonly message: string }
  /** The guest told the panic device. */
  | { readonly reason: 'panic' }
  | { readonly reason: 'debug-exit'; readonly value: number }
  /** Nothing can wake the guest any more. */
  | { readonly reason: 'halted' }
  /** KVM gave up on the guest. */
  | { readonly reason: 'kvm-error'; readonly message: string }
  /** Wall seconds. */
  | { readonly reason: 'timeout'; readonly seconds: number }
  /** The user ended it from the keyboard. */
  | { readonly reason: 'quit' }
  /** A signal to the process. */
  | { readonly reason: 'signal'; readonly name: string; readonly number: number };

/** One line for people, without a name in front. */
export function describeEnd(end: GuestEnd): string {
  switch (end.reason) {
    case 'power-off':
      return 'the guest powered off';
    case 'reset':
      return `the guest reset itself by ${end.by}`;
    case 'triple-fault':
      return end.rip === undefined
        ? `the guest crashed: triple fault on vCPU ${end.vcpu} of a TD (a kernel without TDX guest support ends so at its first #VE)`
        : `the guest crashed: triple fault on vCPU ${end.vcpu} at RIP 0x${end.rip.toString(16)}`;
    case 'td-fatal':
      return `the TD reported a fatal error, code ${end.code}${end.message === '' ? '' : `: ${end.message}`}`;
    case 'panic':
      return 'the guest panicked';
    case 'debug-exit':
      return `the guest wrote ${end.value} to the debug-exit port`;
    case 'halted':
      return 'the guest hangs: every vCPU is halted and nothing can wake one';
    case 'kvm-error':
      return `the guest cannot go on: ${end.message}`;
    case 'timeout':
      return `timeout after ${end.seconds} s`;
    case 'quit':
      return 'quit from the keyboard';
    case 'signal':
      return `stopped by ${end.name}`;
  }
}

/** The command line's exit code. */
export function exitCode(end: GuestEnd): number {
  switch (end.reason) {
    case 'power-off':
    case 'quit':
      return 0;
    case 'reset':
    case 'triple-fault':
    case 'td-fatal':
    case 'panic':
    case 'halted':
    case 'kvm-error':
      return 1;
    case 'debug-exit':
      // The shell sees eight bits of it.
      return ((end.value << 1) | 1) & 0xff;
    case 'timeout':
      return 124;
    case 'signal':
      return 128 + end.number;
  }
}
