#!/bin/sh
# A model that triages log lines, by the pack security: train.sh MODEL RUN [further options of tinyslm packs train]
set -eu
model=$1 run=$2
shift 2
exec tinyslm packs train security --model "$model" --out "$run" --minutes "${MINUTES:-20}" "$@"
