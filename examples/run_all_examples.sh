#!/usr/bin/env bash
# Run every example with one model: examples/run_all_examples.sh MODEL
#
# A server has to run: LM Studio, or lmstrix engine start. Answers go to a temporary folder. MAX_TOKENS limits each answer.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
model="${1:?usage: run_all_examples.sh MODEL (lmstrix list shows the models)}"
# Examples write into the folder they are started in.
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"

for script in "$here"/cli/*.sh; do
    echo "=== $(basename "$script")"
    bash "$script" "$model"
done
for program in "$here"/python/*.py; do
    echo "=== $(basename "$program")"
    python "$program" "$model" "Why is the sky blue?"
done
echo "all examples ran"
