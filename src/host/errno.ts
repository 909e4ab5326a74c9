/**
 * Linux error numbers, as the negative results that kernel functions return.
 *
 * A function whose result is `Errno` returns 0 for success or one of these; one that also gives a value returns the
 * value where it is not negative.
 */

/** 0 or a negative error number. */
export type Errno = number;

export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const ENOTTY = 25;
export const ENOSPC = 28;
export const EOPNOTSUPP = 95;
