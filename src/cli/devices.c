// SPDX-License-Identifier: MIT
#include "cli/devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/engine.h"

enum { SHARE_WAIT_MS = 600, SHARE_STEP_MS = 20 };

int device_parse(struct prepared_device *dev, const char *text, char *err, size_t err_size)
{
	*dev = (struct prepared_device){ .text = text };
	/* The programs get the list by lines. */
	if (strchr(text, '\n')) {
		snprintf(err, err_size, "a line feed in a device's name");
		return -EINVAL;
	}
	if (swap_device_parse(text, &dev->config, err, err_size) < 0)
		return -EINVAL;
	dev->driver = swap_driver_of(&dev->config);
	return 0;
}

/* The number of descriptors, or -errno. */
static int share(const struct prepared_device *dev, struct swap_device_config *config, int *fds, char *err,
		 size_t err_size)
{
	int rc;

	for (int ms = 0;; ms += SHARE_STEP_MS) {
		rc = dev->driver->share(config, fds, err, err_size);
		if ((rc != -EAGAIN && rc != -EBUSY && rc != -ENOSPC) || ms >= SHARE_WAIT_MS)
			return rc;
		usleep(SHARE_STEP_MS * 1000);
	}
}

/* Can it be opened at all, and more than once? */
static int try_alone(const struct prepared_device *dev, char *err, size_t err_size)
{
	struct swap_device_config config = dev->config;
	int first[SWAP_FDS_MAX], second[SWAP_FDS_MAX], nr, again;
	char ignored[256];

	nr = share(dev, &config, first, err, err_size);
	if (nr < 0)
		return nr;
	config = dev->config;
	again = dev->driver->share(&config, second, ignored, sizeof(ignored));
	for (int i = 0; i < nr; i++)
		close(first[i]);
	for (int i = 0; i < again; i++)
		close(second[i]);
	if (again >= 0)
		return 0;
	snprintf(err, err_size,
		 "each process would need this device for itself; name a directory, or leave out --per-process");
	return again;
}

int device_prepare(struct prepared_device *dev, bool alone, char *err, size_t err_size)
{
	int rc;

	if (!dev->driver->share)
		return 0;
	if (alone)
		return try_alone(dev, err, err_size);
	rc = share(dev, &dev->config, dev->fds, err, err_size);
	dev->nr_fds = rc > 0 ? rc : 0;
	return rc < 0 ? rc : 0;
}

void device_close(struct prepared_device *dev)
{
	for (int i = 0; i < dev->nr_fds; i++)
		close(dev->fds[i]);
	dev->nr_fds = 0;
}

void device_kept_by(struct prepared_device *dev, u32 keeper)
{
	if (!dev->nr_fds)
		return;
	dev->keeper = keeper;
	memcpy(dev->kept, dev->fds, sizeof(dev->kept));
}

int device_spec(const struct prepared_device *dev, char *spec)
{
	size_t len = strlen(dev->text);

	if (!dev->keeper) {
		snprintf(spec, DEVICE_SPEC_SIZE, "%s", dev->text);
		return len < DEVICE_SPEC_SIZE ? 0 : -ENAMETOOLONG;
	}
	dev->driver->share_spec(&dev->config, dev->keeper, dev->kept, spec, DEVICE_SPEC_SIZE);
	len = strlen(spec);
	return swap_device_common_options(dev->text, spec + len, DEVICE_SPEC_SIZE - len) ? 0 : -ENAMETOOLONG;
}

int device_enlist(const struct prepared_device *dev, struct swaps_device *listed)
{
	const char *target = dev->config.target;

	if (dev->config.prio != SWAP_PRIO_DEFAULT)
		listed->prio = dev->config.prio;
	listed->size = dev->config.size < SWAP_SIZE_ALL ? dev->config.size : 0;
	snprintf(listed->name, sizeof(listed->name), "%.15s%s%.238s", dev->driver->name, target[0] ? ":" : "", target);
	for (int i = 0; i < (dev->driver->engine ? ENGINE_FDS : dev->nr_fds); i++)
		listed->kept[i] = dev->kept[i];
	atomic32_set(&listed->keeper, dev->keeper);
	return device_spec(dev, listed->spec);
}
