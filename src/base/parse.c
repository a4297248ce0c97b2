// SPDX-License-Identifier: MIT
#include "base/parse.h"

#include <errno.h>
#include <string.h>

struct unit {
	const char *name;
	u64 factor;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Decimal digits at *text, at least one; moves *text behind them. */
static int parse_digits(const char **text, u64 *value)
{
	u64 v = 0;

	if (!is_digit(**text))
		return -EINVAL;
	for (; is_digit(**text); (*text)++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (u64)(**text - '0'), &v))
			return -ERANGE;
	}
	*value = v;
	return 0;
}

/* "12" or "12.5": whole part, and the fraction in billionths (later digits count for nothing). */
static int parse_decimal(const char **text, u64 *whole, u64 *billionths)
{
	int ret = parse_digits(text, whole);
	u64 place = 100000000;

	*billionths = 0;
	if (ret || **text != '.')
		return ret;
	(*text)++;
	if (!is_digit(**text))
		return -EINVAL;
	for (; is_digit(**text); (*text)++) {
		*billionths += (u64)(**text - '0') * place;
		place /= 10;
	}
	return 0;
}

static int scale(u64 whole, u64 billionths, u64 factor, u64 *out)
{
	unsigned __int128 part = (unsigned __int128)billionths * factor / 1000000000;
	unsigned __int128 value = (unsigned __int128)whole * factor + part;

	if (value > UINT64_MAX)
		return -ERANGE;
	*out = (u64)value;
	return 0;
}

/* 0 for a unit that there is none of. */
static u64 size_factor(const char *unit)
{
	static const char letters[] = "kmgtp";
	const char *letter;

	if (!*unit)
		return 1;
	if (to_lower(unit[0]) == 'b' && !unit[1])
		return 1;
	letter = strchr(letters, to_lower(unit[0]));
	if (!letter)
		return 0;
	unit++;
	if (to_lower(unit[0]) == 'i' && to_lower(unit[1]) == 'b')
		unit++;
	if (to_lower(unit[0]) == 'b')
		unit++;
	return *unit ? 0 : (u64)1 << (10 * (letter - letters + 1));
}

int parse_size(const char *text, u64 *bytes)
{
	u64 whole, billionths, factor;
	int ret = parse_decimal(&text, &whole, &billionths);

	if (ret)
		return ret;
	factor = size_factor(text);
	/* There is no part of a byte. */
	if (!factor || (billionths && factor == 1))
		return -EINVAL;
	return scale(whole, billionths, factor, bytes);
}

int parse_duration(const char *text, u64 *ns)
{
	static const struct unit units[] = { { "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 } };
	u64 whole, billionths;
	int ret = parse_decimal(&text, &whole, &billionths);

	if (ret)
		return ret;
	if (!*text && !whole && !billionths) {
		*ns = 0;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(text, units[i].name) == 0)
			return scale(whole, billionths, units[i].factor, ns);
	}
	return -EINVAL;
}

int parse_int(const char *text, s64 min, s64 max, s64 *out)
{
	bool negative = *text == '-';
	u64 limit = negative ? (u64)1 << 63 : ((u64)1 << 63) - 1;
	u64 magnitude;
	s64 value;
	int ret;

	if (negative)
		text++;
	ret = parse_digits(&text, &magnitude);
	if (ret == -EINVAL || (!ret && *text))
		return -EINVAL;
	if (ret || magnitude > limit)
		return -ERANGE;
	value = negative ? (s64)-magnitude : (s64)magnitude;
	if (value < min || value > max)
		return -ERANGE;
	*out = value;
	return 0;
}
