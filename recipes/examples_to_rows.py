"""Make rows to fine-tune on: python examples_to_rows.py EXAMPLES.jsonl TEMPLATE SCHEMA.json > ROWS.jsonl

The prompt of each row is the template filled with an example's columns, as `tinyslm batch --template --chat` fills it.
Its answer is what the model is to learn to write: the example's properties of the schema, as JSON.
"""

import json
import sys
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment


def main(examples: str, template: str, schema: str) -> None:
    """Write a line for each example."""
    prompt = ImmutableSandboxedEnvironment().from_string(Path(template).read_text(encoding="utf-8"))
    fields = list(json.loads(Path(schema).read_text(encoding="utf-8"))["properties"])
    with Path(examples).open(encoding="utf-8") as lines:
        for line in lines:
            example = json.loads(line)
            answer = json.dumps({name: example[name] for name in fields}, ensure_ascii=False, separators=(",", ":"))
            sys.stdout.write(json.dumps({"prompt": prompt.render(example), "completion": answer}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
