// SPDX-License-Identifier: MIT
/*
 * The table of drivers, and their specifications in text. Every option is a row of data, so that all drivers check
 * values, and complain, in the same way.
 */
#include "swap/swap_device.h"

#include <errno.h>
#include <string.h>

#include "base/parse.h"
#include "base/print.h"
#include "swap/brd.h"
#include "swap/file.h"
#include "swap/filter.h"
#include "swap/remote.h"
#include "swap/zcomp.h"
#include "swap/zram.h"

enum option_kind {
	OPTION_SIZE, /* u64, bytes */
	OPTION_DURATION, /* u64, nanoseconds */
	OPTION_INT, /* int */
	OPTION_ALGO, /* enum zcomp_algo */
	OPTION_BOOL, /* bool: on or off */
	OPTION_TEXT, /* char[SWAP_TEXT_SIZE] */
	OPTION_SWITCH, /* enum swap_switch: on or off */
	OPTION_ERRORS, /* struct swap_errors */
	OPTION_DELAY, /* struct swap_delay */
};

struct option {
	const char *name;
	enum option_kind kind;
	u64 min, max; /* of numbers */
	size_t offset; /* of the field in struct swap_device_config */
	const char *help;
};

#define NBD_TIMEOUT_NS 60000000000ull

#define OPTION_SIZE_ROW                                                                                                \
	{                                                                                                              \
		"size", OPTION_SIZE, PAGE_SIZE, SWAP_BYTES_MAX, offsetof(struct swap_device_config, size),             \
			"uncompressed bytes that the device holds"                                                     \
	}

static const struct option zram_options[] = {
	{ "algo", OPTION_ALGO, 0, 0, offsetof(struct swap_device_config, algo), "lz4, zstd or zstd:dict" },
	{ "level", OPTION_INT, 1, 19, offsetof(struct swap_device_config, level),
	  "zstd: higher compresses more; lz4: higher is faster" },
	OPTION_SIZE_ROW,
	{ .name = NULL },
};

static const struct option brd_options[] = {
	OPTION_SIZE_ROW,
	{ "read_delay", OPTION_DURATION, 0, 60000000000ull, offsetof(struct swap_device_config, read_delay_ns),
	  "sleep after each read" },
	{ .name = NULL },
};

#define FIELD(name) offsetof(struct swap_device_config, name)

static const struct option file_target = { "path", OPTION_TEXT,	  0,
					   0,	   FIELD(target), "a directory, a file or a block device" };
static const struct option file_options[] = {
	{ "size", OPTION_SIZE, PAGE_SIZE, SWAP_BYTES_MAX, FIELD(size), "bytes that the device holds" },
	{ "direct", OPTION_BOOL, 0, 0, FIELD(direct), "past the page cache, where the file system can" },
	{ "prealloc", OPTION_BOOL, 0, 0, FIELD(prealloc), "take all of the disk space at the start" },
	{ "poll", OPTION_BOOL, 0, 0, FIELD(poll), "wait for a few pages with processor time that nobody else wants" },
	{ "force", OPTION_BOOL, 0, 0, FIELD(force), "overwrite what is there" },
	{ "space", OPTION_TEXT, 0, 0, FIELD(space), "what weir run tells the programs of a run" },
	{ .name = NULL },
};

static const struct option nbd_target = { "URI", OPTION_TEXT,	0,
					  0,	 FIELD(target), "where the server is, such as nbd://host/export" };
static const struct option nbd_options[] = {
	{ "connections", OPTION_INT, 1, 16, FIELD(connections),
	  "how many at once; default 4 where the server allows it" },
	{ "timeout", OPTION_DURATION, 1000000000, 86400000000000ull, FIELD(timeout_ns),
	  "how long an answer may take until it counts as an error; default 60s" },
	{ "overwrite", OPTION_BOOL, 0, 0, FIELD(overwrite), "take an export that holds something" },
	OPTION_SIZE_ROW,
	{ "ring", OPTION_TEXT, 0, 0, FIELD(ring), "what weir run tells the programs of a run" },
	{ "space", OPTION_TEXT, 0, 0, FIELD(space), "what weir run tells the programs of a run" },
	{ .name = NULL },
};

static const struct option rados_target = { "POOL", OPTION_TEXT, 0, 0, FIELD(target), "the pool that takes the pages" };
static const struct option rados_options[] = {
	{ "conf", OPTION_TEXT, 0, 0, FIELD(conf), "a path of a ceph.conf" },
	{ "namespace", OPTION_TEXT, 0, 0, FIELD(name_space), "a namespace in the pool" },
	{ "user", OPTION_TEXT, 0, 0, FIELD(user), "a user of the cluster, such as admin" },
	OPTION_SIZE_ROW,
	{ "ring", OPTION_TEXT, 0, 0, FIELD(ring), "what weir run tells the programs of a run" },
	{ "space", OPTION_TEXT, 0, 0, FIELD(space), "what weir run tells the programs of a run" },
	{ .name = NULL },
};

/* Of every driver. */
static const struct option filter_options[] = {
	{ "prio", OPTION_INT, (u64)-32768, 32767, offsetof(struct swap_device_config, prio),
	  "devices of higher priority are used first, of equal priority in turn" },
	{ "stats", OPTION_BOOL, 0, 0, offsetof(struct swap_device_config, stats), "measure each call" },
	{ "checksum", OPTION_SWITCH, 0, 0, offsetof(struct swap_device_config, checksum),
	  "verify each page that comes back" },
	{ "crypt", OPTION_SWITCH, 0, 0, offsetof(struct swap_device_config, crypt),
	  "encrypt each page, and verify it when it comes back" },
	{ "error", OPTION_ERRORS, 0, 0, offsetof(struct swap_device_config, errors), "fail on purpose" },
	{ "delay", OPTION_DELAY, 0, 0, offsetof(struct swap_device_config, delay), "sleep in each call" },
	{ .name = NULL },
};

static const struct driver_syntax {
	const struct swap_driver *driver;
	const struct option *options;
	const struct option *target; /* what comes first, without its name; NULL: nothing */
} driver_syntax[] = {
	{ &zram_driver, zram_options, NULL },
	{ &brd_driver, brd_options, NULL },
	{ &file_driver, file_options, &file_target },
	{ &nbd_driver, nbd_options, &nbd_target },
	{ &rados_driver, rados_options, &rados_target },
};

const struct swap_driver *const swap_drivers[] = { &zram_driver, &brd_driver,	&file_driver,
						   &nbd_driver,	 &rados_driver, NULL };

enum { TOKEN_SIZE = SWAP_TEXT_SIZE, LIST_SIZE = 160, WRITEBACK_WATERMARK = 75 };

/* One "driver" or "option=value" of the specification, cut out so that it ends in NUL. */
struct token {
	char name[TOKEN_SIZE];
	char value[TOKEN_SIZE];
	bool has_value;
};

struct parser {
	struct swap_device_config *cfg;
	char *err;
	size_t err_size;
};

/* Makes "a, b, c". */
static void list_append(char *list, const char *name)
{
	size_t len = strlen(list);

	print_to(list + len, LIST_SIZE - len, "%s%s", len ? ", " : "", name);
}

static int unknown_driver(struct parser *p, const char *name)
{
	char known[LIST_SIZE] = "";

	for (size_t i = 0; swap_drivers[i]; i++)
		list_append(known, swap_drivers[i]->name);
	print_to(p->err, p->err_size, "unknown swap device \"%s\" (known: %s)", name, known);
	return -EINVAL;
}

static int unknown_option(struct parser *p, const struct option *options, const char *name)
{
	char known[LIST_SIZE] = "";

	for (; options->name; options++)
		list_append(known, options->name);
	for (options = filter_options; options->name; options++)
		list_append(known, options->name);
	print_to(p->err, p->err_size, "%s: unknown option \"%s\" (known: %s)", p->cfg->driver, name, known);
	return -EINVAL;
}

/* What a good value looks like. */
static void describe_expected(char *text, size_t size, const struct option *o)
{
	char min[16], max[16];

	switch (o->kind) {
	case OPTION_SIZE:
		print_to(text, size, "%s to %s, such as 512M", print_size(min, sizeof(min), o->min),
			 print_size(max, sizeof(max), o->max));
		break;
	case OPTION_DURATION:
		print_to(text, size, "a time up to %llus, such as 10us or 1ms",
			 (unsigned long long)o->max / 1000000000);
		break;
	case OPTION_INT:
		print_to(text, size, "%lld to %lld", (long long)o->min, (long long)o->max);
		break;
	case OPTION_ALGO:
		text[0] = '\0';
		for (size_t i = 0; zcomp_algos[i]; i++) {
			size_t len = strlen(text);

			print_to(text + len, size - len, "%s%s", i ? " or " : "", zcomp_algos[i]->name);
		}
		break;
	case OPTION_BOOL:
	case OPTION_SWITCH:
		print_to(text, size, "on or off");
		break;
	case OPTION_TEXT:
		print_to(text, size, "%s, of at most %d characters", o->help, SWAP_TEXT_SIZE - 2);
		break;
	case OPTION_ERRORS:
		print_to(text, size,
			 "up to %d rules joined by +, such as read:eio:rate=1/100 or "
			 "write:corrupt:slot=0-9:after=5:count=1",
			 SWAP_ERROR_RULES_MAX);
		break;
	case OPTION_DELAY:
		print_to(text, size, "a time up to 60s, or read:TIME+write:TIME, with +async for a slow device");
		break;
	}
}

static int bad_value(struct parser *p, const struct option *o, const struct token *t)
{
	char expected[LIST_SIZE];

	describe_expected(expected, sizeof(expected), o);
	print_to(p->err, p->err_size, "%s: %s=%s: expected %s", p->cfg->driver, t->name, t->value, expected);
	return -EINVAL;
}

/* 0 if the text is a good value for the option, which it then has. */
static int option_set(const struct option *o, const char *text, struct swap_device_config *cfg)
{
	void *field = (char *)cfg + o->offset;
	u64 value;
	s64 number;
	int ret;

	switch (o->kind) {
	case OPTION_SIZE:
	case OPTION_DURATION:
		ret = o->kind == OPTION_SIZE ? parse_size(text, &value) : parse_duration(text, &value);
		if (!ret && (value < o->min || value > o->max))
			ret = -ERANGE;
		if (!ret)
			*(u64 *)field = value;
		return ret;
	case OPTION_INT:
		ret = parse_int(text, (s64)o->min, (s64)o->max, &number);
		if (!ret)
			*(int *)field = (int)number;
		return ret;
	case OPTION_ALGO:
		for (size_t i = 0; zcomp_algos[i]; i++) {
			if (strcmp(text, zcomp_algos[i]->name) == 0) {
				*(enum zcomp_algo *)field = (enum zcomp_algo)i;
				return 0;
			}
		}
		return -EINVAL;
	case OPTION_BOOL:
		*(bool *)field = strcmp(text, "on") == 0;
		return strcmp(text, "on") && strcmp(text, "off") ? -EINVAL : 0;
	case OPTION_TEXT:
		if (!text[0] || strlen(text) >= SWAP_TEXT_SIZE - 1)
			return -EINVAL;
		strcpy(field, text);
		return 0;
	case OPTION_SWITCH:
		*(enum swap_switch *)field = strcmp(text, "on") == 0 ? SWITCH_ON : SWITCH_OFF;
		return strcmp(text, "on") && strcmp(text, "off") ? -EINVAL : 0;
	case OPTION_ERRORS:
		return swap_errors_parse(text, field);
	case OPTION_DELAY:
		return swap_delay_parse(text, field);
	}
	return -EINVAL;
}

/* What is too long to mean anything ends in dots: it is shown so and parses as nothing. */
static void token_copy(char *dst, const char *src, size_t len)
{
	if (len >= TOKEN_SIZE) {
		memcpy(dst, src, TOKEN_SIZE - 4);
		memcpy(dst + TOKEN_SIZE - 4, "...", 4);
		return;
	}
	memcpy(dst, src, len);
	dst[len] = '\0';
}

/* Cuts "name[=value]" off *text, up to `end` or the end; false at the end of the text. */
static bool token_next(const char **text, char end, struct token *t)
{
	const char *start = *text;
	size_t len, name_len;

	if (!start)
		return false;
	len = (size_t)(strchrnul(start, end) - start);
	name_len = (size_t)(strchrnul(start, '=') - start);
	t->has_value = name_len < len;
	if (!t->has_value)
		name_len = len;
	token_copy(t->name, start, name_len);
	token_copy(t->value, t->has_value ? start + name_len + 1 : "", t->has_value ? len - name_len - 1 : 0);
	*text = start[len] ? start + len + 1 : NULL;
	return true;
}

static const struct option *find_option(const struct option *options, const char *name)
{
	for (; options->name; options++) {
		if (strcmp(name, options->name) == 0)
			return options;
	}
	return NULL;
}

enum { SEEN_FILTERS_SHIFT = 16 };

/* In *seen, the driver's own options have the low bits. */
static int parse_option(struct parser *p, const struct option *options, const struct token *t, u32 *seen)
{
	const struct option *o = find_option(options, t->name);
	u32 bit;

	if (o) {
		bit = 1u << (o - options);
	} else {
		o = find_option(filter_options, t->name);
		if (!o)
			return unknown_option(p, options, t->name);
		bit = 1u << (SEEN_FILTERS_SHIFT + (o - filter_options));
	}
	if (!t->has_value) {
		print_to(p->err, p->err_size, "%s: option \"%s\" has no value (%s=...: %s)", p->cfg->driver, o->name,
			 o->name, o->help);
		return -EINVAL;
	}
	if (*seen & bit) {
		print_to(p->err, p->err_size, "%s: option \"%s\" is given twice", p->cfg->driver, o->name);
		return -EINVAL;
	}
	*seen |= bit;
	return option_set(o, t->value, p->cfg) ? bad_value(p, o, t) : 0;
}

static const struct driver_syntax *find_syntax(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(driver_syntax); i++) {
		if (strcmp(name, driver_syntax[i].driver->name) == 0)
			return &driver_syntax[i];
	}
	return NULL;
}

/* The target is all up to the first comma, whatever other signs are in it. */
static int parse_target(struct parser *p, const struct option *o, const char **text)
{
	const char *start = *text ? *text : "";
	size_t len = (size_t)(strchrnul(start, ',') - start);
	struct token t;

	strcpy(t.name, o->name);
	token_copy(t.value, start, len);
	*text = start[len] ? start + len + 1 : NULL;
	if (len == 0) {
		print_to(p->err, p->err_size, "%s: no %s given (%s:%s: %s)", p->cfg->driver, o->name, p->cfg->driver,
			 o->name, o->help);
		return -EINVAL;
	}
	return option_set(o, t.value, p->cfg) ? bad_value(p, o, &t) : 0;
}

int swap_device_parse(const char *spec, struct swap_device_config *cfg, char *err, size_t err_size)
{
	struct parser p = { .cfg = cfg, .err = err, .err_size = err_size };
	const struct driver_syntax *syntax = NULL;
	struct token t;
	u32 seen = 0;
	int ret = 0;

	*cfg = (struct swap_device_config){
		.algo = ZCOMP_LZ4, .direct = true, .poll = true, .timeout_ns = NBD_TIMEOUT_NS, .prio = SWAP_PRIO_DEFAULT
	};
	(void)token_next(&spec, ':', &t);
	if (!t.has_value)
		syntax = find_syntax(t.name);
	if (!syntax)
		return unknown_driver(&p, t.name);
	cfg->driver = syntax->driver->name;
	if (syntax->target)
		ret = parse_target(&p, syntax->target, &spec);
	while (!ret && token_next(&spec, ',', &t))
		ret = parse_option(&p, syntax->options, &t, &seen);
	if (ret)
		return ret;
	if (syntax->options == zram_options && !cfg->level)
		cfg->level = zcomp_algos[cfg->algo]->level_default;
	if (syntax->options == file_options && !cfg->size)
		cfg->size = SWAP_SIZE_ALL;
	return 0;
}

bool swap_device_common_options(const char *spec, char *options, size_t size)
{
	size_t len = 0;
	struct token t;

	options[0] = '\0';
	(void)token_next(&spec, ':', &t);
	while (token_next(&spec, ',', &t)) {
		if (!t.has_value || !find_option(filter_options, t.name))
			continue;
		print_to(options + len, size - len, ",%s=%s", t.name, t.value);
		len += strlen(options + len);
	}
	return len + 1 < size;
}

const struct swap_driver *swap_driver_of(const struct swap_device_config *cfg)
{
	const struct driver_syntax *syntax = find_syntax(cfg->driver);

	return syntax ? syntax->driver : NULL;
}

/* A part of the list; `t` has its name and value. */
static int writeback_set(const struct token *t, struct swap_writeback *w)
{
	s64 percent;

	if (!t->has_value)
		return -EINVAL;
	if (strcmp(t->name, "idle") == 0)
		return parse_duration(t->value, &w->idle_ns) || !w->idle_ns ? -EINVAL : 0;
	if (strcmp(t->name, "recompress") == 0) {
		w->recompress = strcmp(t->value, "on") == 0    ? SWITCH_ON
				: strcmp(t->value, "off") == 0 ? SWITCH_OFF
							       : SWITCH_DEFAULT;
		return w->recompress == SWITCH_DEFAULT && strcmp(t->value, "auto") != 0 ? -EINVAL : 0;
	}
	if (strcmp(t->name, "watermark") != 0 || parse_int(t->value, 1, 99, &percent))
		return -EINVAL;
	w->watermark = (u32)percent;
	return 0;
}

int swap_writeback_parse(const char *text, struct swap_writeback *writeback)
{
	struct token t;

	*writeback = (struct swap_writeback){ .watermark = WRITEBACK_WATERMARK, .idle_ns = UINT64_MAX };
	writeback->off = text && strcmp(text, "off") == 0;
	if (writeback->off || !text)
		return 0;
	while (token_next(&text, ',', &t)) {
		if (writeback_set(&t, writeback))
			return -EINVAL;
	}
	return 0;
}

int swap_device_open(const struct swap_device_config *cfg, struct swap_device **out)
{
	const struct swap_driver *driver = swap_driver_of(cfg);
	struct swap_device *dev;
	int ret;

	if (!driver || cfg->size < PAGE_SIZE || (cfg->size > SWAP_BYTES_MAX && cfg->size != SWAP_SIZE_ALL))
		return -EINVAL;
	ret = driver->open(cfg, &dev);
	if (!ret)
		ret = filters_open(cfg, driver->flags & SWAP_DRIVER_EXTERNAL, &dev);
	if (ret)
		return ret;
	dev->prio = cfg->prio;
	*out = dev;
	return 0;
}
