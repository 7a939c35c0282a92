"""A `Decoder`, quantized or not, as a runtime: its modules score texts, and the engine generates.

Shape legend: r rows, t tokens of a row, n positions whose next token is scored, c of them at once, v vocab_size.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tinyslm.evaluation.answers import Answers, GenerationRequest, fit, plain_chat
from tinyslm.evaluation.continuations import Progress, Reading, TokenRequest, TokenScores
from tinyslm.evaluation.protocols import Array, Message, Prompt, prompt_ids
from tinyslm.evaluation.token_trees import Row, pack
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.request import Completion, Request
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.vocabulary import MESSAGE_START

ROW_TOKENS = 256
TOKENS_AT_ONCE = 4096
LOGITS_AT_ONCE = 2**24
SUBMITTED = 64
"""Prompts that are submitted to the engine at a time."""


class ModelRuntime:
    """A model and its tokenizer as a `Runtime`."""

    one_pass = True

    def __init__(self, model: Decoder, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def open(cls, path: Path, dtype: torch.dtype = torch.float32) -> "ModelRuntime":
        """The model of a model folder or run folder, computing in `dtype`."""
        folder = find_model(path)
        return cls(load_model(folder, dtype=dtype), load_tokenizer(folder))

    @property
    def reading(self) -> Reading:
        """How the model reads texts: as in training, after the token that ends the previous text."""
        return Reading(self.tokenizer.start_ids or (self.tokenizer.eos_id,), self.model.config.longest)

    @cached_property
    def engine(self) -> Engine:
        """The engine that generates."""
        return Engine(self.model, self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """See `Scorer`."""
        return self.tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[Message]) -> list[int] | None:
        """See `Scorer`."""
        if self.tokenizer.chat_template is None:
            return None
        return encode_chat(self.tokenizer, messages, add_generation_prompt=True)

    def logprobs(self, ids: Sequence[int], positions: Sequence[int]) -> Array:
        """See `Scorer`."""
        with torch.inference_mode():
            logits_tv = self.model(torch.tensor([list(ids)], device=self.model.device))[0, list(positions)]
            found: Array = logits_tv.float().log_softmax(-1).cpu().numpy()
        return found

    def score_many(self, requests: Sequence[TokenRequest], progress: Progress) -> list[TokenScores]:
        """See `BatchScorer`: computes common prefixes of requests once."""
        found: list[TokenScores] = [(0.0, True)] * len(requests)
        switch = self.model.config.switch_length  # texts of more tokens have other rotary frequencies
        numbers = sorted(range(len(requests)), key=lambda number: _inputs(requests[number]) > switch > 0)
        done = 0
        for longer, part in groupby(numbers, key=lambda number: _inputs(requests[number]) > switch > 0):
            chosen = list(part)
            ids = [(*requests[number].read, *requests[number].scored)[:-1] for number in chosen]
            for rows in _batches(pack(ids, ROW_TOKENS)):
                length = self.model.config.longest if longer else max(max(row.positions) for row in rows) + 1
                for index, score in self._score_rows(rows, [requests[number] for number in chosen], length):
                    found[chosen[index]] = score
                    done += 1
                progress("scoring", done, len(requests))
        return found

    def _score_rows(
        self, rows: Sequence[Row], requests: Sequence[TokenRequest], length: int
    ) -> Iterator[tuple[int, TokenScores]]:
        """Score the requests in these rows. length: tokens of the longest request."""
        size = max(len(row.ids) for row in rows)
        places: list[int] = []
        targets: list[int] = []
        owners: list[tuple[int, int]] = []
        for index, row in enumerate(rows):
            for number, path in row.paths.items():
                request = requests[number]
                scored = request.scored if request.read else request.scored[1:]
                places += [index * size + place for place in path[len(path) - len(scored) :]]
                targets += scored
                owners.append((number, len(scored)))
        with torch.inference_mode():
            hidden = self._hidden(rows, size, length).flatten(0, 1)
            logprobs, best = self._target_logprobs(hidden, np.array(places, np.int64), np.array(targets, np.int64))
        start = 0
        for number, count in owners:
            part = slice(start, start + count)
            start += count
            yield number, (float(logprobs[part].sum()), bool(best[part].all()))

    def _hidden(self, rows: Sequence[Row], size: int, length: int) -> Tensor:
        """The hidden states before the output projection, `[r, t, d]`."""
        device, window = self.model.device, self.model.config.window
        ids_rt, positions_rt = np.zeros((2, len(rows), size), np.int64)
        masks_rtt = np.empty((len(rows), size, size), dtype=bool)
        for index, row in enumerate(rows):
            ids_rt[index, : len(row.ids)] = row.ids
            positions_rt[index, : len(row.ids)] = row.positions
            masks_rtt[index] = row.mask(size)
        positions = torch.from_numpy(positions_rt).to(device)
        mask = torch.from_numpy(masks_rtt).to(device)[:, None]
        near = mask & (positions[:, None, :, None] - positions[:, None, None, :] < window) if window else None
        trunk = self.model.model
        return trunk.run(torch.from_numpy(ids_rt).to(device), trunk.attention_context(positions, mask, near, length))

    def _target_logprobs(self, hidden: Tensor, places_n: Array, targets_n: Array) -> tuple[Array, Array]:
        """Log-probabilities of the targets, fp64 `[n]`, from fp32 logits; and whether each is the most probable."""
        needed, which_n = np.unique(places_n, return_inverse=True)
        order = np.argsort(which_n, kind="stable")
        logprobs_n, best_n = np.empty(len(places_n)), np.empty(len(places_n), dtype=bool)
        step = max(64, LOGITS_AT_ONCE // self.model.config.vocab_size)
        bounds = np.searchsorted(which_n[order], range(0, len(needed) + step, step))
        for chunk, (low, high) in enumerate(pairwise(bounds)):
            mine = order[low:high]
            at = torch.from_numpy(needed[chunk * step : (chunk + 1) * step]).to(hidden.device)
            logits_cv = self.model.logits(hidden[at]).float()
            local = torch.from_numpy(which_n[mine] - chunk * step).to(hidden.device)
            chosen = logits_cv[local, torch.from_numpy(targets_n[mine]).to(hidden.device)]
            logprobs_n[mine] = (chosen - logits_cv.logsumexp(-1)[local]).double().cpu().numpy()
            best_n[mine] = (chosen >= logits_cv.amax(-1)[local]).cpu().numpy()
        return logprobs_n, best_n

    def generate(self, prompt: Prompt, settings: SamplingSettings) -> Completion:
        """See `Generator`."""
        return self.engine.submit(Request(tuple(prompt_ids(self, prompt)), settings)).whole()[0]

    def answer_many(
        self, asked: Sequence[GenerationRequest], reading: Reading, settings: SamplingSettings, progress: Progress
    ) -> Answers:
        """See `BatchGenerator`; tool calls are constrained to the tools' schemas, and other answers as asked."""
        found: list[Completion] = []
        truncated, notes = 0, set()
        grammars: dict[str, Grammar | None] = {}  # by the tools: making one takes longer than a short answer
        for start in range(0, len(asked), SUBMITTED):
            generations = []
            for one in asked[start : start + SUBMITTED]:
                ids, note = self._prompt(one, reading)
                fitting = fit(ids, reading, settings.max_tokens)
                truncated += fitting != ids
                notes.add(note)
                key = json.dumps(one.tools) if one.tools or one.constraint is None else one.constraint.key
                if key not in grammars:
                    grammars[key] = self._grammar(one)
                request = Request(fitting, settings, grammar=grammars[key], continues=isinstance(one.prompt, str))
                generations.append(self.engine.submit(request))
            for generation in generations:
                found += generation.whole()
                progress("answering", len(found), len(asked))
        return Answers(found, truncated, tuple(sorted(notes - {""})))

    def _grammar(self, asked: GenerationRequest) -> Grammar | None:
        """What the answer must follow; a model that may call tools follows their schemas only."""
        if asked.tools:
            return tools_grammar(asked.tools, "auto", parallel=True, tokenizer=self.tokenizer)
        return asked.constraint.compile(self.tokenizer) if asked.constraint else None

    def _prompt(self, asked: GenerationRequest, reading: Reading) -> tuple[tuple[int, ...], str]:
        """The ids of a prompt, and a note if it is a conversation and the model has no chat template."""
        if isinstance(asked.prompt, str):
            return (*reading.prefix, *self.encode(asked.prompt)), ""
        if self.tokenizer.chat_template is None and MESSAGE_START not in self.tokenizer.special_ids:
            text = plain_chat(asked.prompt)
            return (
                *reading.prefix,
                *self.encode(text),
            ), "the model has no chat template: conversations were given to it as plain text"
        return self.engine.chat_ids(asked.prompt, asked.tools), ""


def _inputs(request: TokenRequest) -> int:
    """The number of tokens that the model reads."""
    return len(request.read) + len(request.scored) - 1


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Group rows into batches; each batch is padded to its longest row."""
    batch: list[Row] = []
    for row in rows:
        size = max(len(one.ids) for one in (row, *batch))
        if batch and size * (len(batch) + 1) > TOKENS_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
