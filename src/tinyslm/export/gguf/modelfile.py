"""An Ollama Modelfile for a GGUF file: template, stop tokens, context.

Ollama's templates are in a language of their own (Go's `text/template`). What a Jinja template does is found out by
rendering short conversations with it: what stands before, between and after the contents makes Ollama's template, if
it gives the same text for further conversations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyslm.core.errors import TinyslmError
from tinyslm.core.files import write_atomic
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer

Messages = Sequence[Mapping[str, str]]


def write_modelfile(path: Path, tokenizer: Tokenizer, context: int) -> list[str]:
    """Write `<name>.Modelfile` for the GGUF file at `path`; returns notes on what it lacks."""
    pieces = pieces_of(tokenizer)
    lines = [f"FROM ./{path.name}"]
    if pieces is not None:
        lines.append(f'TEMPLATE """{pieces.in_go()}"""')
    stops = dict.fromkeys(tokenizer.decode([token]) for token in tokenizer.stop_ids)
    lines += [f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop]
    lines.append(f"PARAMETER num_ctx {context}")
    write_atomic(path.with_suffix(".Modelfile"), "\n".join(lines) + "\n")
    if pieces is None and tokenizer.chat_template is not None:
        return ["the Modelfile has no TEMPLATE: the chat template is none that Ollama's language can say here"]
    return []


@dataclass(frozen=True)
class Pieces:
    """What stands around the contents of messages.

    begin: before a first message of the user. system, after_system: around a first message of the system.
    answer: after each message of the user. again: between an answer and the user's next message.
    """

    begin: str
    system: str
    after_system: str
    answer: str
    again: str

    def render(self, messages: Messages) -> str:
        """What Ollama makes of a conversation."""
        text = ""
        for place, message in enumerate(messages):
            before, after = {
                "system": (self.system, self.after_system),
                "user": (self.begin if place == 0 else "", self.answer),
                "assistant": ("", self.again),
            }[message["role"]]
            text += before + message["content"] + after
        return text

    def in_go(self) -> str:
        """`render` in Ollama's language, without a space or a line end that is not the template's."""
        return (
            '{{ range $place, $message := .Messages }}{{ if eq $message.Role "system" }}'
            f"{self.system}{{{{ $message.Content }}}}{self.after_system}"
            '{{ else if eq $message.Role "user" }}'
            f"{{{{ if eq $place 0 }}}}{self.begin}{{{{ end }}}}{{{{ $message.Content }}}}{self.answer}"
            f"{{{{ else }}}}{{{{ $message.Content }}}}{self.again}{{{{ end }}}}{{{{ end }}}}"
        )


def pieces_of(tokenizer: Tokenizer) -> Pieces | None:
    """The pieces of the chat template; `None` if there is none, or if it is not made of such pieces."""
    template = tokenizer.chat_template
    if template is None or "strftime_now" in template:  # the date of the export would stay for ever
        return None
    try:
        pieces = _found(tokenizer)
        right = all(pieces.render(_talk(*roles)) == _rendered(tokenizer, *roles) for roles in PROOFS)
    except (TinyslmError, ValueError):
        return None
    text = "".join((pieces.begin, pieces.system, pieces.after_system, pieces.answer, pieces.again))
    sayable = not any(sign in text for sign in ("{{", "}}", '"""'))
    return pieces if right and sayable else None


PROOFS = (
    ("user",),
    ("user", "assistant", "user"),
    ("system", "user"),
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "user", "assistant", "user"),
)


def _found(tokenizer: Tokenizer) -> Pieces:
    """The pieces as two conversations show them; `ValueError` if a content does not stand there as it is."""
    whole, last = _rendered(tokenizer, "user", "assistant", "user"), _rendered(tokenizer, "system", "user")
    one, two, three = (message["content"] for message in _talk("user", "assistant", "user"))
    begin, rest = _cut(whole, one)
    answer, rest = _cut(rest, two)
    again, _ = _cut(rest, three)
    one, two = (message["content"] for message in _talk("system", "user"))
    system, rest = _cut(last, one)
    after_system, _ = _cut(rest, two)
    return Pieces(begin, system, after_system, answer, again)


def _cut(text: str, content: str) -> tuple[str, str]:
    before, found, after = text.partition(content)
    if not found:
        raise ValueError(content)
    return before, after


def _talk(*roles: str) -> Messages:
    """A conversation whose contents occur in no template."""
    return [{"role": role, "content": f"Zeile{place}{role}"} for place, role in enumerate(roles)]


def _rendered(tokenizer: Tokenizer, *roles: str) -> str:
    """A conversation as text with the beginning of the answer, but for what Ollama puts before every text by itself."""
    ids = encode_chat(tokenizer, _talk(*roles), add_generation_prompt=True)
    start = tokenizer.start_ids
    return tokenizer.decode(ids[len(start) :] if start and tuple(ids[: len(start)]) == start else ids)
