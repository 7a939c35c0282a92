"""A chatbot from nothing: recipes/story-chatbot from random weights to answers about a story, before and after.

    python benchmarks/chatbot.py --data FOLDER [--runs FOLDER]

The folder holds stories/train.jsonl and sft/story_questions.train.jsonl. Runs that lie in --runs from before are not
made again. The score is the recipe's grader's, on 200 held-out questions, with 95 % bootstrap intervals.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness import HERE, finish, parser

RECIPE = HERE.parent / "recipes" / "story-chatbot" / "train.sh"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--runs", type=Path, help="a folder for the runs; by default a temporary one")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = given.runs or Path(temporary)
        if not (runs / "chatbot" / "result.json").is_file():
            data = [given.data / "stories" / "train.jsonl", given.data / "sft" / "story_questions.train.jsonl"]
            subprocess.run(["sh", RECIPE, *data, runs], check=True)
        finish(measured(*(json.loads((runs / name / "result.json").read_text()) for name in ("stories", "chatbot"))))


def measured(stories: dict[str, Any], chatbot: dict[str, Any]) -> dict[str, Any]:
    """What the results of both runs say."""
    gain = chatbot["verdict"]["gain"]
    return {
        "parameters": stories["parameters"],
        "minutes": round((stories["training_seconds"] + chatbot["training_seconds"]) / 60, 1),
        "bits_per_byte": stories["bits_per_byte"],
        "questions": gain["examples"],
        **{name: round(gain[name], 4) for name in ("before", "after", "change", "low", "high")},
    }


if __name__ == "__main__":
    main()
