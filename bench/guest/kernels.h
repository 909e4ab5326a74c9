/* The compute kernels: each takes a number of rounds and returns a value that depends on all of its work. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

u64 kernel_hash(u64 rounds);
u64 kernel_copy(u64 rounds);
u64 kernel_bytes(u64 rounds);
u64 kernel_sieve(u64 rounds);
u64 kernel_quicksort(u64 rounds);
u64 kernel_fib(u64 n);
u64 kernel_chase(u64 rounds);
u64 kernel_interpreter(u64 rounds);
u64 kernel_strings(u64 rounds);

u64 float_scalar(u64 rounds);
u64 float_packed(u64 rounds);
