#!/usr/bin/env bash
# Ask two prompts about every document of a folder, one file per answer: examples/cli/document_analysis.sh MODEL [FOLDER]
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
model="$1"
answers="${2:-answers}"

lmstrix prompts lint "$here/prompts/documents.toml"
lmstrix batch --prompts "$here/prompts/documents.toml" --inputs "$here/data/*.txt" --models "$model" \
    --out "$answers" --max-tokens "${MAX_TOKENS:-300}"
ls "$answers"
