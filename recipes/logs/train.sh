#!/bin/sh
# A model that triages log lines, from examples: train.sh MODEL EXAMPLES.jsonl RUN [further options of tinyslm finetune]
set -eu
here=$(dirname "$0")
model=$1 examples=$2 run=$3
shift 3
python "$here/../examples_to_rows.py" "$examples" "$here/prompt.jinja" "$here/schema.json" > "$run.rows.jsonl"
exec tinyslm finetune "$model" "$run.rows.jsonl" --out "$run" --minutes "${MINUTES:-20}" --grader json "$@"
