"""The Modelfile says in Ollama's language what the chat template says in Jinja."""

import re

import pytest
from gguf_models import tokenizer_of

from tinyslm.export.gguf.modelfile import write_modelfile
from tinyslm.tokenizer.chat import CHATML, encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer

WITH_DEFAULT_SYSTEM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INSTRUCTIONS = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\nAnswer: ' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
)
TALKS = (
    ("user",),
    ("system", "user"),
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "user", "assistant", "user"),
)


def tokenizer_with(template: str | None) -> Tokenizer:
    return Tokenizer(tokenizer_of("byte")._backend, chat_template=template)


def in_go(template: str, messages: list[dict[str, str]]) -> str:
    """Enough of Go's `text/template` for what is written here."""
    pieces = re.split(r"\{\{\s*(.*?)\s*\}\}", template)

    def run(start: int, place: int, message: dict[str, str], outer: bool, first: bool) -> tuple[str, int]:
        """The text from piece `start` to the matching `end`, and the place of that."""
        text, at, taken = "", start, False
        live = outer and first
        while True:
            text += pieces[at] if live else ""
            action = pieces[at + 1]
            if action == "end":
                return text, at + 2
            if action.startswith("else"):
                taken |= live
                live = outer and not taken and ("eq" not in action or truth(action, place, message))
            elif action.startswith("if"):
                inner, after = run(at + 2, place, message, live, truth(action, place, message))
                text += inner
                at = after - 2
            elif action == "$message.Content":
                text += message["content"] if live else ""
            at += 2

    def truth(action: str, place: int, message: dict[str, str]) -> bool:
        if "$place" in action:
            return place == int(action.rsplit(maxsplit=1)[-1])
        return message["role"] == action.split('"')[1]

    assert pieces[1] == "range $place, $message := .Messages"
    return "".join(run(2, place, message, True, True)[0] for place, message in enumerate(messages))


@pytest.mark.parametrize("template", [CHATML, WITH_DEFAULT_SYSTEM, INSTRUCTIONS])
def test_the_template_says_the_same(template: str, tmp_path) -> None:
    tokenizer = tokenizer_with(template)
    assert write_modelfile(tmp_path / "model-F16.gguf", tokenizer, 96) == []
    text = (tmp_path / "model-F16.Modelfile").read_text()
    found = re.search(r'TEMPLATE """(.*?)"""\n', text, re.DOTALL)
    for roles in TALKS:
        messages = [{"role": role, "content": f"{place} is {role}"} for place, role in enumerate(roles)]
        expected = tokenizer.decode(encode_chat(tokenizer, messages, add_generation_prompt=True))
        assert in_go(found[1], messages) == expected


def test_file_stops_and_context(tmp_path) -> None:
    write_modelfile(tmp_path / "model-F16.gguf", tokenizer_with(CHATML), 96)
    lines = (tmp_path / "model-F16.Modelfile").read_text().splitlines()
    assert lines[0] == "FROM ./model-F16.gguf"
    assert {'PARAMETER stop "<|endoftext|>"', 'PARAMETER stop "<|im_end|>"', "PARAMETER num_ctx 96"} <= set(lines)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}{{ message['content'] | upper }}{% endfor %}",
        "{% for message in messages %}{{ loop.index }}: {{ message['content'] }}\n{% endfor %}",
        "{{ strftime_now('%d') }}{% for message in messages %}{{ message['content'] }}\n{% endfor %}",
        "{% for message in messages %}{{ '{{' + message['content'] + '}}' }}{% endfor %}",
        "{{ raise_exception('never') }}",
    ],
)
def test_a_template_that_cannot_be_said_is_left_out_and_told(template: str, tmp_path) -> None:
    notes = write_modelfile(tmp_path / "model.gguf", tokenizer_with(template), 96)
    assert ["no TEMPLATE" in note for note in notes] == [True]
    assert "TEMPLATE" not in (tmp_path / "model.Modelfile").read_text()


def test_no_template_is_no_fault(tmp_path) -> None:
    assert write_modelfile(tmp_path / "model.gguf", tokenizer_with(None), 96) == []
