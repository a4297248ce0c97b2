// SPDX-License-Identifier: MIT
#include "cli/options.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/parse.h"
#include "base/print.h"

static int printf_like(2, 3) option_error(struct options_parsed *parsed, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(parsed->error, sizeof(parsed->error), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* "jemalloc|mimalloc|none" */
static const char *choices_to_text(const char *const *choices, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; choices[i] && len < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? "|" : "", choices[i]);
	return buf;
}

static int set_size(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	char min[24];
	u64 bytes;
	int rc = parse_size(text, &bytes);

	if (rc == -ERANGE)
		return option_error(parsed, "--%s: %s is out of range; give a size such as 512M or 1.5G", option->name,
				    text);
	if (rc < 0)
		return option_error(parsed,
				    "--%s: '%s' is not a size; give a number with K, M, G or T, such as 512M or 1.5G",
				    option->name, text);
	if (bytes < option->min)
		return option_error(parsed, "--%s: %s is too small; the smallest size is %s", option->name, text,
				    print_size(min, sizeof(min), option->min));
	*(u64 *)option->value = bytes;
	return 0;
}

static int set_count(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	u64 max = option->max ? option->max : INT64_MAX;
	s64 count;

	if (parse_int(text, (s64)option->min, (s64)max, &count) < 0)
		return option_error(parsed, "--%s: '%s' is not a number from %llu to %llu", option->name, text,
				    (unsigned long long)option->min, (unsigned long long)max);
	*(u64 *)option->value = (u64)count;
	return 0;
}

static int set_duration(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	s64 seconds;
	u64 ns;

	if (parse_int(text, 0, INT32_MAX, &seconds) == 0)
		ns = (u64)seconds * 1000000000;
	else if (parse_duration(text, &ns) < 0)
		return option_error(parsed, "--%s: '%s' is not a time; give seconds, or a unit such as 500ms",
				    option->name, text);
	*(u64 *)option->value = ns;
	return 0;
}

static int set_choice(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	char known[128];

	for (int i = 0; option->choices[i]; i++) {
		if (!strcmp(option->choices[i], text)) {
			*(int *)option->value = i;
			return 0;
		}
	}
	return option_error(parsed, "--%s: unknown value '%s'; give one of %s", option->name, text,
			    choices_to_text(option->choices, known, sizeof(known)));
}

static int set_item(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	struct option_list *list = option->value;

	if (list->nr == OPTION_LIST_MAX)
		return option_error(parsed, "--%s is given more than %d times", option->name, OPTION_LIST_MAX);
	list->item[list->nr++] = text;
	return 0;
}

static int set_value(const struct option_spec *option, const char *text, struct options_parsed *parsed)
{
	switch (option->kind) {
	case OPTION_FLAG:
		*(bool *)option->value = true;
		return 0;
	case OPTION_SIZE:
		return set_size(option, text, parsed);
	case OPTION_COUNT:
		return set_count(option, text, parsed);
	case OPTION_DURATION:
		return set_duration(option, text, parsed);
	case OPTION_STRING:
		*(const char **)option->value = text;
		return 0;
	case OPTION_LIST:
		return set_item(option, text, parsed);
	case OPTION_CHOICE:
		return set_choice(option, text, parsed);
	}
	return -EINVAL;
}

static const struct option_spec *option_find(const struct option_spec *options, const char *name, size_t len)
{
	for (; options->name; options++) {
		if (strlen(options->name) == len && !memcmp(options->name, name, len))
			return options;
	}
	return NULL;
}

/* One word that begins with '-', and the word after it where the option takes a value. */
static int parse_one(const struct option_spec *options, int argc, char **argv, struct options_parsed *parsed)
{
	const char *word = argv[parsed->first];
	const char *name = word[1] == '-' ? word + 2 : "";
	const char *equals = strchr(name, '=');
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option_spec *option = option_find(options, name, len);
	const char *value = equals ? equals + 1 : NULL;

	if (!option)
		return option_error(parsed, "unknown option '%s'; `weir %s --help` lists the options", word, argv[0]);
	parsed->first++;
	if (option->kind == OPTION_FLAG && value)
		return option_error(parsed, "--%s takes no value", option->name);
	if (option->kind != OPTION_FLAG && !value)
		value = option->bare;
	if (option->kind != OPTION_FLAG && !value) {
		if (parsed->first >= argc)
			return option_error(parsed, "--%s needs a value; `weir %s --help` shows it", option->name,
					    argv[0]);
		value = argv[parsed->first++];
	}
	return set_value(option, value, parsed);
}

int options_parse(const struct option_spec *options, int argc, char **argv, struct options_parsed *parsed)
{
	*parsed = (struct options_parsed){ .first = 1 };
	while (parsed->first < argc && argv[parsed->first][0] == '-') {
		const char *word = argv[parsed->first];
		int rc;

		if (!strcmp(word, "--")) {
			parsed->first++;
			break;
		}
		if (!strcmp(word, "--help") || !strcmp(word, "-h")) {
			parsed->help = true;
			break;
		}
		rc = parse_one(options, argc, argv, parsed);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void options_print(const struct option_spec *options, FILE *out)
{
	char left[96], choices[64], min[24];

	for (; options->name; options++) {
		const char *argument = options->kind == OPTION_CHOICE
					       ? choices_to_text(options->choices, choices, sizeof(choices))
					       : options->argument;

		if (options->kind == OPTION_FLAG)
			snprintf(left, sizeof(left), "--%s", options->name);
		else if (options->bare)
			snprintf(left, sizeof(left), "--%s[=%s]", options->name, argument);
		else
			snprintf(left, sizeof(left), "--%s %s", options->name, argument);
		fprintf(out, "  %-36s %s", left, options->help);
		if (options->kind == OPTION_SIZE && options->min)
			fprintf(out, " (at least %s)", print_size(min, sizeof(min), options->min));
		fputc('\n', out);
	}
	fprintf(out, "  %-36s %s\n", "--help", "show this text");
}
