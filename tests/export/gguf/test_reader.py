"""GGUF files: what is sound is read as the `gguf` package reads it; everything else is refused in two lines."""

import random
import struct
import tracemalloc
from pathlib import Path

import gguf_files
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

from tinyslm.core.errors import TinyslmError
from tinyslm.export.gguf.reader import Gguf, Strings

UNREADABLE = {"Q8_1", "Q8_K", "Q1_0"}  # which the package has no code for
PLAIN = {"F32", "F16", "F64", "I8", "I16", "I32", "I64"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return gguf_files.write_tiny_llama(tmp_path / "small.gguf")


def test_keys_of_every_type_come_out(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "keys.gguf", "llama")
    values = {
        "uint8": 200, "int8": -3, "uint16": 60_000, "int16": -300, "uint32": 1 << 31, "int32": -70_000,
        "uint64": 1 << 63, "int64": -(1 << 62), "float32": 0.5, "float64": 0.1, "bool": True, "string": "naïve ▁",
    }  # fmt: skip
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.whole", [3, 1, 2])
    writer.add_array("a.real", [0.5, -1.5])
    writer.add_array("a.truth", [True, False])
    writer.add_array("a.texts", ["", "é", "<s>"])
    gguf_files.finish(writer)
    file = Gguf(tmp_path / "keys.gguf")
    assert {kind: file.metadata[f"a.{kind}"] for kind in values} == values
    assert type(file.metadata["a.bool"]) is bool
    assert [file.metadata[f"a.{name}"].tolist() for name in ("whole", "real", "truth")] == [
        [3, 1, 2],
        [0.5, -1.5],
        [True, False],
    ]
    texts = file.need("a.texts", Strings)
    assert (len(texts), list(texts), list(texts)) == (3, ["", "é", "<s>"], ["", "é", "<s>"])


@pytest.mark.parametrize(
    "kind", [kind for kind in GGML_QUANT_SIZES if kind.name not in UNREADABLE], ids=lambda k: k.name
)
def test_tensors_of_every_format_come_out_in_fp32(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    writer = GGUFWriter(tmp_path / "tensors.gguf", "llama")
    writer.add_tensor("before", np.arange(3, dtype=np.float32))
    gguf_files.add_raw_tensor(writer, "values", kind, rows=5)
    gguf_files.finish(writer)
    file = Gguf(tmp_path / "tensors.gguf")
    values = file.read("values")
    theirs = next(tensor for tensor in GGUFReader(tmp_path / "tensors.gguf").tensors if tensor.name == "values")
    with np.errstate(all="ignore"):
        expected = theirs.data if kind.name in PLAIN else dequantize(theirs.data, kind)
    assert values.dtype == np.float32
    assert values.shape == (5, 256)
    np.testing.assert_array_equal(values, expected.reshape(5, 256).astype(np.float32))


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_a_format_that_the_package_cannot_read_is_named(tmp_path: Path, name: str) -> None:
    writer = GGUFWriter(tmp_path / "tensors.gguf", "llama")
    gguf_files.add_raw_tensor(writer, "values", GGMLQuantizationType[name], rows=1)
    gguf_files.finish(writer)
    with pytest.raises(TinyslmError, match=f"values .* stored as {name}, which"):
        Gguf(tmp_path / "tensors.gguf").read("values")


def test_a_large_tensor_is_read_in_parts(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "large.gguf", "llama")
    gguf_files.add_raw_tensor(writer, "values", GGMLQuantizationType.Q8_0, rows=5000)
    gguf_files.finish(writer)
    theirs = GGUFReader(tmp_path / "large.gguf").tensors[0]
    np.testing.assert_array_equal(
        Gguf(tmp_path / "large.gguf").read("values"), dequantize(theirs.data, theirs.tensor_type)
    )


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    def spoil(tensors):
        tensors["output_norm.weight"][3] = np.nan

    path = gguf_files.write_tiny_llama(tmp_path / "nan.gguf", tensors=spoil)
    with pytest.raises(TinyslmError, match=r"output_norm.weight has values that are not finite"):
        Gguf(path).read("output_norm.weight")


def header(*, magic=b"GGUF", version=3, tensors=0, keys=0, rest=b"") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys) + rest


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def place(name: bytes, dimensions, kind: int, offset: int) -> bytes:
    packed = struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions)
    return struct.pack("<Q", len(name)) + name + packed + struct.pack("<IQ", kind, offset)


TEXT = struct.pack("<Q", 1) + b"x"
DAMAGED = {
    "empty": (b"", "too short"),
    "another format": (b"PK\x03\x04" + bytes(40), r"not a GGUF file: it begins with b'PK"),
    "older format": (b"tjgg" + bytes(40), "before GGUF"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "version 1": (header(version=1), "version 1"),
    "version from the future": (header(version=4), "version 4"),
    "2**60 tensors": (header(tensors=1 << 60), r"1,152,921,504,606,846,976 tensors in"),
    "2**60 keys": (header(keys=1 << 60), "keys in"),
    "more keys than bytes": (header(keys=60_000, rest=bytes(100)), "60,000 keys in 124 bytes"),
    "key too long": (header(keys=1, rest=struct.pack("<Q", 1 << 62) + bytes(30)), "a key claims to be"),
    "key without a name": (header(keys=1, rest=key(b"", 4, bytes(4))), "no name"),
    "key twice": (header(keys=2, rest=2 * key(b"ab", 4, bytes(4))), 'key "ab" is there twice'),
    "key no text": (header(keys=1, rest=key(b"\xff\xfe", 4, bytes(4))), "not UTF-8"),
    "type of a value": (header(keys=1, rest=key(b"ab", 13, bytes(9))), 'the value of "ab" is of type 13'),
    "text too long": (header(keys=1, rest=key(b"ab", 8, struct.pack("<Q", 1 << 40))), "bytes long"),
    "neither true nor false": (header(keys=1, rest=key(b"ab", 7, b"\x02")), "neither true nor false"),
    "array of 2**62": (header(keys=1, rest=key(b"ab", 9, struct.pack("<IQ", 4, 1 << 62))), "array of 4,611"),
    "array of 2**62 texts": (header(keys=1, rest=key(b"ab", 9, struct.pack("<IQ", 8, 1 << 62))), "array of 4,611"),
    "array of arrays": (header(keys=1, rest=key(b"ab", 9, struct.pack("<IQIQ", 9, 1, 9, 1))), "array of arrays"),
    "array of what": (header(keys=1, rest=key(b"ab", 9, struct.pack("<IQ", 77, 0))), "array of type 77"),
    "alignment 3": (header(keys=1, rest=key(b"general.alignment", 4, struct.pack("<I", 3))), "not a power of two"),
    "alignment 0": (header(keys=1, rest=key(b"general.alignment", 4, struct.pack("<I", 0))), "not a power of two"),
    "alignment a text": (header(keys=1, rest=key(b"general.alignment", 8, TEXT)), "not a whole number"),
    "alignment 2**31": (
        header(
            tensors=1, keys=1, rest=key(b"general.alignment", 4, struct.pack("<I", 1 << 31)) + place(b"a", [4], 0, 0)
        ),
        "cannot stand at",
    ),
    "no dimensions": (header(tensors=1, rest=place(b"a", [], 0, 0) + bytes(40)), "0 dimensions"),
    "five dimensions": (header(tensors=1, rest=place(b"a", [1] * 5, 0, 0) + bytes(40)), "5 dimensions"),
    "2**31 dimensions": (
        header(tensors=1, rest=struct.pack("<Q", 1) + b"a" + struct.pack("<I", 1 << 31) + bytes(40)),
        "2,147,483,648 dimensions",
    ),
    "no values": (header(tensors=1, rest=place(b"a", [0, 4], 0, 0) + bytes(40)), r"shape \[0, 4\]"),
    "product overflows": (header(tensors=1, rest=place(b"a", [1 << 33] * 4, 0, 0) + bytes(80)), "cut short"),
    "no whole block": (header(tensors=1, rest=place(b"a", [33], 8, 0) + bytes(80)), "which Q8_0 cannot have"),
    "unknown type": (header(tensors=1, rest=place(b"a", [32], 4, 0) + bytes(80)), "is of type 4, which"),
    "name too long": (header(tensors=1, rest=place(b"a" * 65, [4], 0, 0) + bytes(80)), "name claims to be 65"),
    "unaligned": (header(tensors=1, rest=place(b"a", [4], 0, 4) + bytes(80)), "cannot stand"),
    "outside": (header(tensors=1, rest=place(b"a", [4], 0, 1 << 60) + bytes(80)), "cut short"),
    "overlapping": (
        header(tensors=2, rest=place(b"a", [16], 0, 0) + place(b"b", [16], 0, 32) + bytes(160)),
        '"a" and "b" overlap',
    ),
    "tensor twice": (header(tensors=2, rest=2 * place(b"a", [4], 0, 0) + bytes(160)), "is there twice"),
}


@pytest.mark.parametrize(("content", "told"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(TinyslmError, match=told) as raised:
        Gguf(tmp_path / "x.gguf")
    assert "x.gguf" in raised.value.problem
    assert raised.value.remedy


def test_a_file_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    for length in [*range(0, 600, 7), *range(600, len(content) - 1, 4001), len(content) - 1]:
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(TinyslmError):
            Gguf(tmp_path / "cut.gguf")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TinyslmError, match="does not exist"):
        Gguf(tmp_path / "nowhere.gguf")
    with pytest.raises(TinyslmError, match="is a folder, not a file"):
        Gguf(tmp_path)


def test_a_key_of_another_kind_or_missing_is_told(small: Path) -> None:
    file = Gguf(small)
    assert "llama.block_count" in file
    assert file.get("llama.block_count", float) == 1.0
    assert file.get("llama.nothing", int) is None
    with pytest.raises(TinyslmError, match=r"has 1 under llama\.block_count, not a text"):
        file.get("llama.block_count", str)
    with pytest.raises(TinyslmError, match=r"does not say llama.nothing"):
        file.need("llama.nothing", int)


def test_mutations_of_a_header_are_read_or_refused(small: Path, tmp_path: Path) -> None:
    """600 of them: no other error, no hang (the time limit of every test), no memory above twice the file."""
    content = small.read_bytes()
    end = min(place.start for place in Gguf(small).tensors.values())
    chance = random.Random(7)
    path = tmp_path / "mutated.gguf"
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(600):
            path.write_bytes(data := gguf_files.mutated(content, end, chance))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                file = Gguf(path)
                for value in file.metadata.values():
                    _ = list(value) if isinstance(value, Strings) else value
                for name in file.tensors:
                    file.read(name)
            except TinyslmError:
                refused += 1
            assert tracemalloc.get_traced_memory()[1] - before < 2 * len(data) + 500_000
    finally:
        tracemalloc.stop()
    assert refused > 200
