#!/bin/sh
# Log lines in, one JSON object for each out: tail -n 1000 app.log | triage.sh MODEL [further options of tinyslm batch]
set -eu
here=$(dirname "$0")
model=$1
shift
exec tinyslm batch "$model" - --format text --keep text --template "@$here/prompt.jinja" --chat \
    --schema "$here/schema.json" --temperature 0 --max-tokens 200 "$@"
