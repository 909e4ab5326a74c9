/* Every bench, in 64-bit mode. */

#include "report.h"

/* A port and an address that nobody answers. */
#define UNUSED_PORT 0x2e0
#define UNUSED_ADDRESS 0x3f000000
#define TOUCH_FROM 0x1000000
#define TOUCH_PAGES 32768

void fault_once(void);
void system_calls(u64 rounds);
u64 changed_code(u32 value);
extern u8 changed_immediate[];

/* CPUID: the shortest exit that the hypervisor handles itself. */
static u64 exit_cpuid(u64 rounds)
{
	u32 a = 0, b, c = 0, d;

	for (; rounds > 0; rounds--) {
		a = 0;
		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	}
	return a;
}

/* OUT to a port of user space. */
static u64 exit_io(u64 rounds)
{
	for (; rounds > 0; rounds--)
		outb(0, UNUSED_PORT);
	return 0;
}

/* A store that the hypervisor has to emulate and that nobody takes. */
static u64 exit_mmio(u64 rounds)
{
	for (; rounds > 0; rounds--)
		*(volatile u32 *)UNUSED_ADDRESS = 0;
	return 0;
}

/* #PF, handler and IRETQ, all inside the guest. */
static u64 page_fault(u64 rounds)
{
	for (; rounds > 0; rounds--)
		fault_once();
	return 0;
}

/* The first store to a page of RAM, for which the hypervisor has to find memory. */
static u64 first_touch(u64 pages)
{
	for (u64 page = 0; page < pages; page++)
		*(volatile u64 *)(TOUCH_FROM + page * 4096) = page;
	return 0;
}

/* SYSCALL, SWAPGS twice and SYSRET, from level 3. */
static u64 system_call(u64 rounds)
{
	system_calls(rounds);
	return 0;
}

/* INT n, handler and IRETQ. */
static u64 interrupt(u64 rounds)
{
	for (; rounds > 0; rounds--)
		__asm__ volatile("int $0x40");
	return 0;
}

/* A function whose constant is changed before each call. */
static u64 code_change(u64 rounds)
{
	u64 sum = 0;

	for (; rounds > 0; rounds--) {
		*(volatile u32 *)changed_immediate = rounds;
		sum += changed_code(1);
	}
	return sum;
}

static const struct bench benches[] = {
	{ "hash", kernel_hash, 120000000 },
	{ "copy", kernel_copy, 20000 },
	{ "bytes", kernel_bytes, 1600 },
	{ "sieve", kernel_sieve, 480 },
	{ "quicksort", kernel_quicksort, 96 },
	{ "fib", kernel_fib, 36 },
	{ "chase", kernel_chase, 120000000 },
	{ "interpreter", kernel_interpreter, 96000000 },
	{ "strings", kernel_strings, 8000000 },
	{ "float:scalar", float_scalar, 20000000 },
	{ "float:packed", float_packed, 40000 },
	{ "exit:cpuid", exit_cpuid, 200000 },
	{ "exit:io", exit_io, 100000 },
	{ "exit:mmio", exit_mmio, 50000 },
	{ "page-fault", page_fault, 1000000 },
	{ "system-call", system_call, 1000000 },
	{ "interrupt", interrupt, 1000000 },
	{ "code-change", code_change, 300000 },
	{ "first-touch", first_touch, TOUCH_PAGES },
};

void run(void)
{
	run_benches(benches, sizeof benches / sizeof *benches);
}
