#!/bin/sh
# A model that extracts prices, from examples: train.sh EXAMPLES.jsonl RUN [further options of tinyslm train]
set -eu
here=$(dirname "$0")
examples=$1 run=$2
shift 2
python "$here/../examples_to_texts.py" "$examples" "$here/prompt.jinja" "$here/schema.json" > "$run.texts.jsonl"
exec tinyslm train "$run.texts.jsonl" --out "$run" --minutes "${MINUTES:-10}" "$@"
