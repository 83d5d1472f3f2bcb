#!/usr/bin/env bash
# Find the context limit of a model, and see how it was found: examples/cli/find_limits.sh MODEL
set -euo pipefail
model="$1"

lmstrix scan --quiet
lmstrix test "$model" --dry-run
lmstrix test "$model" --threshold "${THRESHOLD:-8192}"
lmstrix history "$model"
lmstrix list
