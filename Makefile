# SPDX-License-Identifier: MIT
# Meson does the work: this file only saves typing. Variables: DESTDIR, PREFIX, WEIR_DEMO_MB, LONG.
PREFIX ?= /usr/local

.PHONY: all demo check check-asan check-tsan programs bench lab install clean

all:
	@scripts/setup build
	@test -f build/build.ninja || meson setup --prefix $(PREFIX) build
	@meson compile -C build

demo: all
	@scripts/demo

check:
	@scripts/setup check
	@scripts/check

check-asan:
	@scripts/setup check
	@scripts/check asan

check-tsan:
	@scripts/setup check
	@scripts/check tsan

programs: all
	@scripts/setup programs
	@scripts/programs $(if $(LONG),--long)

bench: all
	@meson test -C build --benchmark --verbose

lab: all
	@scripts/setup lab
	@lab/lab

install: all
	meson install -C build --no-rebuild

clean:
	rm -rf build build-asan build-tsan build-clang
