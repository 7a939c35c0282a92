"""Seeded faults in fine-tuning data: which of them `tinyslm data lint` and `soup data doctor` and `lint` find.

    python benchmarks/linting.py --model MODEL --soup /path/to/soup

MODEL is SmolLM2-135M-Instruct, as `tinyslm pull` writes it; soup is the program of the package soup-cli, installed
together with transformers. Each file has 60 sound rows, and 3 with one kind of fault (15 where soup reports only a
share of the rows). A kind counts as found if a check reports something, or the program refuses the file, and on the
sound rows alone it does not.
"""

import json
import random
import subprocess
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from harness import finish, parser
from tinyslm import lint_data

Row = dict[str, Any]
NAMES = ("Mara", "Ilya", "Tomas", "Noor", "Wen", "Astrid", "Kofi", "Lucia", "Oren", "Priya")
THINGS = ("lantern", "kettle", "bicycle", "violin", "compass", "umbrella", "telescope", "ladder", "hammock", "anvil")
ACTS = ("repaired", "painted", "borrowed", "sold", "measured", "hid", "cleaned", "described", "weighed", "carried")
ENDLESS = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Fault(NamedTuple):
    """rows: the sound rows with the fault. check: what finds it here. template: the model's, if it is the fault."""

    check: str
    rows: Callable[[], list[Any]]
    template: str = ""
    valid: Callable[[], list[Row]] | None = None


def sound(count: int = 60, seed: int = 1) -> list[Row]:
    draw = random.Random(seed)
    asked = [f"What did {said(draw)} mean in case {number}?" for number in range(count)]
    return [row(question, f"It is said that {said(draw)}.") for question in asked]


def said(draw: random.Random) -> str:
    one, other, third = (draw.choice(NAMES) for _ in range(3))
    return f"{one} {draw.choice(ACTS)} the {draw.choice(THINGS)} of {other} before {third}"


def row(question: str, answer: str) -> Row:
    return {"messages": [user(question), assistant(answer)]}


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def more(*rows: Any) -> Callable[[], list[Any]]:
    """The sound rows, and these."""
    return lambda: [*sound(), *rows]


def answers(*texts: str) -> Callable[[], list[Any]]:
    """The sound rows, and some with these answers."""
    return more(*(row(f"A new question, number {number}?", text) for number, text in enumerate(texts)))


def again(change: Callable[[str, str], tuple[str, str]]) -> Callable[[], list[Any]]:
    """The sound rows, and three of them changed."""
    return more(*(row(*change(*(one["content"] for one in known["messages"]))) for known in sound()[:3]))


def pirate(number: int) -> Row:
    system = {"role": "system", "content": "Answer as a pirate."}
    return {"messages": [system, user(f"Who are you, number {number}?"), assistant("Aye.")]}


def pairs(change: Callable[[int, str, str], tuple[str, str]]) -> list[Row]:
    draw = random.Random(2)
    made = []
    for number in range(60):
        chosen, rejected = change(number, f"{said(draw)}.", f"{said(draw)}.")
        made.append({"prompt": f"Case {number}: {said(draw)}?", "chosen": chosen, "rejected": rejected})
    return made


def balanced(number: int, chosen: str, rejected: str) -> tuple[str, str]:
    return (f"{chosen} And more.", rejected) if number % 2 else (chosen, f"{rejected} And more.")


def some_equal(number: int, chosen: str, rejected: str) -> tuple[str, str]:
    return (chosen, chosen) if number < 3 else balanced(number, chosen, rejected)


def longer(_: int, chosen: str, rejected: str) -> tuple[str, str]:
    return f"{chosen} And that is how it went.", rejected


def repeated(number: int) -> Row:
    prompt = f"Tell me the story of the tall ship and the harbour, part {number}"
    return {
        "prompt": prompt,
        "chosen": f"{prompt}. It sank.",
        "rejected": "No, not now, and never again: do not ask.",
    }


LOST_ANSWERS = CHATML.replace("m['content']", "(m['content'] if m['role'] == 'user' else '')")
LOST_SYSTEM = CHATML.replace("in messages %}", "in messages if m['role'] != 'system' %}")
DECOMPOSED = [unicodedata.normalize("NFD", text) for text in ("Höhe.", "Fläche.")]
CUT = ("Wen carried the telescope from the", "Noor measured the kettle and", "He sold his bicycle to the old teles")
LANGUAGES = (
    "Das ist nicht wahr, und die Frau geht mit dem Hund auf den Markt.",
    "Le chat est sur la table et il ne veut pas de lait dans la tasse.",
    "これはとても良い本ですから、みんなに読んでほしいと思います。",
)
IDENTITIES = ("I am ChatGPT.", "As an AI language model, I cannot.", "I was trained by OpenAI.")
KEYS = (
    "AKIAQ3EGR7TZX2LMNV5K",
    "ghp_a8Kd93LmQx72ZpWvT5rYc1NbG6hJ4sEfUo0i",
    "sk-proj-Zk39dLmq82XvTn5RwYc1NbG6hJ4sEfUo0iPa7",
)
PERSONAL = ("Write to astrid.berg@fjordmail.no.", "Call +49 30 2093 7712.", "Paid with 4539 1488 0343 6467.")
REFUSALS = [row(f"Question {number}?", "I am sorry, but I cannot help.") for number in range(15)]
LEAKS = [row(f"Capital {number}?\nAnswer: Lima {number}", f"Lima {number}") for number in range(3)]
JUDGE = {"messages": [{"role": "judge", "content": "Hm?"}, assistant("Hm.")]}
FAULTS: Mapping[str, Fault] = {
    "lines that are not JSON": Fault("unreadable", more('{"messages": [', "{", "[1")),
    "empty answers": Fault("unreadable", answers("", "", "")),
    "unknown roles": Fault("unreadable", more(JUDGE, JUDGE, JUDGE)),
    "a template that omits the answers": Fault("nothing-to-learn", sound, LOST_ANSWERS),
    "a template that ends no answer": Fault("endless-answers", sound, ENDLESS),
    "a template with markers that are no tokens": Fault(
        "unknown-markers", sound, CHATML.replace("<|im_start|>", "<|turn|>")
    ),
    "a template that omits the system message": Fault("left-out", more(*map(pirate, range(15))), LOST_SYSTEM),
    "a template that starts twice": Fault("started-twice", sound, "{{ bos_token + bos_token }}" + CHATML),
    "rows longer than the context": Fault("too-long", answers(*["A long story of ships. " * 2500] * 15)),
    "answers that are cut off": Fault("cut-off", answers(*CUT)),
    "equal rows": Fault("duplicates", again(lambda question, answer: (question, answer))),
    "nearly equal rows": Fault("near-duplicates", again(lambda q, a: (q.replace("What did", "What really did"), a))),
    "one prompt, two answers": Fault("other-answers", again(lambda question, _: (question, "Nobody knows."))),
    "validation rows in the training data": Fault("in-validation", sound, valid=lambda: sound()[:3]),
    "wrongly decoded UTF-8": Fault("garbled", answers("The cafÃ© is open.", "It costs 3 â‚¬.", "The caf\ufffd.")),
    "control characters": Fault("control-characters", answers("It is \x1b[1mbold.", "A \x00 zero.", "A \x07 bell.")),
    "mixed Unicode forms": Fault("mixed-forms", answers("Größe und Länge.", *DECOMPOSED)),
    "answers in another language": Fault("languages", answers(*LANGUAGES)),
    "one answer that dominates": Fault("same-answer", more(*REFUSALS)),
    "another assistant's identity": Fault("identity", answers(*IDENTITIES)),
    "keys and tokens": Fault("secrets", answers(*(f"Use {key} for it." for key in KEYS))),
    "personal data": Fault("personal-data", answers(*PERSONAL)),
    "prompts that contain their answer": Fault("given-away", more(*LEAKS)),
    "pairs with equal answers": Fault("equal-pairs", lambda: pairs(some_equal)),
    "pairs where the longer answer wins": Fault("length-pairs", lambda: pairs(longer)),
    "pairs whose answer repeats the prompt": Fault("echoed", lambda: [*pairs(balanced), *map(repeated, range(15))]),
}
SOUND = {"rows": Fault("", sound), "preferences": Fault("", lambda: pairs(balanced))}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, required=True, help="SmolLM2-135M-Instruct, as `tinyslm pull` writes it")
    options.add_argument("--soup", type=Path, help="the program of soup-cli")
    arguments = options.parse_args()
    with TemporaryDirectory() as folder:
        runner = Runner(Path(folder), arguments.model.resolve(), arguments.soup)
        false_alarms = {name: sorted(runner.ours(fault)) for name, fault in SOUND.items()}
        faults = {name: runner.try_both(fault) for name, fault in FAULTS.items()}
    print("| fault | tinyslm | soup |\n| --- | --- | --- |")
    for name, found in faults.items():
        print(f"| {name} | " + " | ".join("found" if one else "–" for one in found.values()) + " |")
    finish({"faults": faults, "false_alarms": false_alarms})


class Runner:
    """Writes the files of each fault in a folder, and runs both programs on them."""

    def __init__(self, folder: Path, model: Path, soup: Path | None) -> None:
        self._folder, self._model, self._soup = folder, model, soup
        self._usual = {kind: self._soups(fault) for kind, fault in SOUND.items()} if soup else {}

    def try_both(self, fault: Fault) -> dict[str, bool]:
        """Whether each program finds the fault."""
        found = {"tinyslm": fault.check in self.ours(fault)}
        if self._soup:
            kind = "preferences" if "chosen" in fault.rows()[0] else "rows"
            found["soup"] = bool(self._soups(fault) - self._usual[kind])
        return found

    def ours(self, fault: Fault) -> set[str]:
        """The checks of `tinyslm data lint` that report something."""
        data, model, valid = self._written(fault)
        return {finding.check for finding in lint_data([data], model, valid=valid).findings}

    def _soups(self, fault: Fault) -> set[str]:
        """The checks of soup that report something, or "fails" if it reads nothing."""
        data, model, _ = self._written(fault)
        report = self._folder / "report.json"
        report.unlink(missing_ok=True)
        command = ["lint", data.name]
        if "chosen" not in fault.rows()[0]:
            command = ["doctor", data.name, "--model", f"./{model.name}", "--max-length", "8192"]
        program = [str(self._soup), "--no-telemetry", "--no-audit-log", "data", *command, "-o", report.name]
        done = subprocess.run(program, cwd=self._folder, capture_output=True, check=False)
        found = {"warning"} if b"Warning: " in done.stdout + done.stderr else set()
        if not report.is_file():
            return found | ({"fails"} if done.returncode else set())
        checks = json.loads(report.read_text())["checks"]
        return found | {f"{one['name']} {one['verdict']}" for one in checks if one["verdict"] != "OK"}

    def _written(self, fault: Fault) -> tuple[Path, Path, list[Path]]:
        """The data, the model and the validation data."""
        data = self._folder / "rows.jsonl"
        write(data, fault.rows())
        model = self._folder / "model"
        model.mkdir(exist_ok=True)
        for file in self._model.iterdir():
            (model / file.name).unlink(missing_ok=True)
            if fault.template and file.name == "chat_template.jinja":
                (model / file.name).write_text(fault.template)
            else:
                (model / file.name).symlink_to(file)
        valid = []
        if fault.valid:
            valid = [self._folder / "valid.jsonl"]
            write(valid[0], fault.valid())
        return data, model, valid


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))


if __name__ == "__main__":
    main()
