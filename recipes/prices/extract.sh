#!/bin/sh
# Prices out of product texts: extract.sh MODEL PRODUCTS OUT.csv [further options of tinyslm batch]
# PRODUCTS (.csv, .jsonl or .parquet) has a column `text`. Killed or not, the same line can be run again and again.
set -eu
here=$(dirname "$0")
model=$1 products=$2 out=$3
shift 3
exec tinyslm batch "$model" "$products" --out "$out" --keep '*' --template "@$here/prompt.jinja" --chat \
    --schema "$here/schema.json" --temperature 0 --max-tokens 100 "$@"
