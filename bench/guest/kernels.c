/* Nine small programs, each with one kind of work that dominates it. */

#include "kernels.h"

#define WORDS 8192
#define BYTES 65536
#define PRIMES 200000
#define VALUES 65536
#define NODES 4096

static u64 source[WORDS], target[WORDS];
static u8 bytes[PRIMES];
static int values[VALUES];

/* Multiply, shift, rotate: one long chain of dependent ALU operations. */
u64 kernel_hash(u64 rounds)
{
	u64 hash = 0xcbf29ce484222325;

	for (u64 i = 0; i < rounds; i++) {
		hash = (hash ^ i) * 0x100000001b3;
		hash ^= hash >> 29;
		hash = hash << 7 | hash >> 57;
	}
	return hash;
}

/* Loads and stores of 64 bits in ascending order. */
u64 kernel_copy(u64 rounds)
{
	u64 sum = 0;

	for (u64 round = 0; round < rounds; round++) {
		for (int i = 0; i < WORDS; i++)
			target[i] = source[i] + round;
		sum += target[round % WORDS];
	}
	return sum;
}

/* Loads and stores of single bytes, one of them scattered. */
u64 kernel_bytes(u64 rounds)
{
	u64 sum = 0;

	for (u64 round = 0; round < rounds; round++)
		for (u32 i = 0; i < BYTES; i++) {
			bytes[i] = (u8)(bytes[i] * 3 + i);
			sum += bytes[i * 7 % BYTES];
		}
	return sum;
}

/* Strided stores and a branch that is hard to foresee. */
u64 kernel_sieve(u64 rounds)
{
	u64 primes = 0;

	for (u64 round = 0; round < rounds; round++) {
		for (u32 i = 0; i < PRIMES; i++)
			bytes[i] = 1;
		for (u32 i = 2; i < PRIMES; i++) {
			if (!bytes[i])
				continue;
			primes++;
			for (u32 multiple = 2 * i; multiple < PRIMES; multiple += i)
				bytes[multiple] = 0;
		}
	}
	return primes;
}

static void quicksort(int *low, int *high)
{
	while (low < high) {
		int pivot = low[(high - low) / 2];
		int *left = low, *right = high;

		while (left <= right) {
			while (*left < pivot)
				left++;
			while (*right > pivot)
				right--;
			if (left <= right) {
				int swapped = *left;
				*left++ = *right;
				*right-- = swapped;
			}
		}
		quicksort(low, right);
		low = left;
	}
}

/* Compares, swaps and recursion. */
u64 kernel_quicksort(u64 rounds)
{
	u64 sum = 0;

	for (u64 round = 0; round < rounds; round++) {
		u32 x = 12345 + round;

		for (int i = 0; i < VALUES; i++) {
			x = x * 1103515245 + 12345;
			values[i] = x >> 1;
		}
		quicksort(values, values + VALUES - 1);
		sum += values[777];
	}
	return sum;
}

/* Calls and returns. */
u64 kernel_fib(u64 n)
{
	return n < 2 ? n : kernel_fib(n - 1) + kernel_fib(n - 2);
}

/* A linked list in scattered order: each load waits for the one before. */
u64 kernel_chase(u64 rounds)
{
	static struct node {
		struct node *next;
		u64 value;
	} nodes[NODES];
	u64 sum = 0;

	for (u32 i = 0; i < NODES; i++)
		nodes[i] = (struct node){ &nodes[(i * 1237 + 17) % NODES], i };
	for (struct node *node = nodes; rounds > 0; rounds--, node = node->next) {
		sum += node->value;
		if (sum & 4)
			sum ^= rounds;
	}
	return sum;
}

/* A bytecode interpreter: indirect jumps through a table. */
u64 kernel_interpreter(u64 rounds)
{
	static const volatile u8 program[] = { 0, 1, 2, 3, 4, 2, 1, 5, 0, 3, 6, 1, 2, 7 };
	u64 a = 1, b = 2, c = 0;
	u32 at = 0;

	while (rounds-- > 0) {
		switch (program[at++]) {
		case 0: a += b; break;
		case 1: b ^= a; break;
		case 2: c += a; break;
		case 3: a = a << 3 | a >> 61; break;
		case 4: b += 7; break;
		case 5: c ^= b; break;
		case 6: a -= c; break;
		case 7: at = 0; b += 3; break;
		}
	}
	return a + b + c;
}

static u64 length(const volatile u8 *text)
{
	const volatile u8 *end = text;

	while (*end)
		end++;
	return end - text;
}

/* Short loops that end by data. */
u64 kernel_strings(u64 rounds)
{
	u64 sum = 0;

	for (int i = 0; i < 64; i++)
		bytes[i] = 'a';
	bytes[40] = 0;
	for (u64 round = 0; round < rounds; round++) {
		bytes[30 + round % 8] = (u8)('a' + round % 16);
		sum += length(bytes + round % 16);
	}
	return sum;
}
