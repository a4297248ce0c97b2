// SPDX-License-Identifier: MIT
#include "base/parse.h"

#include <errno.h>

#include "test.h"

struct row {
	const char *text;
	int ret;
	u64 value;
};

static void check_rows(int (*parse)(const char *, u64 *), const struct row *rows, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		u64 value = 77;
		int ret = parse(rows[i].text, &value);

		if (ret != rows[i].ret || value != (ret ? 77 : rows[i].value)) {
			fprintf(stderr, "\"%s\": %d, %llu\n", rows[i].text, ret, (unsigned long long)value);
			exit(1);
		}
	}
}

static void test_sizes(void)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "4096", 0, 4096 },
		{ "4096B", 0, 4096 },
		{ "64k", 0, 65536 },
		{ "64KiB", 0, 65536 },
		{ "512M", 0, 512ull << 20 },
		{ "512mb", 0, 512ull << 20 },
		{ "1.5G", 0, 3ull << 29 },
		{ "0.25T", 0, 1ull << 38 },
		{ "3p", 0, 3ull << 50 },
		{ "1.0000000000001M", 0, 1 << 20 },
		{ "0.3k", 0, 307 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "16384P", -ERANGE, 0 },
		{ "16383.9P", 0, 18446631483718867353ull },
		{ "", -EINVAL, 0 },
		{ "M", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "1.M", -EINVAL, 0 },
		{ ".5M", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1MM", -EINVAL, 0 },
		{ "1iB", -EINVAL, 0 },
		{ "1Mi", -EINVAL, 0 },
		{ "1MiBs", -EINVAL, 0 },
		{ "1.2.3M", -EINVAL, 0 },
	};

	check_rows(parse_size, rows, ARRAY_SIZE(rows));
}

static void test_durations(void)
{
	static const struct row rows[] = {
		{ "0", 0, 0 },
		{ "0.0", 0, 0 },
		{ "10ns", 0, 10 },
		{ "5us", 0, 5000 },
		{ "1ms", 0, 1000000 },
		{ "2.5s", 0, 2500000000 },
		{ "0.5ns", 0, 0 },
		{ "18446744073s", 0, 18446744073000000000ull },
		{ "18446744074s", -ERANGE, 0 },
		{ "10", -EINVAL, 0 },
		{ "1.5", -EINVAL, 0 },
		{ "10 us", -EINVAL, 0 },
		{ "us", -EINVAL, 0 },
		{ "10u", -EINVAL, 0 },
		{ "10uss", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
	};

	check_rows(parse_duration, rows, ARRAY_SIZE(rows));
}

static void test_integers(void)
{
	s64 v = 77;

	expect_eq(parse_int("0", -1, 1, &v), 0);
	expect_eq(v, 0);
	expect_eq(parse_int("-5", -5, 5, &v), 0);
	expect_eq(v, -5);
	expect_eq(parse_int("007", 0, 9, &v), 0);
	expect_eq(v, 7);
	expect_eq(parse_int("9223372036854775807", INT64_MIN, INT64_MAX, &v), 0);
	expect_eq(v, INT64_MAX);
	expect_eq(parse_int("-9223372036854775808", INT64_MIN, INT64_MAX, &v), 0);
	expect_eq(v, INT64_MIN);
	v = 77;
	expect_eq(parse_int("9223372036854775808", INT64_MIN, INT64_MAX, &v), -ERANGE);
	expect_eq(parse_int("-9223372036854775809", INT64_MIN, INT64_MAX, &v), -ERANGE);
	expect_eq(parse_int("99999999999999999999", INT64_MIN, INT64_MAX, &v), -ERANGE);
	expect_eq(parse_int("6", -5, 5, &v), -ERANGE);
	expect_eq(parse_int("-6", -5, 5, &v), -ERANGE);
	expect_eq(parse_int("", 0, 9, &v), -EINVAL);
	expect_eq(parse_int("-", 0, 9, &v), -EINVAL);
	expect_eq(parse_int("+1", 0, 9, &v), -EINVAL);
	expect_eq(parse_int("1x", 0, 9, &v), -EINVAL);
	expect_eq(parse_int("1.0", 0, 9, &v), -EINVAL);
	expect_eq(v, 77);
}

int main(void)
{
	run_test(test_sizes);
	run_test(test_durations);
	run_test(test_integers);
	return 0;
}
