/* Floating point: scalar doubles with division and square roots, and packed floats. Compiled with SSE, unlike the rest. */

#include "kernels.h"

typedef float packed __attribute__((vector_size(16)));

#define POINTS 1024

/* Newton steps and a sum of quotients: additions, multiplications, divisions, square roots, conversions. */
u64 float_scalar(u64 rounds)
{
	double x = 1.5, sum = 0;

	for (u64 i = 1; i <= rounds; i++) {
		double y = (double)(i & 1023) + 2;

		x = 0.5 * (x + y / x);
		sum += __builtin_sqrt(y) * x - sum / 3;
	}
	return (u64)(sum * 1e6);
}

/* A polynomial over an array, four at a time. */
u64 float_packed(u64 rounds)
{
	static packed points[POINTS / 4];
	packed total = { 0, 0, 0, 0 };

	for (int i = 0; i < POINTS / 4; i++)
		points[i] = (packed){ i, i + 1, i + 2, i + 3 } * 0.001f;
	for (u64 round = 0; round < rounds; round++)
		for (int i = 0; i < POINTS / 4; i++)
			total = total * 0.5f + ((points[i] * 1.25f - 0.5f) * points[i] + 0.25f);
	return (u64)((total[0] + total[1] + total[2] + total[3]) * 1e3f);
}
