/**
 * Which leaf is allowed in which OP_STATE of its TD.
 *
 * @tdx "TD Operation State Machine", Concurrency and Operation State Restrictions
 */

/** Columns: UNINITIALIZED INITIALIZED RUNNABLE LIVE_EXPORT PAUSED_EXPORT POST_EXPORT MEMORY_IMPORT STATE_IMPORT POST_IMPORT LIVE_IMPORT FAILED_IMPORT. */
const ROWS: Readonly<Record<number, string>> = {
  0: '..xx.....x.', // TDH.VP.ENTER
  1: 'x..........', // TDH.MNG.ADDCX
  2: '.x.........', // TDH.MEM.PAGE.ADD
  3: '.xxx..xxxx.', // TDH.MEM.SEPT.ADD
  4: '.x.....x...', // TDH.VP.ADDCX
  5: '.xxxxx..xx.', // TDH.MEM.PAGE.RELOCATE
  6: '.xxx.....x.', // TDH.MEM.PAGE.AUG
  7: '.xxxxx..xx.', // TDH.MEM.RANGE.BLOCK
  10: '.x.....x...', // TDH.VP.CREATE
  11: '.xxxxxxxxxx', // TDH.MNG.RD
  12: '.xxxxxxxxxx', // TDH.MEM.RD
  13: '.xxx..xxxxx', // TDH.MNG.WR
  14: '.xxx..xxxxx', // TDH.MEM.WR
  15: '.xxxxx..xx.', // TDH.MEM.PAGE.DEMOTE
  16: '.x.........', // TDH.MR.EXTEND
  17: '.x.........', // TDH.MR.FINALIZE
  18: 'xxxxxxxxxxx', // TDH.VP.FLUSH
  21: 'x..........', // TDH.MNG.INIT
  22: '.x.........', // TDH.VP.INIT
  23: '.xxxxx..xx.', // TDH.MEM.PAGE.PROMOTE
  25: '.xxxxxxxxxx', // TDH.MEM.SEPT.RD
  26: '.xxxxxxxxxx', // TDH.VP.RD
  29: '.xxxxx..xxx', // TDH.MEM.PAGE.REMOVE
  30: '.xxxxxxxxxx', // TDH.MEM.SEPT.REMOVE
  38: '.xxxxxxxxx.', // TDH.MEM.TRACK
  39: '.xxxxx..xx.', // TDH.MEM.RANGE.UNBLOCK
  43: '.xxx..xxxxx', // TDH.VP.WR
};

/** Whether a host leaf depends on the OP_STATE. */
export const leafHasStates = (leaf: number): boolean => leaf in ROWS;

/** Whether the table allows a host leaf in an OP_STATE; leaves that it does not name are allowed always. */
export function leafAllowedIn(leaf: number, opState: number): boolean {
  const row = ROWS[leaf];
  return row === undefined || row[opState] === 'x';
}

/** States in which TLB tracking is required before a blocked page may be removed: RUNNABLE, LIVE_EXPORT, LIVE_IMPORT. */
export const tlbTrackingRequired = (opState: number): boolean => opState === 2 || opState === 3 || opState === 9;
