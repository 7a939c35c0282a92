"""Answer a question from a folder of notes: python answer.py MODEL NOTES "QUESTION"

The passages that have most to do with the question are found locally, without a model; the model answers with them
before it, and must name the one it used. Prints JSON: the answer, and the file and line of its source.
"""

import json
import sys

from tinyslm import TinyslmError, open_engine
from tinyslm.agents.retrieval import Notes, Passage
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.settings import SamplingSettings

LONGEST_ANSWER = 150  # tokens
SYSTEM = "Answer with the notes given, in one sentence. If they do not say it, answer: The notes do not say."


def answer(model: str, folder: str, question: str, passages: int = 3) -> dict[str, str] | None:
    """The answer and its source; `None` where no note has a word of the question."""
    found = Notes.read(folder).search(question, passages)
    if not found:
        return None
    engine = open_engine(model)
    try:
        while True:
            messages = conversation(found, question)
            if len(engine.chat_ids(messages)) + LONGEST_ANSWER <= engine.context:
                break
            if len(found) == 1:
                raise TinyslmError("The notes do not fit the model's context.", "Take a model with a longer one.")
            found.pop()  # the one that fits the question least
        grammar = Grammar.json_schema(schema([place(one) for one in found]), engine.tokenizer)
        settings = SamplingSettings(temperature=0, max_tokens=LONGEST_ANSWER)
        said: dict[str, str] = json.loads(engine.chat(messages, settings, grammar=grammar)[0].text)
    finally:
        engine.close()
    return said


def conversation(found: list[Passage], question: str) -> list[dict[str, str]]:
    """The notes and the question, as messages."""
    notes = "\n\n".join(f"[{place(one)}]\n{one.text}" for one in found)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{notes}\n\n{question}"}]


def schema(places: list[str]) -> dict[str, object]:
    """What an answer is: a text, and one of the places."""
    return {
        "type": "object",
        "properties": {"answer": {"type": "string", "maxLength": 300}, "source": {"enum": places}},
        "required": ["answer", "source"],
        "additionalProperties": False,
    }


def place(passage: Passage) -> str:
    """File and line of a passage."""
    return f"{passage.file}:{passage.line}"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        told = answer(*sys.argv[1:])
    except TinyslmError as error:
        sys.exit(f"{error.problem}\n{error.remedy}")
    sys.stdout.write(json.dumps(told or {"answer": "The notes do not say.", "source": ""}) + "\n")
