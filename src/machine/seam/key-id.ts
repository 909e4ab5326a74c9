/**
 * KeyIDs in physical addresses: which memory-encryption key an access uses.
 *
 *   51      46 45                                   0
 *   |  KeyID  | address                             |
 *
 * KeyID 0 is the platform's key, 1 to MKTME_KEY_IDS are for software with multi-key TME, the rest are private: only SEAM
 * root and TDs may use them.
 *
 * @sdm "Memory Encryption" (TME-MK: the KeyID is in the upper bits of the physical address)
 */
import type { Hpa } from '../../util/address.ts';

/** Bit of a physical address where the KeyID begins. */
export const KEYID_SHIFT = 46;
export const KEYID_BITS = 6;
/** KeyIDs there can be, 0 included. */
export const KEY_IDS: number = 2 ** KEYID_BITS;
/** KeyIDs 1 to this are shared ones. */
export const MKTME_KEY_IDS = 31;
/** KeyIDs after those, at most. */
export const MAX_PRIVATE_KEY_IDS: number = KEY_IDS - 1 - MKTME_KEY_IDS;

const KEYID_UNIT: number = 2 ** KEYID_SHIFT;

/** The KeyID in a physical address of 52 bits. */
export const keyIdOf = (hpa: Hpa): number => Math.floor(hpa / KEYID_UNIT);

/** The address without its KeyID. */
export const stripKeyId = (hpa: Hpa): Hpa => hpa % KEYID_UNIT;

/** The address with this KeyID in place of its own. */
export const withKeyId = (hpa: Hpa, keyId: number): Hpa => stripKeyId(hpa) + keyId * KEYID_UNIT;

/** Whether a KeyID is above the shared ones: software outside SEAM may not use it, assigned to a TD or not. */
export const isPrivateKeyId = (keyId: number): boolean => keyId > MKTME_KEY_IDS;

/** Whether a KeyID is one of the machine's private KeyIDs. */
export const isPrivate = (machine: { readonly seam: { readonly privateKeyIds: number } }, keyId: number): boolean =>
  keyId > MKTME_KEY_IDS && keyId <= MKTME_KEY_IDS + machine.seam.privateKeyIds;
