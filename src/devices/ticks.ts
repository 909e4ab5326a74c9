/** Exact conversions between nanoseconds and the periods of an oscillator. */

const NS_PER_SECOND = 1_000_000_000;

/**
 * Whole periods of a clock of `hz` in `ns` nanoseconds, rounded down. Exact for every integer time below 2^53 while `hz` is
 * below 9 million: the product is formed per second, where it fits.
 */
export function nsToTicks(ns: number, hz: number): number {
  const seconds = Math.floor(ns / NS_PER_SECOND);
  const rest = ns - seconds * NS_PER_SECOND;
  return seconds * hz + Math.floor((rest * hz) / NS_PER_SECOND);
}

/** First nanosecond at which {@link nsToTicks} gives `ticks`. */
export function ticksToNs(ticks: number, hz: number): number {
  const seconds = Math.floor(ticks / hz);
  const rest = ticks - seconds * hz;
  return seconds * NS_PER_SECOND + Math.ceil((rest * NS_PER_SECOND) / hz);
}
