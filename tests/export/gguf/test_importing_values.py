"""Whatever stands under a key of a GGUF file, an import takes it or refuses it in two lines."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf_files
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf.importing import import_gguf
from tinyslm.export.gguf.reader import Gguf

CODES = {0: "B", 1: "b", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, LIST = 8, 9
VALUES = {
    0: (0, 255),
    1: (-1,),
    4: (0, 7, 2**32 - 1),
    5: (-(2**31),),
    6: (0.0, 1.5, -2.0, 1e30, math.inf, math.nan),
    7: (True, False),
    TEXT: ("", "7", "{{ x", "\u2028" * 99),
    10: (2**64 - 1,),
    11: (-(2**63),),
    12: (1e300, 1e-300),
}
COULD_BE_THERE = [
    "llama.attention.causal",
    "llama.attention.clamp_kqv",
    "llama.attention.key_length",
    "llama.attention.sliding_window",
    "llama.attention.value_length",
    "llama.expert_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.attn_factor",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.finetuned",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.type",
    "llama.vocab_size",
    "general.alignment",
    "general.type",
    "split.count",
    "tokenizer.chat_template",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.pre",
]


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def one(kind: int, value: object) -> bytes:
    return text(str(value)) if kind == TEXT else struct.pack("<" + CODES[kind], value)


def several(kind: int, values: list[object]) -> bytes:
    return struct.pack("<IIQ", LIST, kind, len(values)) + b"".join(one(kind, value) for value in values)


def of_every_kind() -> Iterator[bytes]:
    """Type and value: numbers, texts and truth values, and lists of none, of one, and of two that differ."""
    for kind, values in VALUES.items():
        yield from (struct.pack("<I", kind) + one(kind, value) for value in values)
    for kind in (4, 6, 7, TEXT):
        values = VALUES[kind]
        yield several(kind, [])
        yield several(kind, [values[0]])
        yield several(kind, [values[0], values[-1]])
        yield several(kind, [values[-1]] * 320)  # one for each token


class WithKeys:
    """Writes a whole small model with one value changed."""

    def __init__(self, path: Path, change) -> None:
        writers = []

        def changed(writer) -> None:
            change(writer)
            writers.append(writer)

        content = gguf_files.write_tiny_llama(path, changed).read_bytes()
        self.path = path
        self.keys = {
            name: writers[0]._pack_val(value.value, value.type, add_vtype=True, sub_type=value.sub_type)
            for name, value in writers[0].kv_data[0].items()
        }
        self._size = sum(len(text(name)) + len(value) for name, value in self.keys.items())
        self._rest = content[24 + self._size :]
        self._tensors = len(Gguf(path).tensors)

    def write(self, name: str, value: bytes) -> Path:
        """The file with this type and value under this key; a last key brings the tensors back into alignment."""
        entries = b"".join(text(key) + content for key, content in {**self.keys, name: value}.items())
        least = len(text("filler")) + 4 + len(text(""))
        filler = text("filler") + struct.pack("<I", TEXT) + text("x" * ((self._size - len(entries) - least) % 32))
        count = len(self.keys | {name: value}) + 1
        opening = struct.pack("<4sIQQ", b"GGUF", 3, self._tensors, count)
        self.path.write_bytes(opening + entries + filler + self._rest)
        return self.path


def yarn(writer) -> None:
    writer.add_string("llama.rope.scaling.type", "yarn")
    writer.add_float32("llama.rope.scaling.factor", 4.0)
    writer.add_uint32("llama.rope.scaling.original_context_length", 16)


def test_a_value_of_any_kind_is_taken_or_refused(tmp_path: Path) -> None:
    file = WithKeys(tmp_path / "x.gguf", yarn)
    unchanged = file.write("general.name", struct.pack("<I", TEXT) + text("a model"))
    import_gguf(unchanged, tmp_path / "model")
    taken, refused = 0, 0
    for name in {**file.keys, **dict.fromkeys(COULD_BE_THERE)}:
        for value in of_every_kind():
            try:
                import_gguf(file.write(name, value), tmp_path / str(taken))
                taken += 1
            except TinyslmError as error:
                refused += 1
                lines = str(error).splitlines()
            except BaseException as error:
                error.add_note(f"{name}: {value[:60]!r}")
                raise
            else:
                continue
            assert len(lines) == 2, lines
    assert taken > 20
    assert refused > 1000


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("llama.expert_count", several(4, [0, 0, 2]), r"llama\.expert_count = \[0, 0, 2\]"),
        ("llama.expert_count", several(4, []), r"llama\.expert_count = \[\]"),
        ("llama.attention.clamp_kqv", several(6, [0.0, 1.0]), r"clamp_kqv = \[0\.0, 1\.0\]"),
        ("llama.attention.causal", several(7, [True, False]), r"causal = \[True, False\]"),
        ("llama.vendor", several(TEXT, ["a"] * 7), r"llama\.vendor = a list of 7 texts"),
        (
            "tokenizer.ggml.token_type",
            several(6, [math.nan] * 320),
            r"tokens are not whole numbers: \[nan",
        ),
        ("tokenizer.ggml.model", several(4, [1] * 9), r"has \[1, 1, 1, 1, \.\.\.\] under .*, not a text"),
    ],
)
def test_lists_are_shown_in_the_refusal(tmp_path: Path, name: str, value: bytes, told: str) -> None:
    with pytest.raises(TinyslmError, match=told):
        import_gguf(WithKeys(tmp_path / "x.gguf", yarn).write(name, value), tmp_path / "model")
