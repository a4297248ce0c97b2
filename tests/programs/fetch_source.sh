#!/bin/sh
# SPDX-License-Identifier: MIT
# Gets a Debian source package into build/programs/sources, once, and prints its directory. apt's own lists stay as
# they are.
#
#   fetch_source.sh PACKAGE
set -eu
top=$KEEP/sources
package=$1

find_tree() {
	find "$top" -maxdepth 1 -type d -name "$package-*" 2>/dev/null | sort | tail -n 1
}

if [ -z "$(find_tree)" ]; then
	mkdir -p "$top/lists/partial" "$top/cache/archives/partial"
	# shellcheck source=/dev/null
	. /etc/os-release
	echo "deb-src http://deb.debian.org/debian ${VERSION_CODENAME:-stable} main" >"$top/sources.list"
	cd "$top"
	set -- -q -o Dir::Etc::SourceList="$top/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$top/lists" -o Dir::Cache="$top/cache" -o APT::Sandbox::User=root
	if ! apt-get "$@" update >"$top/log" 2>&1 || ! apt-get "$@" source "$package" >>"$top/log" 2>&1; then
		echo "the Debian sources of $package cannot be fetched: $(tail -n 1 "$top/log")" >&2
		exit 77
	fi
fi
find_tree
