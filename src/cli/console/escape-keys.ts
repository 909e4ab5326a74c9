/** The console's escape key, Ctrl-A, as in QEMU: what is typed goes to the guest except for a few commands. */

/** What the user asked for. */
export type EscapeCommand = 'quit' | 'help';

const CTRL_A = 0x01;
const COMMANDS: Readonly<Record<string, EscapeCommand>> = { x: 'quit', X: 'quit', h: 'help', '?': 'help' };

/** Text that Ctrl-A h prints. */
export const ESCAPE_HELP: readonly string[] = ['Ctrl-A h  this help', 'Ctrl-A x  quit', 'Ctrl-A Ctrl-A  send Ctrl-A'];

/** Separates commands from input. Its only state is whether the last byte was Ctrl-A. */
export class EscapeKeys {
  #escaped = false;

  /** Bytes for the guest, and the commands among what was typed, in order. Nothing after a `quit` counts. */
  feed(typed: Uint8Array): { readonly input: Uint8Array; readonly commands: readonly EscapeCommand[] } {
    const input = new Uint8Array(typed.length + 1);
    const commands: EscapeCommand[] = [];
    let length = 0;
    for (const byte of typed) {
      if (!this.#escaped) {
        if (byte === CTRL_A) this.#escaped = true;
        else input[length++] = byte;
        continue;
      }
      this.#escaped = false;
      const command = COMMANDS[String.fromCharCode(byte)];
      if (command !== undefined) commands.push(command);
      if (command === 'quit') break;
      // Ctrl-A twice is Ctrl-A; any other key after it is dropped, as in QEMU.
      if (byte === CTRL_A) input[length++] = CTRL_A;
    }
    return { input: input.subarray(0, length), commands };
  }
}
