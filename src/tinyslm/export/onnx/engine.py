"""An exported ONNX folder as an `Engine`: ONNX Runtime computes, and everything else is our own engine's.

Scheduling, sampling, grammars, stop strings, guesses and the reuse of prompts are those of `BatchEngine`. A seed gives
the same text again when the request runs alone; beside others, products are added up in another order, and draws and
close calls may come out otherwise.

ONNX Runtime computes one token of a text less precisely than several, where matrices are rounded: it rounds what is
multiplied with them, too. Guesses would change the text then, so there are none for such graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from tinyslm.core.errors import TinyslmError
from tinyslm.export.onnx.lanes import Lanes
from tinyslm.export.onnx.session import OnnxModel, open_model
from tinyslm.inference.batch_engine import BatchEngine, EngineOptions
from tinyslm.inference.drawing import Draws, draw
from tinyslm.inference.engine import Engine
from tinyslm.inference.generation import Generation, Sink
from tinyslm.inference.request import EngineStats, Request
from tinyslm.inference.runner import Rows
from tinyslm.inference.speculation import Guesser
from tinyslm.inference.torch_runner import BLOCK
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

KEPT = 4
"""Groups of sequences whose lanes are kept for their next step."""

Array = NDArray[Any]


class OnnxRunner:
    """A graph with its keys and values in `blocks` blocks of 16 positions.

    The blocks hold what is true. Sequences that go through the graph together are copied to lanes before, and stay
    there while each step goes on from the one before; what they add is copied to the blocks after each step.
    """

    name = "onnx"
    block_size = BLOCK

    def __init__(self, model: OnnxModel, blocks: int) -> None:
        sizes = model.sizes
        self.vocab_size = sizes.vocab_size
        self._model = model
        # Zeros, so that memory is taken only where something is stored.
        self._blocks = np.zeros((2 * sizes.depth, blocks, sizes.kv_heads, BLOCK, sizes.head_dim), np.float32)
        self._writes = np.zeros(blocks, np.int64)
        self._groups: list[_Group] = []

    def run(self, rows: Rows) -> NDArray[np.float32]:
        """Logits `[w, vocab_size]` of the wanted rows; they are overwritten by the next call."""
        sequences, starts, counts = np.unique(rows.sequences, return_index=True, return_counts=True)
        sizes = np.unique(counts)
        logits_wv = np.empty((0 if len(sizes) == 1 else len(rows.wanted), self.vocab_size), np.float32)
        for count in sizes:
            chosen = counts == count
            places, found = self._run_group(rows, starts[chosen][:, None] + np.arange(count), sequences[chosen])
            if len(sizes) == 1:
                return found
            logits_wv[np.searchsorted(rows.wanted, places)] = found
        return logits_wv

    def hidden(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Final hidden states of one text, fp32 `[t, dim]`; does not touch the blocks."""
        lanes = Lanes(self._model, np.zeros(1, np.int64), len(ids))
        _, hidden_btd = lanes.run(np.array([ids]), np.arange(len(ids)))
        found: NDArray[np.float32] = hidden_btd[0]
        return found

    def draw(self, logits_wv: NDArray[np.float32], draws: Draws) -> NDArray[np.int32]:
        """Ids of the tokens drawn from each row."""
        return draw(logits_wv, draws)

    def _run_group(self, rows: Rows, places_bt: Array, sequences: Array) -> tuple[Array, Array]:
        """The wanted ones among rows of sequences that have equally many, and their logits."""
        starts, count = rows.positions[places_bt[:, 0]].astype(np.int64), places_bt.shape[1]
        group = self._group(rows.tables[sequences], starts, count)
        wanted_bt = np.isin(places_bt, rows.wanted)
        columns = np.flatnonzero(wanted_bt.any(0))
        logits_bwv, _ = group.lanes.run(rows.ids[places_bt], columns if len(columns) else np.array([count - 1]))
        self._store(group, starts, count)
        chosen_bw = wanted_bt[:, columns] if len(columns) else np.zeros((len(places_bt), 1), bool)
        if chosen_bw.all():
            return places_bt[:, columns].flatten(), logits_bwv.reshape(-1, self.vocab_size)
        return places_bt[:, columns][wanted_bt[:, columns]], logits_bwv[chosen_bw]

    def _group(self, tables: Array, starts: Array, count: int) -> _Group:
        """Lanes that hold what these sequences have stored before `starts`, with room for `count` tokens more."""
        group = next((one for one in self._groups if one.holds(tables, starts, self._writes)), None)
        if group is not None:
            self._groups.remove(group)
            group.lanes.cut(starts)
        if group is None or not group.lanes.has_room(count):
            del self._groups[: max(0, len(self._groups) + 1 - KEPT)]
            group = _Group(self._filled(tables, starts, count))
        self._groups.append(group)
        group.see(tables, self._writes)
        return group

    def _filled(self, tables: Array, starts: Array, count: int) -> Lanes:
        """New lanes with keys and values from the blocks."""
        lanes = Lanes(self._model, starts, count)
        for lane, (table, start) in enumerate(zip(tables, starts, strict=True)):
            stored_ngsk = self._blocks[:, table[: -(-start // BLOCK)]].swapaxes(1, 2)
            n, g, blocks, _, k = stored_ngsk.shape
            first = lanes.places[lane, 0]
            whole_ngsk = stored_ngsk.reshape(n, g, blocks * BLOCK, k)
            lanes.buffers[:, lane, :, first : first + start] = whole_ngsk[:, :, :start]
        return lanes

    def _store(self, group: _Group, starts: Array, count: int) -> None:
        """Copy the last `count` tokens of each lane, which lie together there, to the blocks."""
        for lane, start in enumerate(starts.tolist()):
            shift = int(group.lanes.places[lane, start]) - start
            for first in range(start - start % BLOCK, start + count, BLOCK):
                begin, end = max(first, start), min(first + BLOCK, start + count)
                number = group.tables[lane, first // BLOCK]
                new_ngsk = group.lanes.buffers[:, lane, :, begin + shift : end + shift]
                self._blocks[:, number, :, begin - first : end - first] = new_ngsk
                self._writes[number] += 1
                group.seen[lane, first // BLOCK] = self._writes[number]


@dataclass
class _Group:
    """Lanes, the blocks that hold the same, and how often each of these had been written when they did."""

    lanes: Lanes
    tables: Array = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    seen: Array = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def holds(self, tables: Array, starts: Array, writes: Array) -> bool:
        """Whether these are its sequences, unchanged up to `starts`; new ones are nobody's."""
        if len(tables) != len(self.tables) or (starts > self.lanes.lengths).any() or not starts.all():
            return False
        for lane, start in enumerate(starts):
            used = -(-start // BLOCK)
            old, new = self.tables[lane, :used], tables[lane, :used]
            if not (np.array_equal(old, new) and np.array_equal(self.seen[lane, :used], writes[new])):
                return False
        return True

    def see(self, tables: Array, writes: Array) -> None:
        """Its sequences have these blocks now."""
        self.tables = tables
        self.seen = writes[tables]


class OnnxEngine(Engine):
    """A folder that `export --to onnx` wrote."""

    name = "onnx"

    def __init__(
        self,
        folder: str | Path,
        options: EngineOptions | None = None,
        *,
        threads: int = 1,
        guesser: Callable[[], Guesser] | None = None,
    ) -> None:
        """Load it. guesser: what guesses ahead, see `BatchEngine`.

        Raises `TinyslmError` for a folder that is damaged or was written in another way, and for a guesser that would
        change the text.
        """
        folder, options = Path(folder), options or EngineOptions()
        self.tokenizer = Tokenizer.load(folder)
        model = open_model(folder, threads)
        if model.rounded:
            if guesser is not None:
                raise TinyslmError(
                    f"Guesses would change the text of {folder}: ONNX Runtime computes several tokens otherwise than "
                    "one where matrices are rounded.",
                    "Leave the draft out, or use the engine native.",
                )
            options = replace(options, guesses=0)
        self._engine = BatchEngine(
            _sized(model), self.tokenizer, options,
            runner=lambda _, blocks: OnnxRunner(model, blocks), guesser=guesser,
        )  # fmt: skip
        self.context = self._engine.context

    def submit(self, request: Request, sink: Sink | None = None) -> Generation:
        """See `Engine.submit`."""
        return self._engine.submit(request, sink)

    def start(self) -> None:
        """See `Engine.start`."""
        self._engine.start()

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        return self._engine.stats()

    def embed(self, ids: Sequence[int]) -> NDArray[Any]:
        """See `Engine.embed`."""
        return self._engine.embed(ids)


class _Sized:
    """What `BatchEngine` asks of a model when it is given a runner: its sizes, and the format of its cache."""

    dtype = torch.float32

    def __init__(self, config: ModelConfig) -> None:
        self.config = config


def _sized(model: OnnxModel) -> Decoder:
    sizes = model.sizes
    config = ModelConfig(
        vocab_size=sizes.vocab_size,
        dim=sizes.dim,
        depth=sizes.depth,
        heads=sizes.kv_heads,
        kv_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        context=sizes.context,
    )
    return cast(Decoder, _Sized(config))
