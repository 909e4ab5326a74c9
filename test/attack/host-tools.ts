/** Small things that a malicious host needs. */
import { withKeyId } from '../../src/machine/seam/key-id.ts';
import type { Hpa } from '../../src/util/address.ts';

/** A physical address with a KeyID in it. */
export const keyIdAddress = (hpa: Hpa, keyId: number): Hpa => withKeyId(hpa, keyId);
