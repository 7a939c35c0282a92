"""What a course is about: the reader's model, a sentence, and what its run kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.data.examples import is_examples, open_examples
from tinyslm.data.shards import Shards, is_shards
from tinyslm.data.standard_library import standard_library
from tinyslm.inspection.inspecting import Inspection, inspect
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer
from tinyslm.tokenizer.shown import Token, show_token
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.checkpoint import list_checkpoints, load_weights
from tinyslm.training.run_folder import RunFolder
from tinyslm.training.validation import even_windows, spread_documents

LONGEST = 48
"""Tokens of the sentence: more do not fit on a page."""
HELD_OUT_TOKENS = 8_192
"""Held-out tokens that an experiment is measured on."""
TEXT, PART = 200_000, 4_000
"""Characters of `texts`, about, and of each of them, at most."""


@dataclass(frozen=True)
class Subject:
    """A model in fp32 and a sentence to follow through it.

    folder: the model folder. run: the run that made the model; `None` if that is not known. ids: the tokens of the
    sentence, with what the model expects before them.
    """

    folder: Path
    run: RunFolder | None
    model: Decoder
    tokenizer: Tokenizer
    text: str
    ids: Sequence[int]

    @classmethod
    def open(cls, place: Path, text: str) -> Subject:
        """From a model folder or a run folder. Raises `TinyslmError` for a sentence of too many or no tokens."""
        folder = find_model(place)
        model, tokenizer = load_model(folder, dense=True).float().eval(), load_tokenizer(folder)
        ids = [*tokenizer.start_ids, *tokenizer.encode(text)]
        longest = min(LONGEST, model.config.longest)
        if not 2 <= len(ids) <= longest:
            raise TinyslmError(
                f"The sentence has {len(ids)} tokens; the course follows 2 to {longest} of them.",
                "Give another sentence with --text.",
            )
        run = RunFolder(place) if (place / "config.json").is_file() and folder != place else None
        return cls(folder, run, model, tokenizer, text, ids)

    @cached_property
    def inspection(self) -> Inspection:
        """The sentence as the model reads it."""
        return inspect(self.model, self.tokenizer, self.ids)

    @cached_property
    def tokens(self) -> list[Token]:
        """The tokens of the sentence."""
        return [show_token(self.tokenizer, token) for token in self.ids]

    @cached_property
    def held_out(self) -> Tensor | None:
        """Windows `[n, context + 1]` of the run's held-out text; `None` if it has none, or lost it."""
        if self._data is None or not is_shards(self._data):
            return None
        split = Shards.open(self._data, verify=False).split("valid")
        return even_windows(split, self.model.config.context, HELD_OUT_TOKENS)

    @cached_property
    def texts(self) -> list[str]:
        """Parts of what the run learned from; of the standard library's source if that is not there."""
        if self._data is not None and is_shards(self._data):
            split = Shards.open(self._data, verify=False).split("train")
            share = max(1, TEXT * split.tokens // max(1, split.utf8_bytes))
            return [self.tokenizer.decode(ids)[:PART] for ids, _ in spread_documents(split, share)]
        if self._data is not None and is_examples(self._data):
            examples = open_examples(self._data)[0]
            every = max(1, int(examples.lengths.sum()) * 4 // TEXT)
            chosen = (examples[number].ids.tolist() for number in range(0, len(examples), every))
            return [self.tokenizer.decode(ids, skip_special=True)[:PART] for ids in chosen]
        files = standard_library()
        chosen_files = files[:: max(1, len(files) * PART // TEXT)]
        return [Path(file).read_text("utf-8", "replace")[:PART] for file in chosen_files]

    @property
    def has_data(self) -> bool:
        """Whether `texts` are the run's own."""
        return self._data is not None

    @cached_property
    def _data(self) -> Path | None:
        """The folder of the run's data, checked; `None` if it is not there any more, or not the same."""
        if self.run is None or not self.run.data_file.is_file():
            return None
        try:
            return self.run.checked_data(self.run.read_config())
        except TinyslmError:
            return None

    @cached_property
    def snapshots(self) -> list[tuple[int, Path]]:
        """The run's kept weights, by the updates until then; the first are untrained.

        Empty without any, and for a run that trained adapters, whose snapshots hold only these.
        """
        if self.run is None or self.run.adapter.is_dir():
            return []
        return [(int(path.name.removeprefix("step-")), path) for path in list_checkpoints(self.run.snapshots)]

    def snapshot_models(self) -> Iterator[tuple[int, Decoder]]:
        """The model at each of `snapshots`. It is one object that changes: use it before you take the next."""
        model = load_model(self.folder, mapped=False).float().eval()
        for step, path in self.snapshots:
            load_weights(path, model)
            yield step, model

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """What the model computes for each place of a text, `[tokens, vocab_size]`."""
        logits_tv: Tensor = self.model(torch.tensor([list(ids)]))[0]
        return logits_tv
