// SPDX-License-Identifier: MIT
/*
 * weir swapoff: takes a swap device from all processes of a run that goes on. What lies there comes back into memory,
 * or goes to the other devices. When that is interrupted, or turns out not to fit, the device stays.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/print.h"
#include "cli/cli.h"
#include "cli/target.h"
#include "swap/swap_device.h"
#include "sync/wait.h"

enum {
	LOOK_MS = 500, /* for the figures */
	BACK_MS = 10000,
	STEP_MS = 20,
	STOPPED_MS = 2000, /* how long only stopped processes are waited for */
	RATIO_MAX = 4, /* what compressed memory may hold, at the best */
};

static const struct option_spec swapoff_options[] = { { 0 } };

static struct atomic32 interrupted; /* the signal; set by the handler */

static void on_signal(int sig)
{
	atomic32_set(&interrupted, (u32)sig);
}

static void catch_signals(void)
{
	const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	struct sigaction action = { .sa_handler = on_signal };

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

/* ---- does it fit? ---- */

struct room {
	u64 data; /* pages that there are, wherever they lie */
	u64 memory, others; /* room for them without the device */
};

static bool is_external(const struct swaps_device *dev)
{
	for (size_t i = 0; swap_drivers[i]; i++) {
		size_t len = strlen(swap_drivers[i]->name);

		if (!strncmp(dev->name, swap_drivers[i]->name, len) && (!dev->name[len] || dev->name[len] == ':'))
			return swap_drivers[i]->flags & SWAP_DRIVER_EXTERNAL;
	}
	return false;
}

/*
 * With the best that can be hoped for: what is refused here cannot fit, and what is not may still turn out not to. What
 * other devices keep in memory is at the cost of memory.
 */
static void add_others(struct target *t, u32 device, struct room *room)
{
	bool compressed = false;

	for (u32 i = 0; i < target_nr_devices(t); i++) {
		const struct swaps_device *dev = &t->swaps->device[i];
		struct target_figures f = target_figures(t, i);

		if (i == device || dev->below || swaps_state(dev) != SWAPS_ON)
			continue;
		if (is_external(dev) || !t->memory_limited)
			room->others += f.size ? f.size : UINT32_MAX;
		else
			compressed |= !strncmp(dev->name, "zram", 4);
	}
	if (compressed)
		room->others += room->memory * (RATIO_MAX - 1);
}

static int refuse(struct target *t, u32 device, const struct room *room)
{
	char data[16], memory[16], others[16];

	return cli_error(CLI_FAILED, "swapoff",
			 "without %.*s there is room for %s in memory and %s on other devices, and %s to be kept; "
			 "`weir swapon` another one first",
			 SWAPS_TEXT - 1, t->swaps->device[device].name,
			 print_size(memory, sizeof(memory), pages_to_bytes(room->memory)),
			 print_size(others, sizeof(others), pages_to_bytes(room->others)),
			 print_size(data, sizeof(data), pages_to_bytes(room->data)));
}

static int check_room(struct target *t, u32 device)
{
	struct room all = { .memory = t->pool ? t->pool->limit : 0 };

	for (u32 i = 0; i < SWAPS_ROWS_MAX && i < atomic32_read(&t->swaps->nr_used); i++) {
		struct swaps_row *row = &t->swaps->row[i];
		struct room one = { .memory = atomic64_read(&row->limit) };

		if (!atomic64_read(&row->id) || !swaps_row_lives(row))
			continue;
		one.data = atomic64_read(&row->resident) + atomic64_read(&row->swapped);
		all.data += one.data;
		add_others(t, device, &one);
		if (!t->pool && one.data > one.memory + one.others)
			return refuse(t, device, &one);
	}
	add_others(t, device, &all);
	return t->pool && all.data > all.memory + all.others ? refuse(t, device, &all) : 0;
}

/* ---- on the way ---- */

static void tell_progress(struct target *t, u32 device, u64 total, bool terminal)
{
	u64 left = target_figures(t, device).used;

	fprintf(stderr, "%sweir swapoff: %llu of %llu MiB left%s", terminal ? "\r" : "",
		(unsigned long long)pages_to_bytes(left) >> 20,
		(unsigned long long)pages_to_bytes(max_u64(total, left)) >> 20, terminal ? "   " : "\n");
}

/* The device and the one below it. */
static void set_state(struct target *t, u32 device, enum swaps_state state)
{
	struct swaps_device *dev = &t->swaps->device[device];

	swaps_set_state(dev, state);
	if (device + 1 < target_nr_devices(t) && dev[1].below)
		swaps_set_state(dev + 1, state);
}

static int put_back(struct target *t, u32 device)
{
	set_state(t, device, SWAPS_ON);
	(void)target_request(t, BACK_MS);
	return CLI_FAILED;
}

static int give_up(struct target *t, u32 device, const struct target_progress *p)
{
	const char *name = t->swaps->device[device].name;
	int max = SWAPS_TEXT - 1, sig = (int)atomic32_read(&interrupted);

	put_back(t, device);
	if (sig)
		return cli_error(128 + sig, "swapoff", "interrupted; %.*s stays in use", max, name);
	if (p->failed && p->error == EIO)
		return cli_error(CLI_FAILED, "swapoff", "pid %u cannot read a page back; %.*s stays in use", p->failed,
				 max, name);
	if (p->stopped)
		return cli_error(CLI_FAILED, "swapoff",
				 "pid %u is stopped and cannot let go of it; %.*s stays in use; kill -CONT %u first",
				 p->a_stopped, max, name, p->a_stopped);
	return cli_error(CLI_FAILED, "swapoff",
			 "what is left on it fits neither in memory nor on other devices; %.*s stays in use", max,
			 name);
}

/* True: all have done it; false: it is to be given up. */
static bool wait_for_all(struct target *t, u32 device, struct target_progress *p)
{
	u64 total = target_figures(t, device).used, told = sync_clock_ns(), moved = told;
	bool terminal = isatty(STDERR_FILENO), any = false;
	u32 seq = swaps_bump(t->swaps);

	for (;;) {
		u64 now = sync_clock_ns();

		*p = target_look(t, seq);
		if (p->waiting > p->stopped || !p->waiting)
			moved = now;
		if (now - told > (terminal ? 200000000ull : 1000000000ull)) {
			tell_progress(t, device, total, terminal);
			any = true;
			told = now;
		}
		if (p->ended || atomic32_read(&interrupted) || p->failed || !p->waiting ||
		    swaps_state(&t->swaps->device[device]) != SWAPS_LEAVING || now - moved > STOPPED_MS * 1000000ull)
			break;
		usleep(STEP_MS * 1000);
	}
	if (any && terminal)
		fputc('\n', stderr);
	return !p->waiting && !p->failed && swaps_state(&t->swaps->device[device]) == SWAPS_LEAVING;
}

static int swap_off(struct target *t, u32 device)
{
	struct target_progress p = target_request(t, LOOK_MS);
	int status = check_room(t, device);

	if (status)
		return status;
	catch_signals();
	set_state(t, device, SWAPS_LEAVING);
	if (!wait_for_all(t, device, &p) && !p.ended)
		return give_up(t, device, &p);
	set_state(t, device, SWAPS_OFF);
	(void)swaps_bump(t->swaps);
	target_release(&t->swaps->device[device]);
	if (device + 1 < target_nr_devices(t) && t->swaps->device[device + 1].below)
		target_release(&t->swaps->device[device + 1]);
	return CLI_OK;
}

static int cmd_swapoff(int argc, char **argv)
{
	struct target t;
	int status, device;

	if (argc != 2)
		return cli_error(CLI_USAGE, "swapoff", "say PID DEVICE; `weir swapon --show PID` lists the devices");
	status = target_open(&t, "swapoff", argv[0]);
	if (status)
		return status;
	status = target_command(&t);
	if (status)
		return status;
	device = target_find(&t, argv[1]);
	if (device < 0)
		status = cli_error(CLI_FAILED, "swapoff", "%s %s; `weir swapon --show %u` lists the devices",
				   device == -2 ? "there are several devices" : "there is no device", argv[1], t.pid);
	else if (t.swaps->device[device].below)
		status = cli_error(CLI_FAILED, "swapoff",
				   "%s is below zram and goes with that: swap off device %d, or add another first",
				   argv[1], device - 1);
	else
		status = swap_off(&t, (u32)device);
	target_command_end(&t);
	return status;
}

const struct verb verb_swapoff = {
	.name = "swapoff",
	.help = "Take a swap device from the programs of a run; what lies there comes back",
	.synopsis = "PID DEVICE",
	.details = "PID is any process of the run. DEVICE is a number or a name that `weir swapon --show PID` lists.\n"
		   "Interrupted, or where it does not fit, the device stays in use and nothing is lost.\n",
	.options = swapoff_options,
	.usage_status = CLI_USAGE,
	.takes_command = true,
	.function = cmd_swapoff,
};
