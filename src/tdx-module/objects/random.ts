/** Random numbers of the module: RDSEED, which may have none at the moment. */
import type { Call } from './call.ts';

/** So many random bytes (a multiple of 8); null if there is no entropy now: the host tries again. */
export function randomBytes(call: Call, count: number): Uint8Array | null {
  if (!call.lock('entropy', 0, 'shared')) return null;
  const bytes = new Uint8Array(count);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < count; at += 8) view.setBigUint64(at, call.module.platform.random64(), true);
  return bytes;
}
