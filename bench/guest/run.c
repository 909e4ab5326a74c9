/*
 * Runs every bench and says on COM1 when each begins and ends; whoever reads that takes the time.
 *
 *   begin NAME COUNT
 *   end NAME TICKS RESULT
 *
 * TICKS is the guest's own TSC, which on softvt and on Bochs counts instructions.
 */

#include "kernels.h"

#define COM1 0x3f8
#define LINE_CONTROL (COM1 + 3)
#define LINE_STATUS (COM1 + 5)
#define TRANSMITTER_EMPTY 0x20
/* A port and an address that nobody answers. */
#define UNUSED_PORT 0x2e0
#define UNUSED_ADDRESS 0x3f000000
#define TOUCH_FROM 0x1000000
#define TOUCH_PAGES 32768

void fault_once(void);
void system_calls(u64 rounds);
u64 changed_code(u32 value);
extern u8 changed_immediate[];

static inline void outb(u8 value, u16 port)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline u64 ticks(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static void print(const char *text)
{
	for (; *text; text++) {
		while (!(inb(LINE_STATUS) & TRANSMITTER_EMPTY))
			;
		outb(*text, COM1);
	}
}

static void print_number(u64 value)
{
	char digits[21], *at = digits + 20;

	*at = 0;
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	print(" ");
	print(at);
}

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

static const struct bench {
	const char *name;
	u64 (*run)(u64 count);
	u64 count;
} benches[] = {
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
	outb(3, LINE_CONTROL);
	for (u32 n = 0; n < sizeof benches / sizeof *benches; n++) {
		const struct bench *bench = &benches[n];
		u64 start, result;

		print("begin ");
		print(bench->name);
		print_number(bench->count);
		print("\n");
		start = ticks();
		result = bench->run(bench->count);
		start = ticks() - start;
		print("end ");
		print(bench->name);
		print_number(start);
		print_number(result);
		print("\n");
	}
	print("done\n");
}
