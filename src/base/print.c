// SPDX-License-Identifier: MIT
#include "base/print.h"

#include <string.h>

#include "base/assert.h"
#include "base/os.h"
#include "base/syscall.h"

struct out {
	char *buf;
	size_t size;
	size_t len;
};

static void put(struct out *o, char c)
{
	if (o->len + 1 < o->size)
		o->buf[o->len++] = c;
}

static void put_padded(struct out *o, const char *s, size_t len, size_t width, char pad, bool left)
{
	size_t fill = width > len ? width - len : 0;

	for (size_t i = 0; !left && i < fill; i++)
		put(o, pad);
	for (size_t i = 0; i < len; i++)
		put(o, s[i]);
	for (size_t i = 0; left && i < fill; i++)
		put(o, ' ');
}

static size_t digits(char *end, u64 value, unsigned int base)
{
	char *p = end;

	do {
		*--p = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	return (size_t)(end - p);
}

struct spec {
	bool left;
	char pad;
	size_t width;
	size_t precision;
	int longs; /* 0 int, 1 long, 2 long long; z counts as 1 */
};

static const char *parse_spec(const char *fmt, struct spec *s)
{
	*s = (struct spec){ .pad = ' ', .precision = (size_t)-1 };
	for (; *fmt == '-' || *fmt == '0'; fmt++) {
		if (*fmt == '-')
			s->left = true;
		else
			s->pad = '0';
	}
	for (; *fmt >= '0' && *fmt <= '9'; fmt++)
		s->width = s->width * 10 + (size_t)(*fmt - '0');
	if (*fmt == '.') {
		s->precision = 0;
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			s->precision = s->precision * 10 + (size_t)(*fmt - '0');
	}
	for (; *fmt == 'l' || *fmt == 'z'; fmt++)
		s->longs++;
	return fmt;
}

static void put_number(struct out *o, const struct spec *s, u64 value, bool negative, unsigned int base)
{
	char tmp[24];
	char *end = tmp + sizeof(tmp);
	size_t len = digits(end, value, base);

	if (negative)
		*(end - ++len) = '-';
	put_padded(o, end - len, len, s->width, s->pad, s->left);
}

size_t print_va(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct out o = { .buf = buf, .size = size };
	struct spec s;

	must(size > 0);
	for (; *fmt; fmt++) {
		if (*fmt != '%') {
			put(&o, *fmt);
			continue;
		}
		fmt = parse_spec(fmt + 1, &s);
		switch (*fmt) {
		case 's': {
			const char *str = va_arg(ap, const char *);

			put_padded(&o, str ? str : "(null)", strnlen(str ? str : "(null)", s.precision), s.width, ' ',
				   s.left);
			break;
		}
		case 'c':
			put(&o, (char)va_arg(ap, int));
			break;
		case 'd': {
			s64 v = s.longs ? va_arg(ap, long) : va_arg(ap, int);

			put_number(&o, &s, v < 0 ? -(u64)v : (u64)v, v < 0, 10);
			break;
		}
		case 'u':
		case 'x':
			put_number(&o, &s, s.longs ? va_arg(ap, unsigned long) : va_arg(ap, unsigned int), false,
				   *fmt == 'u' ? 10 : 16);
			break;
		case 'p':
			put(&o, '0');
			put(&o, 'x');
			put_number(&o, &s, (u64)(uintptr_t)va_arg(ap, void *), false, 16);
			break;
		case '%':
			put(&o, '%');
			break;
		default:
			must(0 && "print: unknown conversion");
		}
	}
	buf[o.len] = '\0';
	return o.len;
}

size_t print_to(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	len = print_va(buf, size, fmt, ap);
	va_end(ap);
	return len;
}

void print_err(const char *fmt, ...)
{
	char line[512];
	size_t len = print_to(line, sizeof(line), "weir: ");
	va_list ap;

	va_start(ap, fmt);
	len += print_va(line + len, sizeof(line) - len - 1, fmt, ap);
	va_end(ap);
	line[len++] = '\n';
	os_write(2, line, len);
}

char *print_size(char *buf, size_t size, u64 bytes)
{
	static const char units[] = "BKMGTP";
	unsigned int unit = 0;
	u64 tenths = bytes * 10;

	must(bytes < (u64)1 << 60);
	while (tenths >= 10240 && unit + 2 < sizeof(units)) {
		tenths = (tenths + 512) / 1024;
		unit++;
	}
	if (tenths % 10)
		print_to(buf, size, "%lu.%lu%c", tenths / 10, tenths % 10, units[unit]);
	else
		print_to(buf, size, "%lu%c", tenths / 10, units[unit]);
	return buf;
}

__attribute__((weak)) _Noreturn void assert_fail(const char *expr, const char *file, int line)
{
	print_err("broken invariant: %s (%s:%d)", expr, file, line);
	sys3(SYS_tgkill, sys0(SYS_getpid), os_gettid(), 6 /* SIGABRT */);
	for (;;)
		sys1(SYS_exit_group, 134);
}
