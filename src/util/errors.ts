/**
 * Mistakes and failures that a person can act on.
 *
 * Architecture faults, KVM errno values and broken invariants are values of their own layers and never come here.
 */

/** The name of one kind of failure, stable for scripts and tests. */
export type SoftvtErrorCode = `ERR_SOFTVT_${string}`;

/** What a {@link SoftvtError} carries beside its message. */
export interface SoftvtErrorDetails {
  /** What the user can do about it, one sentence without a full stop. */
  readonly hint?: string;
  /** The error underneath, for debugging; never shown by itself. */
  readonly cause?: unknown;
}

/**
 * A failure that is told in one clear line: `message`, and `hint` when there is something to do about it.
 *
 * The message is one sentence without a full stop, names the thing that is wrong and holds no line break.
 */
export class SoftvtError extends Error {
  readonly code: SoftvtErrorCode;
  readonly hint: string | undefined;

  constructor(code: SoftvtErrorCode, message: string, details: SoftvtErrorDetails = {}) {
    super(message, details.cause === undefined ? {} : { cause: details.cause });
    this.name = 'SoftvtError';
    this.code = code;
    this.hint = details.hint;
  }

  /** Message and hint in the one line that the command line prints. */
  get line(): string {
    return this.hint === undefined ? this.message : `${this.message} (${this.hint})`;
  }
}
