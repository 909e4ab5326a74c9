/** Runs frames on the real processor, by a small program that is compiled when it is needed. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FRAME_SIZE, Frame } from './frame.ts';

/** The compiled recorder; dispose it when done. */
export class Recorder {
  readonly #directory: string;
  readonly #program: string;

  private constructor(directory: string) {
    this.#directory = directory;
    this.#program = join(directory, 'recorder');
  }

  /** null where there is no C compiler, or no processor of the kind that the emulated one follows. */
  static open(): Recorder | null {
    if (process.arch !== 'x64' || process.platform !== 'linux') return null;
    const recorder = new Recorder(mkdtempSync(join(tmpdir(), 'softvt-oracle-')));
    const source = join(import.meta.dirname, 'recorder.c');
    const { status } = spawnSync('gcc', ['-O1', '-mno-red-zone', '-o', recorder.#program, source]);
    if (status === 0 && spawnSync(recorder.#program, { input: '' }).status === 0) return recorder;
    recorder.close();
    return null;
  }

  /** The results of all frames. */
  run(frames: readonly Frame[]): Frame[] {
    const input = new Uint8Array(frames.length * FRAME_SIZE);
    for (const [i, frame] of frames.entries()) input.set(frame.bytes, i * FRAME_SIZE);
    const { status, stdout, stderr } = spawnSync(this.#program, { input, maxBuffer: input.length + 4096 });
    if (status !== 0 || stdout.length !== input.length) throw new Error(`recorder: ${status} ${stderr}`);
    const output = new Uint8Array(stdout);
    return frames.map((_, i) => new Frame(output.slice(i * FRAME_SIZE, (i + 1) * FRAME_SIZE)));
  }

  close(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
