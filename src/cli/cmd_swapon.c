// SPDX-License-Identifier: MIT
/*
 * weir swapon: one more swap device for all processes of a run that goes on; with --show, those that it has.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/print.h"
#include "cli/cli.h"
#include "cli/devices.h"
#include "cli/engine.h"
#include "cli/holder.h"
#include "cli/target.h"

enum { ON_MS = 10000, OFF_MS = 10000, SHOW_MS = 500 };

static bool show;

static const struct option_spec swapon_options[] = {
	{ .name = "show",
	  .kind = OPTION_FLAG,
	  .value = &show,
	  .help = "list the devices of the run that PID belongs to, and how much is there" },
	{ 0 },
};

static int fail(const char *text)
{
	return cli_error(CLI_FAILED, "swapon", "%s", text);
}

/* ---- --show ---- */

/* Of names: somebody else's memory. */
static const char *printable(char *text)
{
	for (char *c = text; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
	}
	return text;
}

static bool is_shown(const struct swaps_device *dev)
{
	return swaps_state(dev) == SWAPS_ON || swaps_state(dev) == SWAPS_LEAVING;
}

static void show_device(struct target *t, u32 at, int width)
{
	const struct swaps_device *dev = &t->swaps->device[at];
	struct target_figures f = target_figures(t, at);
	char name[SWAPS_TEXT], type[16], size[16], used[16];

	if (!is_shown(dev))
		return;
	snprintf(name, sizeof(name), "%.*s", SWAPS_TEXT - 1, dev->name);
	snprintf(type, sizeof(type), "%.*s", (int)strcspn(name, ":"), name);
	printf("%-3u %-*s %-6s %8s %8s %6d%s\n", at, width, printable(name), printable(type),
	       f.size ? print_size(size, sizeof(size), pages_to_bytes(f.size)) : "-",
	       print_size(used, sizeof(used), pages_to_bytes(f.used)), dev->prio,
	       swaps_state(dev) == SWAPS_LEAVING ? " leaving"
	       : dev->below			 ? " below the one before"
						 : "");
}

static int show_devices(struct target *t)
{
	struct target_progress p = target_request(t, SHOW_MS);
	int width = 4;

	if (p.stopped)
		fprintf(stderr, "weir: swapon: pid %u is stopped; its figures are old\n", p.a_stopped);
	for (u32 i = 0; i < target_nr_devices(t); i++) {
		const struct swaps_device *dev = &t->swaps->device[i];

		if (is_shown(dev))
			width = (int)max_u64((u64)width, strnlen(dev->name, SWAPS_TEXT - 1));
	}
	printf("%-3s %-*s %-6s %8s %8s %6s\n", "NR", width, "NAME", "TYPE", "SIZE", "USED", "PRIO");
	for (u32 i = 0; i < target_nr_devices(t); i++)
		show_device(t, i, width);
	return cli_finish(CLI_OK, "swapon");
}

/* ---- one more ---- */

/* Opened and claimed here, and in the hands of a process that stays. */
static int make_ready(struct target *t, struct prepared_device *dev, struct swaps_device *listed)
{
	char err[256];
	int ret;

	if (dev->driver->engine) {
		if (engine_start(&dev->config, t->pool_fd, &dev->keeper, dev->kept, err, sizeof(err)) < 0)
			return fail(err);
	} else if (dev->nr_fds) {
		ret = holder_start_for_device(t->swaps, listed, dev->fds, dev->nr_fds);
		if (ret)
			return fail(ret == -ESRCH ? "the run has ended" : strerror(-ret));
		device_kept_by(dev, atomic32_read(&listed->keeper));
	}
	return device_enlist(dev, listed) ? fail("the device's name is too long") : 0;
}

static void take_back(struct target *t, struct swaps_device *listed)
{
	if (swaps_state(listed) != SWAPS_NONE) {
		swaps_set_state(listed, SWAPS_LEAVING);
		(void)target_request(t, OFF_MS);
	}
	swaps_set_state(listed, SWAPS_OFF);
	(void)target_request(t, OFF_MS);
	target_release(listed);
}

static int judge(const struct target_progress *p, u32 at)
{
	if (p->ended)
		return fail("the run has ended");
	if (p->failed && p->culprit == at)
		return cli_error(CLI_FAILED, "swapon", "pid %u cannot open the device: %s%s", p->failed,
				 strerror(p->error), p->error == EMFILE ? "; it has no descriptor to spare" : "");
	if (p->stopped)
		fprintf(stderr, "weir: swapon: pid %u is stopped; it takes the device when it goes on\n", p->a_stopped);
	if (p->waiting > p->stopped)
		fprintf(stderr, "weir: swapon: %u processes have not answered yet; they take the device when they do\n",
			p->waiting - p->stopped);
	return CLI_OK;
}

/* Bounded in time from here on: whoever interrupts us finds all of it done, or nothing. */
static void block_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
}

static int swap_on(struct target *t, struct prepared_device *dev)
{
	struct swaps_device *listed = swaps_add(t->swaps);
	struct target_progress p;
	int status;

	if (!listed)
		return fail("the run has had 16 devices; there can be no more");
	/* A server may take its time. */
	if (!dev->driver->engine)
		block_signals();
	status = make_ready(t, dev, listed);
	block_signals();
	if (!status) {
		swaps_set_state(listed, SWAPS_ON);
		p = target_request(t, ON_MS);
		status = judge(&p, (u32)(listed - t->swaps->device));
	}
	if (status)
		take_back(t, listed);
	return status;
}

static int cmd_swapon(int argc, char **argv)
{
	struct prepared_device dev;
	struct target t;
	char err[256];
	int status;

	if (argc != (show ? 1 : 2))
		return cli_error(CLI_USAGE, "swapon", "say %s", show ? "--show PID" : "PID DEVICE, or --show PID");
	if (!show && device_parse(&dev, argv[1], err, sizeof(err)) < 0)
		return cli_error(CLI_USAGE, "swapon", "%s", err);
	status = target_open(&t, "swapon", argv[0]);
	if (status || show)
		return status ? status : show_devices(&t);
	if (dev.driver->engine && !t.pool)
		return fail("in a run with --per-process such a device cannot be added");
	status = target_command(&t);
	if (status)
		return status;
	status = device_prepare(&dev, !t.pool, err, sizeof(err)) < 0 ? fail(err) : swap_on(&t, &dev);
	device_close(&dev);
	target_command_end(&t);
	return status;
}

const struct verb verb_swapon = {
	.name = "swapon",
	.help = "Give the programs of a run one more swap device, or list those they have",
	.synopsis = "PID DEVICE | --show PID",
	.details = "PID is any process of the run. DEVICE is as in `weir run --swap`.\n",
	.options = swapon_options,
	.usage_status = CLI_USAGE,
	.takes_command = true,
	.function = cmd_swapon,
};
