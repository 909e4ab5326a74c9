/* The compute kernels in 32-bit mode, with fewer rounds: an eighth, and fib of a smaller number. */

#include "report.h"

static const struct bench benches[] = {
	{ "hash", kernel_hash, 15000000 },
	{ "copy", kernel_copy, 2500 },
	{ "bytes", kernel_bytes, 200 },
	{ "sieve", kernel_sieve, 60 },
	{ "quicksort", kernel_quicksort, 12 },
	{ "fib", kernel_fib, 32 },
	{ "chase", kernel_chase, 15000000 },
	{ "interpreter", kernel_interpreter, 12000000 },
	{ "strings", kernel_strings, 1000000 },
};

void run(void)
{
	run_benches(benches, sizeof benches / sizeof *benches);
}
