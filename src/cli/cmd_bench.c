// SPDX-License-Identifier: MIT
#include <string.h>

#include "cli/bench.h"

static const struct verb *const benches[] = { &bench_swapin, &bench_losers,  &bench_workload,
					      &bench_phases, &bench_hitrate, &bench_device,
					      &bench_scale };

static int bench_main(int argc, char **argv)
{
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		return cli_print_verb_help(&verb_bench);
	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(benches); i++) {
		if (!strcmp(argv[1], benches[i]->name + strlen("bench "))) {
			argv[1] = (char *)benches[i]->name;
			return cli_run_verb(benches[i], argc - 1, argv + 1);
		}
	}
	return cli_error(CLI_USAGE, "bench",
			 "say which: weir bench swapin, losers, workload, phases, hitrate, device or scale, with "
			 "--help for its options");
}

const struct verb verb_bench = {
	.name = "bench",
	.help = "measure swap-in, weir against the kernel's zram, and the choice of the pages that leave",
	.synopsis = "swapin|losers|workload|phases|hitrate|device|scale [OPTIONS]",
	.details = "swapin    everything is swapped in again, by each of the designs\n"
		   "losers    what it costs to lose a race for a page, by the ways to relax\n"
		   "workload  a working set larger than memory, in nine ways, under weir and under the kernel\n"
		   "phases    that workload alone, in whatever memory there is\n"
		   "hitrate   the pages that weir keeps, against exact LRU and FIFO on the same trace\n"
		   "device    a swap device by itself and with its filters, against fio\n"
		   "scale     throughput of swap-in by 1 to all processors' threads\n"
		   "`weir bench NAME --help` lists the options.\n",
	.usage_status = CLI_USAGE,
	.parses_itself = true,
	.function = bench_main,
};
