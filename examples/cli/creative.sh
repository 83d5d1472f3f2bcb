#!/usr/bin/env bash
# A story, a poem and some names: examples/cli/creative.sh MODEL [SUBJECT]
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
model="$1"
subject="${2:-a lighthouse that is tired of the sea}"

for prompt in story poem names; do
    echo "== $prompt"
    lmstrix infer "$prompt" -m "$model" --file-prompt "$here/prompts/creative.toml" --var subject="$subject" \
        --temperature 0.9 --max-tokens "${MAX_TOKENS:-300}"
done
