#!/bin/sh
# A chatbot from nothing: train.sh STORIES.jsonl QUESTIONS.jsonl RUNS [further options of tinyslm train]
set -eu
here=$(dirname "$0")
stories=$1 questions=$2 runs=$3
shift 3
tinyslm train "$stories" --config "$here/../stories.toml" --out "$runs/stories" \
  --minutes "${STORY_MINUTES:-35}" --model.context 512 "$@"
tinyslm finetune "$runs/stories" "$questions" --out "$runs/chatbot" \
  --minutes "${MINUTES:-20}" --full --grader "$here/grader.py:grade" --verdict.questions 200
