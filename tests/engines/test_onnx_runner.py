"""The ONNX runner against the model's own modules: whatever sequences do, and whoever gets their blocks."""

import numpy as np
import pytest

from tinyslm.export.onnx.engine import OnnxRunner
from tinyslm.export.onnx.session import open_model
from tinyslm.inference.runner import Rows
from tinyslm.inference.torch_runner import TorchRunner

BLOCKS = 24


class Texts:
    """Random texts in blocks: they grow by some tokens, lose some, end, and others get their blocks."""

    def __init__(self, seed: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.free = list(range(BLOCKS))
        self.texts: list[dict] = []

    def step(self) -> Rows | None:
        """What the next step computes."""
        chance = self.chance
        if len(self.texts) < 4 and chance.random() < 0.3:
            self.texts.append({"table": [], "length": 0})
        if self.texts and chance.random() < 0.1:
            self.free += self.texts.pop(chance.integers(len(self.texts)))["table"]
        works = [self._grown(text) for text in self.texts if chance.random() < 0.8]
        return self._rows([work for work in works if work])

    def _grown(self, text: dict) -> tuple[dict, int, int] | None:
        chance, length = self.chance, text["length"]
        count = int(chance.choice([1, 1, 1, 2, 5])) if length else int(chance.integers(1, 30))
        start = length - int(chance.choice([0, 0, 0, 1, 2])) if length > 3 else length
        while len(text["table"]) * 16 < start + count and self.free:
            text["table"].append(self.free.pop(int(chance.integers(len(self.free)))))
        if start + count > min(100, len(text["table"]) * 16):
            return None
        text["length"] = start + count
        return text, start, count

    def _rows(self, works: list[tuple[dict, int, int]]) -> Rows | None:
        if not works:
            return None
        counts = [count for *_, count in works]
        tables = np.full((len(works), max(len(text["table"]) for text, *_ in works)), -1, np.int32)
        for row, (text, *_) in enumerate(works):
            tables[row, : len(text["table"])] = text["table"]
        stops = np.cumsum(counts)
        some = [self.chance.integers(0 if count > 3 else 1, min(count, 3) + 1) for count in counts]
        return Rows(
            ids=self.chance.integers(0, 500, sum(counts)).astype(np.int32),
            positions=np.concatenate([np.arange(start, start + count) for _, start, count in works]).astype(np.int32),
            sequences=np.repeat(np.arange(len(works)), counts).astype(np.int32),
            tables=tables,
            wanted=np.concatenate(
                [np.arange(stop - last, stop) for stop, last in zip(stops, some, strict=True)]
            ).astype(np.int32),
        )


@pytest.mark.parametrize("seed", range(3))
def test_logits_are_the_model_s_own(places, decoder, seed: int) -> None:
    ours, theirs = OnnxRunner(open_model(places["onnx"], 1), BLOCKS), TorchRunner(decoder, BLOCKS)
    texts, compared = Texts(seed), 0
    for _ in range(120):
        rows = texts.step()
        if rows is not None:
            np.testing.assert_allclose(ours.run(rows), theirs.run(rows), atol=2e-3)
            compared += len(rows.wanted)
    assert compared > 100
