/*
 * Runs benches and says on COM1 when each begins and ends; whoever reads that takes the time.
 *
 *   begin NAME COUNT
 *   end NAME TICKS RESULT
 *
 * TICKS is the guest's own TSC, which on softvt and on Bochs counts instructions.
 */
#pragma once

#include "kernels.h"

#define COM1 0x3f8
#define LINE_CONTROL (COM1 + 3)
#define LINE_STATUS (COM1 + 5)
#define TRANSMITTER_EMPTY 0x20

struct bench {
	const char *name;
	u64 (*run)(u64 count);
	u64 count;
};

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

/* Divides in pieces of 16 bits: 32-bit code has no division of 64 bits of its own. */
static u32 divide_by_ten(u64 *value)
{
	u64 quotient = 0;
	u32 rest = 0;

	for (int shift = 48; shift >= 0; shift -= 16) {
		u32 piece = rest << 16 | ((u32)(*value >> shift) & 0xffff);

		quotient |= (u64)(piece / 10) << shift;
		rest = piece % 10;
	}
	*value = quotient;
	return rest;
}

static void print_number(u64 value)
{
	char digits[21], *at = digits + 20;

	*at = 0;
	do
		*--at = '0' + divide_by_ten(&value);
	while (value);
	print(" ");
	print(at);
}

static void run_benches(const struct bench *bench, u32 count)
{
	outb(3, LINE_CONTROL);
	for (; count > 0; count--, bench++) {
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
