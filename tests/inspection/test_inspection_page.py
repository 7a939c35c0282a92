"""The page that `tinyslm look` writes."""

import base64
import re
import struct
import zlib

import numpy as np
import pytest
import torch

from tinyslm.inspection.inspecting import inspect
from tinyslm.inspection.page import inspection_page, png
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder


def pixels(picture: bytes) -> np.ndarray:
    """A PNG without filters, read back: `[height, width, 3]`."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        chunk = picture[at + 8 : at + 8 + length]
        assert struct.unpack(">I", picture[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + chunk)
        if kind == b"IHDR":
            width, height, *form = struct.unpack(">IIBBBBB", chunk)
            assert form == [8, 2, 0, 0, 0]
        if kind == b"IDAT":
            data += chunk
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def test_pictures_hold_what_was_drawn() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(pixels(png(colours)), colours)


@pytest.fixture(scope="module")
def found(byte_tokenizer):
    torch.manual_seed(3)
    shape = {"dim": 32, "heads": 4, "depth": 3, "context": 64, "vocab_size": byte_tokenizer.vocab_size}
    model = Decoder(ModelConfig(**shape)).eval()
    return inspect(model, byte_tokenizer, byte_tokenizer.encode("a <b>\nz é"))


@pytest.mark.parametrize(("layer", "pictures"), [(None, 3), (1, 4)])
def test_the_page_shows_tokens_and_attention(found, layer, pictures) -> None:
    html = inspection_page(found, "my <model>", layer)
    assert "<script" not in html
    assert "//" not in re.sub(r"data:[^\"]*", "", html)
    assert "Inside my &lt;model&gt;" in html
    faces = re.findall(r'<span class="token[^>]*>([^<]*)</span>', html)
    pieces = ["a", "·", "&lt;", "b", "&gt;", "↵", "z", "·", "⟨C3⟩", "⟨A9⟩"]
    assert faces == [*pieces, "words", "digits", "spaces", "punctuation", "bytes", "special", *pieces]
    assert "of the loss" in html
    drawn = [pixels(base64.b64decode(data)) for data in re.findall(r'base64,([^"]*)', html)]
    assert len(drawn) == pictures
    for number, picture in enumerate(drawn, 1):
        shares = found.attention(number) if layer is None else found.attention(layer, number)
        zoom = len(picture) // len(shares)
        blue = picture[zoom // 2 :: zoom, zoom // 2 :: zoom, 0].astype(float)  # the more, the less red
        below = np.tril_indices(len(shares))
        assert np.corrcoef(blue[below], -(shares[below] ** 0.6))[0, 1] > 0.999
        assert (blue[np.triu_indices(len(shares), 1)] == 241).all()
