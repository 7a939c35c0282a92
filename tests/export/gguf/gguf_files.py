"""Small GGUF files for tests, and ways to damage them."""

import random
import struct
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

INTERESTING = [0, 1, 2, 3, 7, 8, 9, 13, 0x7F, 0xFF, 0x100, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
HUGE = [1 << 31, 1 << 32, 1 << 40, 1 << 60, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]

WIDTH = 256
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


def write_tiny_llama(path: Path, change=lambda writer: None, *, tensors=lambda found: None, tokenizer=None) -> Path:
    """A whole model that imports: one block of width 32, 320 tokens, SentencePiece vocabulary.

    change(writer): more keys. tensors(found): changes to the tensors by name. tokenizer(writer): other vocabulary.
    """
    writer = GGUFWriter(path, "llama")
    for key, value in {
        "block_count": 1,
        "context_length": 64,
        "embedding_length": 32,
        "feed_forward_length": 64,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_uint32("llama.attention.head_count", 2)
    writer.add_uint32("llama.attention.head_count_kv", 1)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_uint32("llama.rope.dimension_count", 16)
    (tokenizer or add_sentencepiece)(writer)
    change(writer)
    random = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (320, 32),
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_k.weight": (16, 32),
        "blk.0.attn_v.weight": (16, 32),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_gate.weight": (64, 32),
        "blk.0.ffn_up.weight": (64, 32),
        "blk.0.ffn_down.weight": (32, 64),
    }
    found = {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    tensors(found)
    for name, values in found.items():
        writer.add_tensor(name, values)
    finish(writer)
    return path


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_sentencepiece(writer: GGUFWriter, pieces=("▁", "a", "b", "t", "h", "e", "th", "the", "▁the", "▁a")) -> None:
    """Three special tokens, 256 bytes, pieces with falling scores, fillers up to 320."""
    names = ["<unk>", "<s>", "</s>", *BYTE_TOKENS, *pieces]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(pieces)]
    kinds += [5] * (320 - len(names))
    names += [f"[PAD{token}]" for token in range(len(names), 320)]
    writer.add_string("tokenizer.ggml.model", "llama")
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_scores([0.0] * 259 + [-float(rank) for rank in range(320 - 259)])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)
    writer.add_uint32("tokenizer.ggml.unknown_token_id", 0)


def add_raw_tensor(writer: GGUFWriter, name: str, kind: GGMLQuantizationType, rows: int, seed: int = 0) -> None:
    """A tensor of `rows` times 256 values in any format, made of bytes whose scales are small numbers."""
    block, size = GGML_QUANT_SIZES[kind]
    content = np.random.default_rng(seed).integers(0, 50, (rows, WIDTH // block * size), np.uint8)
    writer.add_tensor(name, content, raw_shape=content.shape, raw_dtype=kind)


def mutated(content: bytes, header: int, chance: random.Random) -> bytes:
    """The file with one to three changes, most of them in its first `header` bytes."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(min(header, len(data)) or 1)
        match chance.randrange(8):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                data[place : place + 1] = bytes([data[place] ^ (1 << chance.randrange(8))]) if data else b""
            case 2:
                data[place : place + 8] = struct.pack("<Q", chance.choice(HUGE))
            case 3:
                data[place : place + 4] = struct.pack("<I", chance.choice(INTERESTING))
            case 4:
                del data[place:]
            case 5:
                del data[place : place + chance.randint(1, 16)]
            case 6:
                data[place:place] = chance.randbytes(chance.randint(1, 16))
            case 7:
                start = chance.randrange(len(data) or 1)
                data[place : place + 16] = data[start : start + 16]
    return bytes(data)
