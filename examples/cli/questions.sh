#!/usr/bin/env bash
# Questions with and without a text, and an answer in a shape: examples/cli/questions.sh MODEL
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
model="$1"
most="${MAX_TOKENS:-200}"
qa="$here/prompts/qa.toml"

lmstrix infer short -m "$model" --file-prompt "$qa" --var question="Why is the sea salty?" --max-tokens "$most"
lmstrix infer from_text -m "$model" --file-prompt "$qa" --var question="When is high water on 12 March?" \
    --text-file "$here/data/minutes.txt" --max-tokens "$most"
lmstrix infer choose -m "$model" --file-prompt "$qa" --var question="Which is a tide?" \
    --var 'choices:=["ebb", "herring", "pier"]' --max-tokens "$most" --temperature 0
lmstrix infer "And why?" --continue --max-tokens "$most"
lmstrix logs --last 3
