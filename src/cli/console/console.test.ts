import { describe, expect, test } from 'vitest';
import { FakeGuest, FakeOutput, FakeStdin } from '../testing.ts';
import { EscapeKeys } from './escape-keys.ts';
import { type InputStream, Keyboard, StreamSink } from './terminal.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('escape keys', () => {
  const feed = (...typed: string[]) => {
    const keys = new EscapeKeys();
    const results = typed.map((text) => keys.feed(bytes(text)));
    return {
      input: results.map(({ input }) => new TextDecoder().decode(input)).join(''),
      commands: results.flatMap(({ commands }) => commands),
    };
  };
  test('what is typed goes to the guest, Ctrl-C included', () => {
    expect(feed('ls -l\r', '\x03')).toEqual({ input: 'ls -l\r\x03', commands: [] });
  });
  test('Ctrl-A x quits, and nothing after it counts', () => {
    expect(feed('a\x01xrm')).toEqual({ input: 'a', commands: ['quit'] });
  });
  test('Ctrl-A h helps', () => {
    expect(feed('\x01hb')).toEqual({ input: 'b', commands: ['help'] });
  });
  test('Ctrl-A twice sends one', () => {
    expect(feed('\x01\x01x')).toEqual({ input: '\x01x', commands: [] });
  });
  test('Ctrl-A and its key may arrive apart', () => {
    expect(feed('\x01', 'x')).toEqual({ input: '', commands: ['quit'] });
    expect(feed('\x01', '\x01')).toEqual({ input: '\x01', commands: [] });
  });
  test('any other key after Ctrl-A is dropped', () => {
    expect(feed('\x01zok')).toEqual({ input: 'ok', commands: [] });
  });
});

function keyboard(isTTY: boolean) {
  const stdin = new FakeStdin(isTTY);
  const guest = new FakeGuest({} as never, { write: () => {}, ready: undefined });
  const said: string[] = [];
  const quits: number[] = [];
  const options = {
    stream: stdin as InputStream,
    target: guest,
    quit: () => quits.push(1),
    say: (line: string) => said.push(line),
  };
  return { stdin, guest, said, quits, keys: new Keyboard(options) };
}

describe('keyboard', () => {
  test('a terminal is raw while the guest runs and as before afterwards', () => {
    const { stdin, keys } = keyboard(true);
    expect(stdin.raw).toBe(true);
    keys.close();
    keys.close();
    expect(stdin.raw).toBe(false);
  });

  test('a pipe has no escape keys', () => {
    const { stdin, guest, quits } = keyboard(false);
    stdin.type('\x01x');
    expect(guest.received).toBe('\x01x');
    expect(quits).toEqual([]);
  });

  test('escape commands are carried out', () => {
    const { stdin, said, quits } = keyboard(true);
    stdin.type('\x01h\x01x');
    expect(said.join('\n')).toContain('Ctrl-A x  quit');
    expect(quits).toHaveLength(1);
  });

  test('a large paste waits until the guest has read', () => {
    const { stdin, guest } = keyboard(true);
    guest.full = true;
    stdin.type('x'.repeat(1000));
    expect(stdin.paused).toBe(true);
    guest.drained();
    expect(stdin.paused).toBe(false);
  });

  test('a guest that reads on after the end does not wake stdin', () => {
    const { stdin, guest, keys } = keyboard(true);
    guest.full = true;
    stdin.type('x');
    keys.close();
    guest.drained();
    expect(stdin.paused).toBe(true);
  });

  test('the end of a pipe closes the keyboard', () => {
    const { stdin, guest } = keyboard(false);
    stdin.emit('end');
    expect(stdin.listenerCount).toBe(0);
    expect(guest.inputEnded).toBe(true);
  });
});

describe('output', () => {
  test('a stream that is full asks the guest to wait until it drains', async () => {
    const stream = new FakeOutput();
    const sink = new StreamSink(stream);
    sink.write(bytes('a'));
    expect(sink.ready).toBeUndefined();
    stream.full = true;
    sink.write(bytes('b'));
    const ready = sink.ready;
    expect(ready).toBeInstanceOf(Promise);
    stream.drain();
    await ready;
    expect(sink.ready).toBeUndefined();
    expect(stream.text).toBe('ab');
  });
});
