// SPDX-License-Identifier: MIT
/*
 * weir run: starts a program with the shim in LD_PRELOAD and its orders in the environment.
 *
 * Without --stats the command replaces this process, so its status, signals and terminal are its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/devices.h"
#include "cli/engine.h"
#include "cli/holder.h"
#include "cli/machine.h"
#include "cli/summary.h"
#include "cli/supervise.h"
#include "mm/mm.h"
#include "preload/env.h"
#include "swap/swap_device.h"
#include "tree/pool.h"
#include "weir.h"

/* Freed memory goes back within a second, so that it does not take room under the limit. */
#define MALLOC_CONF_DEFAULT "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,thp:never,retain:true"

enum stats_mode { STATS_NONE, STATS_TEXT, STATS_JSON };

enum faults_mode { FAULTS_SIGNAL, FAULTS_THREAD };

static const char *const faults_names[] = { "signal", "thread", NULL };
static const char *const stats_names[] = { "none", "text", "json", NULL };

static struct {
	u64 memory, resident;
	struct option_list swap;
	const char *writeback;
	int faults; /* enum faults_mode */
	int stats; /* enum stats_mode */
	int allocator; /* enum allocator */
	bool per_process;
} options = { .stats = STATS_NONE, .allocator = ALLOCATOR_JEMALLOC };

static const struct option_spec run_options[] = {
	{ .name = "memory",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .min = WEIR_MEMORY_MIN,
	  .value = &options.memory,
	  .help = "limit of resident and compressed memory together" },
	{ .name = "resident",
	  .kind = OPTION_SIZE,
	  .argument = "SIZE",
	  .min = WEIR_MEMORY_MIN,
	  .value = &options.resident,
	  .help = "limit of uncompressed memory alone" },
	{ .name = "per-process",
	  .kind = OPTION_FLAG,
	  .value = &options.per_process,
	  .help = "each process has the limits for itself; default: all of them share" },
	{ .name = "swap",
	  .kind = OPTION_LIST,
	  .argument = "DEVICE",
	  .value = &options.swap,
	  .help = "where pages go: zram[:algo=lz4|zstd,level=N], file:PATH[,size=SIZE], nbd:URI, rados:POOL; "
		  "default zram. Again: where they go then" },
	{ .name = "writeback",
	  .kind = OPTION_STRING,
	  .argument = "WHEN",
	  .value = &options.writeback,
	  .help = "when pages go from zram to the next device: idle=TIME, watermark=PERCENT, "
		  "recompress=auto|on|off, joined by commas, or off; default watermark=75" },
	{ .name = "faults",
	  .kind = OPTION_CHOICE,
	  .choices = faults_names,
	  .value = &options.faults,
	  .help = "how pages are asked for; default signal" },
	{ .name = "stats",
	  .kind = OPTION_CHOICE,
	  .choices = stats_names,
	  .bare = "text",
	  .value = &options.stats,
	  .help = "print what happened on stderr at the end" },
	{ .name = "allocator",
	  .kind = OPTION_CHOICE,
	  .choices = allocator_names,
	  .value = &options.allocator,
	  .help = "malloc for the command; default jemalloc" },
	{ 0 },
};

enum { FD_POOL, FD_SWAPS, FDS_OWN };

/* What is opened before the program starts, and kept open by the holder. */
static struct {
	int fds[FDS_OWN + OPTION_LIST_MAX * SWAP_FDS_MAX]; /* of the pool and the list of devices, then the devices' */
	int nr;
	struct swaps *swaps;
	struct prepared_device device[OPTION_LIST_MAX]; /* options.swap */
} shared;

static int run_error(int status, const char *text)
{
	return cli_error(status, "run", "%s", text);
}

static int check_usage(int argc)
{
	struct swap_writeback writeback;
	char err[256] = "";

	if (!options.swap.nr)
		options.swap = (struct option_list){ { "zram" }, 1 };
	if (!options.memory && !options.resident)
		return run_error(CLI_RUN_FAILED, "no limit given; say for instance --memory 512M");
	for (int i = 0; i < options.swap.nr; i++) {
		if (device_parse(&shared.device[i], options.swap.item[i], err, sizeof(err)) < 0)
			return cli_error(CLI_RUN_FAILED, "run", "--swap: %s", err);
	}
	if (swap_writeback_parse(options.writeback, &writeback) < 0)
		return cli_error(CLI_RUN_FAILED, "run",
				 "--writeback %s: expected off, or idle=TIME,watermark=PERCENT,"
				 "recompress=auto|on|off, such as idle=60s,watermark=75",
				 options.writeback);
	if (argc < 1)
		return run_error(CLI_RUN_FAILED,
				 "no command given; it follows the options, as in weir run --memory 512M sort FILE");
	return 0;
}

static int check_machine(struct machine *machine)
{
	struct findings findings;

	machine_probe(machine);
	machine_judge(machine, (enum allocator)options.allocator, &findings);
	if (!findings_are_fatal(&findings)) {
		struct finding finding;

		if (options.faults == FAULTS_SIGNAL || machine_judge_threads(machine, &finding))
			return 0;
		return cli_error(CLI_RUN_FAILED, "run", "%s; %s", finding.what, finding.fix);
	}
	return cli_error(CLI_RUN_FAILED, "run", "%s; %s", findings.finding[0].what, findings.finding[0].fix);
}

/* 0 or -errno. A value of 0 removes the variable: an outer weir run may have left it. */
static int set_number(const char *name, u64 number)
{
	char text[24];

	if (!number)
		return unsetenv(name) < 0 ? -errno : 0;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
	return setenv(name, text, 1) < 0 ? -errno : 0;
}

/* name = first, separator, what the variable holds already. */
static int prepend_variable(const char *name, const char *first, char separator)
{
	const char *old = getenv(name);
	char *text;
	int rc;

	if (!old || !old[0])
		return setenv(name, first, 1) < 0 ? -errno : 0;
	if (asprintf(&text, "%s%c%s", first, separator, old) < 0)
		return -ENOMEM;
	rc = setenv(name, text, 1) < 0 ? -errno : 0;
	free(text);
	return rc;
}

static int set_allocator(const struct machine *machine)
{
	char preload[2 * PATH_MAX];
	int rc = 0;

	switch ((enum allocator)options.allocator) {
	case ALLOCATOR_JEMALLOC: /* later settings win: the user's own follow ours */
		rc = prepend_variable("MALLOC_CONF", MALLOC_CONF_DEFAULT, ',');
		break;
	case ALLOCATOR_MIMALLOC:
		if (setenv("MIMALLOC_PAGE_RESET", "1", 0) < 0 || setenv("MIMALLOC_RESET_DELAY", "0", 0) < 0)
			rc = -errno;
		break;
	case ALLOCATOR_NONE:
		return prepend_variable("LD_PRELOAD", machine->shim, ':');
	}
	if (rc < 0)
		return rc;
	snprintf(preload, sizeof(preload), "%s:%s", machine->shim, machine->allocator[options.allocator]);
	return prepend_variable("LD_PRELOAD", preload, ':');
}

/* ---- what the processes share ---- */

static void close_shared(void)
{
	for (int i = 0; i < shared.nr; i++) {
		if (shared.fds[i] >= 0)
			close(shared.fds[i]);
	}
	shared.nr = 0;
}

/* Opens what can fail because of the machine before the program starts. 0 or an exit status. */
static int open_devices(void)
{
	char err[256];

	shared.nr = FDS_OWN;
	shared.fds[FD_POOL] = shared.fds[FD_SWAPS] = -1;
	for (int i = 0; i < options.swap.nr; i++) {
		struct prepared_device *dev = &shared.device[i];

		if (device_prepare(dev, options.per_process, err, sizeof(err)) < 0)
			return cli_error(CLI_RUN_FAILED, "run", "--swap: %s", err);
		memcpy(shared.fds + shared.nr, dev->fds, (size_t)dev->nr_fds * sizeof(*dev->fds));
		shared.nr += dev->nr_fds;
	}
	return 0;
}

/* The second device is below the first. */
static bool is_tiered(void)
{
	struct swap_writeback writeback;

	return options.swap.nr > 1 && !strcmp(shared.device[0].driver->name, "zram") &&
	       swap_writeback_parse(options.writeback, &writeback) == 0 && !writeback.off;
}

/* In the list, and in the environment for programs that cannot reach it. */
static int name_devices(void)
{
	char text[OPTION_LIST_MAX * DEVICE_SPEC_SIZE];
	size_t len = 0;
	int rc = 0;

	for (int i = 0; rc == 0 && i < options.swap.nr; i++) {
		struct swaps_device *listed = swaps_add(shared.swaps);

		if (i)
			text[len++] = '\n';
		rc = device_spec(&shared.device[i], text + len);
		len += strlen(text + len);
		if (rc == 0)
			rc = device_enlist(&shared.device[i], listed);
		listed->below = i == 1 && is_tiered();
		swaps_set_state(listed, SWAPS_ON);
	}
	return rc == 0 && setenv(WEIR_ENV_SWAP, text, 1) < 0 ? -errno : rc;
}

static int name_fd(const char *name, u32 holder, int fd)
{
	char text[48];

	if (fd < 0)
		return unsetenv(name) < 0 ? -errno : 0;
	snprintf(text, sizeof(text), "/proc/%u/fd/%d", holder, fd);
	return setenv(name, text, 1) < 0 ? -errno : 0;
}

/* One limit for all processes: NULL with --per-process. */
static int open_pool(struct pool **pool)
{
	struct mm_config cfg = {
		.memory_pages = options.memory >> PAGE_SHIFT,
		.resident_pages = options.resident >> PAGE_SHIFT,
		.nr_cpus = os_nr_cpus(),
	};
	u64 limit = cfg.memory_pages ? cfg.memory_pages : cfg.resident_pages;

	*pool = NULL;
	if (options.per_process)
		return 0;
	return pool_create((u32)min_u64(limit, POOL_PAGES_MAX), mm_share_min(&cfg), cfg.nr_cpus, pool,
			   &shared.fds[FD_POOL]);
}

/* What the processes share, and somebody who keeps it open. */
static int open_shared(struct pool **pool)
{
	int rc = open_pool(pool);
	u32 holder;

	if (rc == 0)
		rc = swaps_create(&shared.swaps, &shared.fds[FD_SWAPS]);
	if (rc == 0)
		rc = holder_start(*pool, shared.swaps, shared.fds, shared.nr);
	if (rc < 0)
		return rc;
	holder = atomic32_read(&shared.swaps->holder);
	for (int i = 0; i < options.swap.nr; i++)
		device_kept_by(&shared.device[i], holder);
	rc = name_fd(WEIR_ENV_TREE, holder, shared.fds[FD_POOL]);
	return rc < 0 ? rc : name_fd(WEIR_ENV_SWAPS, holder, shared.fds[FD_SWAPS]);
}

/* They end after the processes of the pool, if there is one. 0 or an exit status. */
static int start_engines(void)
{
	char err[256];

	for (int i = 0; i < options.swap.nr; i++) {
		struct prepared_device *dev = &shared.device[i];

		if (dev->driver->engine &&
		    engine_start(&dev->config, shared.fds[FD_POOL], &dev->keeper, dev->kept, err, sizeof(err)) < 0)
			return cli_error(CLI_RUN_FAILED, "run", "--swap %s: %s", options.swap.item[i], err);
	}
	return 0;
}

static int set_environment(const struct machine *machine)
{
	int rc = set_number(WEIR_ENV_MEMORY, options.memory);

	if (rc == 0)
		rc = set_number(WEIR_ENV_RESIDENT, options.resident);
	/* Set in both cases: an outer weir run may have left another. */
	if (rc == 0 && setenv(WEIR_ENV_FAULTS, faults_names[options.faults], 1) < 0)
		rc = -errno;
	if (rc == 0 &&
	    (options.writeback ? setenv(WEIR_ENV_WRITEBACK, options.writeback, 1) : unsetenv(WEIR_ENV_WRITEBACK)) < 0)
		rc = -errno;
	if (rc == 0 && unsetenv(WEIR_ENV_STATS) < 0)
		rc = -errno;
	return rc < 0 ? rc : set_allocator(machine);
}

static int exec_error(const char *path, int error)
{
	return cli_error(error == ENOENT ? CLI_RUN_NOT_FOUND : CLI_RUN_CANNOT, "run", "%s cannot be executed: %s", path,
			 strerror(error));
}

struct stats_block {
	struct run_counters *counters;
	int fd;
};

static int stats_block_open(struct stats_block *block)
{
	void *map;

	block->fd = memfd_create("weir-stats", 0);
	if (block->fd < 0)
		return -errno;
	if (ftruncate(block->fd, sizeof(struct run_counters)) < 0)
		return -errno;
	map = mmap(NULL, sizeof(struct run_counters), PROT_READ | PROT_WRITE, MAP_SHARED, block->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	block->counters = map;
	return 0;
}

/* In the child: only now is the pid known. */
static int name_stats_block(void *ctx)
{
	const struct stats_block *block = ctx;
	char text[48];

	snprintf(text, sizeof(text), "%d:%d", block->fd, (int)getpid());
	return setenv(WEIR_ENV_STATS, text, 1) < 0 ? -errno : 0;
}

static void tell_totals(struct run_outcome *outcome, const struct pool *pool)
{
	outcome->shared = pool != NULL;
	if (!pool)
		return;
	outcome->processes = atomic64_read(&pool->nr_joined);
	outcome->processes_peak = atomic64_read(&pool->members_peak);
	outcome->processes_refused = atomic64_read(&pool->nr_refused);
	outcome->granted_peak = pages_to_bytes(atomic64_read(&pool->granted_peak));
}

static int run_with_stats(const char *path, char **argv, const struct pool *pool)
{
	struct stats_block block = { .fd = -1 };
	struct supervised supervised;
	struct run_outcome outcome;
	int rc = stats_block_open(&block);

	if (rc == 0)
		rc = supervise_run(path, argv, name_stats_block, &block, &supervised);
	if (rc < 0)
		return cli_error(CLI_RUN_FAILED, "run", "cannot start the command: %s", strerror(-rc));
	if (supervised.exec_error)
		return exec_error(path, supervised.exec_error);
	outcome = (struct run_outcome){
		.command = argv[0],
		.status = supervised.status,
		.wall_ns = supervised.wall_ns,
		.usage = supervised.usage,
	};
	mm_stats_sum(&block.counters->stats, &outcome.stats);
	outcome.times = &block.counters->times;
	outcome.lower = &block.counters->lower;
	outcome.reported = outcome.stats.limit_memory || outcome.stats.limit_resident;
	outcome.stats.limit_memory = options.memory;
	outcome.stats.limit_resident = options.resident;
	tell_totals(&outcome, pool);
	summary_print(&outcome, options.stats == STATS_JSON, stderr);
	supervise_end(supervised.status);
}

static int cmd_run(int argc, char **argv)
{
	static struct machine machine;
	struct command_error err;
	struct pool *pool;
	char path[PATH_MAX];
	int status = check_usage(argc), rc;

	if (status)
		return status;
	status = command_find(argv[0], path, &err);
	if (!status)
		status = command_examine(path, &err);
	if (status)
		return run_error(status, err.text);
	status = check_machine(&machine);
	if (status)
		return status;
	status = open_devices();
	if (status)
		return status;
	rc = set_environment(&machine);
	if (rc < 0)
		return cli_error(CLI_RUN_FAILED, "run", "cannot set the environment: %s", strerror(-rc));
	rc = open_shared(&pool);
	if (rc == -EINVAL)
		return run_error(CLI_RUN_FAILED, "the limits are too far apart to be shared; say --per-process");
	if (rc < 0)
		return cli_error(CLI_RUN_FAILED, "run", "cannot make the shared limit: %s", strerror(-rc));
	status = start_engines();
	if (status)
		return status;
	rc = name_devices();
	if (rc < 0)
		return cli_error(CLI_RUN_FAILED, "run", "cannot name the devices: %s", strerror(-rc));
	close_shared();
	if (options.stats != STATS_NONE)
		return run_with_stats(path, argv, pool);
	execvp(path, argv);
	return exec_error(path, errno);
}

const struct verb verb_run = {
	.name = "run",
	.help = "Run a program with its memory capped; what is over the cap is compressed",
	.synopsis = "--memory SIZE [--resident SIZE] [OPTIONS] [--] COMMAND [ARGUMENT...]",
	.details = "At least one of --memory and --resident is needed. Sizes are numbers with K, M, G or T.\n"
		   "Exit status: that of COMMAND; 125 if weir itself fails, 126 if COMMAND cannot be run or managed,\n"
		   "127 if it is not found.\n",
	.options = run_options,
	.usage_status = CLI_RUN_FAILED,
	.takes_command = true,
	.function = cmd_run,
};
