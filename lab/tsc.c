// SPDX-License-Identifier: MIT
/* Prints the frequency of this machine's time stamp counter in kHz: the guest sees that counter and cannot measure it.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int main(void)
{
	uint64_t start_ns = now_ns(), start = __rdtsc(), ns, ticks;

	do {
		ns = now_ns() - start_ns;
		ticks = __rdtsc() - start;
	} while (ns < 300000000);
	printf("%llu\n", (unsigned long long)((double)ticks * 1e6 / (double)ns));
	return 0;
}
