/** Whether machines that do not say translate hot code. */

/** For programs to set before they make a machine. */
export const translatorDefaults: { mode: 'on' | 'off'; threshold: number; counting: boolean } = {
  mode: 'on',
  counting: false,
  // Compiling pays from about here on: a boot takes the least time.
  threshold: 2500,
};

/** Reads a switch such as the environment gives it: `on`, `off`, or a threshold (entries, 1 to 65535). False if it is none of them. */
export function setTranslatorDefaults(text: string): boolean {
  if (text === 'on' || text === 'off') {
    translatorDefaults.mode = text;
    return true;
  }
  const threshold = Number(text);
  if (!Number.isInteger(threshold) || threshold < 1 || threshold > 0xffff) return false;
  translatorDefaults.mode = 'on';
  translatorDefaults.threshold = threshold;
  return true;
}
