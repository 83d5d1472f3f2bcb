#!/usr/bin/env bash
# Review a file, explain it, and write tests for it: examples/cli/code_assistant.sh MODEL [FILE]
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
model="$1"
file="${2:-$here/data/inventory.py}"
most="${MAX_TOKENS:-400}"

for prompt in review explain tests; do
    echo "== $prompt"
    lmstrix infer "$prompt" -m "$model" --file-prompt "$here/prompts/coding.toml" --text-file "$file" --max-tokens "$most"
done
# A text through a pipe follows the question.
cat "$file" | lmstrix infer "Write a commit message for adding this file:" -m "$model" --max-tokens "$most"
