/**
 * struct kvm_pit_state2: the interval timer as KVM_GET_PIT2 and KVM_SET_PIT2 see it.
 *
 * @upstream arch/x86/include/uapi/asm/kvm.h, arch/x86/kvm/x86.c kvm_vm_ioctl_get_pit2(), kvm_vm_ioctl_set_pit2()
 */
import type { I8254ChannelState } from '../../devices/i8254-channel.ts';
import type { KvmPit } from './i8254.ts';

export const KVM_PIT_STATE2_BYTES = 112;
const CHANNEL_BYTES = 24;
const FLAGS = 72;
const FLAG_HPET_LEGACY = 1;
const FLAG_SPEAKER_DATA_ON = 2;

/** Which byte of a two-byte count comes next. @upstream RW_STATE_* */
const RW_MSB = 2;
const RW_WORD0 = 3;
const RW_WORD1 = 4;
/** Mode of a counter that was never programmed. */
const MODE_NONE = 0xff;
const SPEAKER_DATA = 2;

function putChannel(view: DataView, at: number, c: I8254ChannelState, loadTime: number): void {
  const rw = (c.control >> 4) & 3;
  const state = (second: number): number => (rw !== RW_WORD0 ? rw : second ? RW_WORD1 : RW_WORD0);
  const latched = rw === RW_WORD0 && c.readState ? RW_MSB : rw;
  view.setUint32(at, c.reload, true);
  view.setUint16(at + 4, c.latchedCount, true);
  view.setUint8(at + 6, c.countLatched ? latched : 0);
  view.setUint8(at + 7, c.statusLatched ? 1 : 0);
  view.setUint8(at + 8, c.status);
  view.setUint8(at + 9, state(c.readState));
  view.setUint8(at + 10, state(c.writeState));
  view.setUint8(at + 11, c.writeLatch);
  view.setUint8(at + 12, rw);
  view.setUint8(at + 13, c.armed ? (c.control >> 1) & 7 : MODE_NONE);
  view.setUint8(at + 14, c.control & 1);
  view.setUint8(at + 15, c.gate ? 1 : 0);
  view.setBigUint64(at + 16, BigInt(loadTime), true);
}

/** The timer's state as 112 bytes. */
export function kvmPitGetState2(pit: KvmPit): Uint8Array {
  const bytes = new Uint8Array(KVM_PIT_STATE2_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 3; i++) {
    const loadTime = pit.model.countStart(i);
    putChannel(view, i * CHANNEL_BYTES, pit.model.state.channels[i]!, loadTime);
  }
  const speaker = pit.speaker.state.control & SPEAKER_DATA ? FLAG_SPEAKER_DATA_ON : 0;
  view.setUint32(FLAGS, (pit.hpetLegacy ? FLAG_HPET_LEGACY : 0) | speaker, true);
  return bytes;
}

function takeChannel(pit: KvmPit, index: number, view: DataView, at: number, now: number): void {
  const rw = view.getUint8(at + 12) & 3;
  const mode = view.getUint8(at + 13);
  const { model } = pit;
  const control = (rw << 4) | ((mode === MODE_NONE ? 0 : mode & 7) << 1) | (view.getUint8(at + 14) & 1);
  model.portWrite(3, 1, (index << 6) | (rw === 0 ? control | (RW_WORD0 << 4) : control));
  model.setGate(index, view.getUint8(at + 15) !== 0);
  if (mode !== MODE_NONE) model.startCount(index, view.getUint32(at, true) || 0x1_0000, now);
  const c = model.state.channels[index]!;
  const latched = view.getUint8(at + 6);
  c.latchedCount = view.getUint16(at + 4, true);
  c.countLatched = latched !== 0;
  c.statusLatched = view.getUint8(at + 7) !== 0;
  c.status = view.getUint8(at + 8);
  const second = latched === 0 ? view.getUint8(at + 9) === RW_WORD1 : rw === RW_WORD0 && latched === RW_MSB;
  c.readState = second ? 1 : 0;
  c.writeState = view.getUint8(at + 10) === RW_WORD1 ? 1 : 0;
  c.writeLatch = view.getUint8(at + 11);
}

/** Takes over a state. Counts begin anew: the time they were loaded at is another host's. */
export function kvmPitSetState2(pit: KvmPit, bytes: Uint8Array, now: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, KVM_PIT_STATE2_BYTES);
  const flags = view.getUint32(FLAGS, true);
  pit.hpetLegacy = (flags & FLAG_HPET_LEGACY) !== 0;
  const control = pit.speaker.state.control & ~SPEAKER_DATA;
  pit.speaker.restore({ version: 1, control: control | (flags & FLAG_SPEAKER_DATA_ON ? SPEAKER_DATA : 0) });
  pit.resetReinject();
  for (let i = 0; i < 3; i++) takeChannel(pit, i, view, i * CHANNEL_BYTES, now);
}
