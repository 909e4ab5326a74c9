/** What the image functions report while they work. */

/** One step of the work; a download reports itself often, everything else once. */
export type ImageProgress =
  | {
      readonly kind: 'download';
      readonly file: string;
      readonly done: number;
      readonly total: number;
    }
  | { readonly kind: 'verify'; readonly file: string }
  | { readonly kind: 'unpack'; readonly file: string }
  | { readonly kind: 'warning'; readonly message: string };

/** Receives the steps. It must not throw. */
export type ProgressListener = (step: ImageProgress) => void;

/** The part of a terminal or log stream that {@link progressWriter} needs; `process.stderr` is one. */
export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  write(text: string): unknown;
}

const MIB = 1024 * 1024;

function describe(step: ImageProgress): string {
  switch (step.kind) {
    case 'download': {
      const done = (step.done / MIB).toFixed(1);
      const total = (step.total / MIB).toFixed(1);
      return `softvt: downloading ${step.file}: ${done} of ${total} MiB`;
    }
    case 'verify':
      return `softvt: checking ${step.file}`;
    case 'unpack':
      return `softvt: unpacking ${step.file}`;
    case 'warning':
      return `softvt: warning: ${step.message}`;
  }
}

/**
 * A listener that writes to `stream`: on a terminal one line that updates itself, elsewhere one line per file.
 *
 * Call `end` when the work is over, so that the next output starts on a line of its own.
 */
export function progressWriter(stream: ProgressStream): {
  readonly listener: ProgressListener;
  end(): void;
} {
  const live = stream.isTTY === true;
  let open = false;
  let lastFile = '';
  const end = (): void => {
    if (open) stream.write('\n');
    open = false;
  };
  const listener = (step: ImageProgress): void => {
    if (step.kind === 'warning') {
      end();
      stream.write(`${describe(step)}\n`);
    } else if (live) {
      stream.write(`\r\x1b[K${describe(step)}`);
      open = true;
    } else if (step.kind !== 'download') {
      stream.write(`${describe(step)}\n`);
    } else if (step.file !== lastFile) {
      lastFile = step.file;
      stream.write(`softvt: downloading ${step.file} (${(step.total / MIB).toFixed(1)} MiB)\n`);
    }
  };
  return { listener, end };
}
