// SPDX-License-Identifier: MIT
/* The values of the options `delay` and `error`: lists joined by '+', as a comma ends the option. */
#include <errno.h>
#include <string.h>

#include "base/parse.h"
#include "swap/filter.h"

enum { WORD_SIZE = 40 };

/* Cuts a word off *text, up to `end`, which is passed, or the end of the text. False for one that means nothing. */
static bool next_word(const char **text, char end, char word[WORD_SIZE])
{
	size_t len = (size_t)(strchrnul(*text, end) - *text);

	if (len == 0 || len >= WORD_SIZE)
		return false;
	memcpy(word, *text, len);
	word[len] = '\0';
	*text += len;
	/* A sign at the end is followed by an empty word, which is wrong: it stays to be found. */
	if (**text && (*text)[1])
		(*text)++;
	return true;
}

static const char *skip_prefix(const char *text, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

/* ---- delay ---- */

static int parse_delay_ns(const char *text, u64 *ns)
{
	const u64 max = 60000000000ull;

	return parse_duration(text, ns) || *ns > max ? -EINVAL : 0;
}

int swap_delay_parse(const char *text, struct swap_delay *delay)
{
	struct swap_delay d = { 0 };
	char word[WORD_SIZE];
	const char *time;
	int ret = *text ? 0 : -EINVAL;

	while (!ret && *text) {
		if (!next_word(&text, '+', word))
			return -EINVAL;
		if (strcmp(word, "async") == 0) {
			d.async = true;
		} else if ((time = skip_prefix(word, "read:"))) {
			ret = parse_delay_ns(time, &d.read_ns);
		} else if ((time = skip_prefix(word, "write:"))) {
			ret = parse_delay_ns(time, &d.write_ns);
		} else {
			ret = parse_delay_ns(word, &d.read_ns);
			d.write_ns = d.read_ns;
		}
	}
	if (!ret)
		*delay = d;
	return ret;
}

/* ---- error ---- */

/* "N" or "N-M". */
static int parse_slots(char *text, struct swap_error_rule *rule)
{
	char *dash = strchr(text, '-');
	s64 first, last;

	if (dash)
		*dash++ = '\0';
	if (parse_int(text, 0, UINT32_MAX, &first) || parse_int(dash ? dash : text, first, UINT32_MAX, &last))
		return -EINVAL;
	rule->first_slot = (u32)first;
	rule->last_slot = (u32)last;
	return 0;
}

/* "N/M". */
static int parse_rate(char *text, struct swap_error_rule *rule)
{
	char *slash = strchr(text, '/');
	s64 part, of;

	if (!slash)
		return -EINVAL;
	*slash++ = '\0';
	if (parse_int(slash, 1, INT64_MAX, &of) || parse_int(text, 0, of, &part))
		return -EINVAL;
	rule->rate_part = (u64)part;
	rule->rate_of = (u64)of;
	return 0;
}

static int parse_count(char *text, u64 *count)
{
	s64 value;

	if (parse_int(text, 0, INT64_MAX, &value))
		return -EINVAL;
	*count = (u64)value;
	return 0;
}

static bool rule_word_is_kind(const char *word, struct swap_error_rule *rule)
{
	static const char *const kinds[] = { "eio", "enospc", "corrupt" };

	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strcmp(word, kinds[i]) == 0) {
			rule->kind = (enum swap_error_kind)i;
			return true;
		}
	}
	return false;
}

static int parse_rule_word(char *word, struct swap_error_rule *rule)
{
	char *value = strchr(word, '=');

	if (!value) {
		if (strcmp(word, "read") == 0)
			rule->reads = true;
		else if (strcmp(word, "write") == 0)
			rule->writes = true;
		else if (!rule_word_is_kind(word, rule))
			return -EINVAL;
		return 0;
	}
	*value++ = '\0';
	if (strcmp(word, "slot") == 0)
		return parse_slots(value, rule);
	if (strcmp(word, "rate") == 0)
		return parse_rate(value, rule);
	if (strcmp(word, "after") == 0)
		return parse_count(value, &rule->after);
	if (strcmp(word, "count") == 0)
		return parse_count(value, &rule->count);
	return strcmp(word, "seed") == 0 ? parse_count(value, &rule->seed) : -EINVAL;
}

static int parse_rule(const char *text, struct swap_error_rule *rule)
{
	char word[WORD_SIZE];
	int ret = 0;

	*rule = (struct swap_error_rule){
		.last_slot = UINT32_MAX,
		.count = UINT64_MAX,
		.rate_part = 1,
		.rate_of = 1,
	};
	while (!ret && *text)
		ret = next_word(&text, ':', word) ? parse_rule_word(word, rule) : -EINVAL;
	/* A read needs no space. */
	if (rule->kind == SWAP_ERROR_ENOSPC && rule->reads)
		return -EINVAL;
	if (!rule->reads && !rule->writes) {
		rule->reads = rule->kind != SWAP_ERROR_ENOSPC;
		rule->writes = true;
	}
	return ret;
}

int swap_errors_parse(const char *text, struct swap_errors *errors)
{
	struct swap_errors e = { .nr = 0 };
	int ret = *text ? 0 : -EINVAL;

	while (!ret && *text) {
		char rule[SWAP_TEXT_SIZE];
		size_t len = (size_t)(strchrnul(text, '+') - text);

		if (!len || len >= sizeof(rule) || e.nr == SWAP_ERROR_RULES_MAX)
			return -EINVAL;
		memcpy(rule, text, len);
		rule[len] = '\0';
		text += len;
		if (*text && !*++text)
			return -EINVAL;
		ret = parse_rule(rule, &e.rules[e.nr++]);
	}
	if (!ret)
		*errors = e;
	return ret;
}
