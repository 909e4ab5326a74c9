/** Work that programs of the distribution do, and whose output is the same on every processor. */

/** One piece of work: a command in a directory of its own. */
export interface Case {
  readonly name: string;
  /** For a shell; what it prints is compared. */
  readonly command: string;
  /** Writes what the command works on. */
  readonly fill: (directory: string) => void | Promise<void>;
  /** A command that only this host runs, before both run `command`: what it makes is given to the guest. */
  readonly once?: string;
}

/** What {@link import('./prepare.ts').prepareWorkload} prepares. */
export interface Workload {
  /** Where the programs come from. */
  readonly packages: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cases: readonly Case[];
  /** A command that only a guest runs, in the last case's directory: its exit code is what is looked at. */
  readonly guestOnly?: string;
}
