#!/bin/bash
# SPDX-License-Identifier: MIT
# One stressor of stress-ng with its checks, bounded by its operations. Prints failures, and its name at the end.
#
#   stress_ng.sh STRESSOR WORKERS OPTION...
set -euo pipefail
name=$1
shift
# The stressor's process is begun again when it dies of a signal: that is said on standard output only with -v.
# shellcheck disable=SC2086 # WEIR is one word, or none
$WEIR stress-ng -v --verify "--$name" "$@" --timeout 60 --temp-path . >log 2>&1 || { cat log >&2; exit 1; }
grep '"command"' log >&2 || true
grep -E 'fail:|skipped|error:|killed by|child died' log | sed 's/\[[0-9]*\]//' | sort -u || true
grep -q 'run completed' log && echo "$name"
