"""Damaged safetensors files: a model or a refusal, never another error, a hang, or memory out of proportion."""

import json
import random
import resource
import struct
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, save_model

MUTATIONS = 2000
NUMBERS = (0, 1, -1, 2**31, 2**32, 2**53, 2**60, 2**63 - 1, 2**63, 2**64, 2**70, 1e300, 0.5)
VALUES = (None, True, "", "F64", "BOOL", "Q4", [], {}, [[]], "x" * 1000, *NUMBERS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(Decoder(ModelConfig(vocab_size=320, dim=32, heads=2, depth=1, context=32)), tmp_path / "model")
    (tmp_path / "model" / "tinyslm.json").unlink()  # a file of another program, without a checksum
    return tmp_path / "model"


def mutated_bytes(content: bytes, chance: random.Random) -> bytes:
    """One to three changes to the length at the beginning or to the header behind it."""
    data = bytearray(content)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(min(header, len(data)) or 1)
        match chance.randrange(6):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                data[:8] = struct.pack("<Q", chance.choice((0, 1, 7, header, 1 << 32, 1 << 60, (1 << 64) - 1)))
            case 2:
                del data[place:]
            case 3:
                del data[place : place + chance.randint(1, 16)]
            case 4:
                data[place:place] = chance.choice((chance.randbytes(8), b"9" * 20, b"[" * 300, b'"', b"{" * 9))
            case 5:
                start = chance.randrange(header)
                data[place : place + 24] = data[start : start + 24]
    return bytes(data)


def mutated_header(content: bytes, chance: random.Random) -> bytes:
    """A header that is JSON still, with a type, shape, offset or name changed."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice(sorted(header))
        entry = header[name]
        match chance.randrange(7):
            case 0:
                entry["shape"] = [chance.choice(NUMBERS) for _ in range(chance.randrange(4))]
            case 1:
                entry["data_offsets"] = [chance.choice(NUMBERS), chance.choice(NUMBERS)]
            case 2:
                entry["dtype"] = chance.choice(("F16", "F64", "I8", "U64", "F8_E4M3", "C64", "BF16", "", 7))
            case 3:
                entry[chance.choice(("shape", "dtype", "data_offsets", "format", "more"))] = chance.choice(VALUES)
            case 4:
                header[chance.choice((name + "x", "", "../x", "\x00", "__metadata__"))] = header.pop(name)
            case 5:
                header[chance.choice(sorted(header))] = chance.choice(VALUES)
            case 6:
                del header[name]
        if not header or not all(isinstance(entry, dict) for entry in header.values()):
            break
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + content[8 + length :]


@pytest.mark.parametrize("mutate", [mutated_bytes, mutated_header])
def test_mutations_of_a_header_load_or_are_refused(folder: Path, mutate) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    load_model(folder)
    chance = random.Random(5)
    refused = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATIONS // 2):
        path.write_bytes(mutate(content, chance))
        try:
            load_model(folder)
        except TinyslmError:
            refused += 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert refused > MUTATIONS // 4
    assert grown < 2 * len(content) + (32 << 20)  # the largest that the whole process ever was
