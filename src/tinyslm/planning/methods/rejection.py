"""Rejection sampling: sample several answers to each prompt, and learn the best ones (RAFT, Dong et al., 2023)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from tinyslm.core.errors import TinyslmError
from tinyslm.data.conversations import Conversation
from tinyslm.data.examples import held_out_numbers, question_hash
from tinyslm.data.prompts import Prompt, prompt_of
from tinyslm.evaluation.graders import find_grader
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.folder import load_model
from tinyslm.planning.methods.checking import checked_examples
from tinyslm.planning.methods.grpo import check_references
from tinyslm.planning.methods.method import Job, Method, Prepared
from tinyslm.planning.methods.sft import prepare_conversations
from tinyslm.training.rollouts import Sampler, grade_all, plain_sampling, read_grammar

AT_ONCE = 16
"""Number of prompts to answer at the same time."""


def prepare(job: Job) -> Prepared:
    """Sample the base's answers to the prompts, and prepare the best ones as conversations.

    Held-out prompts keep their reference answers, or get the best sampled ones if they have none. Raises `TinyslmError`
    if no answer scores high enough.
    """
    files = job.files
    examples = checked_examples(job, answered=False)
    check_references(job.config.train.grader, examples.conversations)
    train, valid = list(examples.conversations), list(examples.valid)
    if not files.valid:
        held_out = held_out_numbers({question_hash(one) for one in train})
        valid = [one for one in train if question_hash(one) in held_out]
        train = [one for one in train if question_hash(one) not in held_out]
    sampling = Sampling(job)
    kept = sampling.best(train)
    known = [one for one in valid if one.messages[-1]["role"] == "assistant"]
    return prepare_conversations(job, iter(kept), iter(known or sampling.best(valid)))


class Sampling:
    """Samples the base's answers to prompts, with the settings of grpo, and grades them."""

    def __init__(self, job: Job) -> None:
        config = job.config
        self._job, self._settings, self._least = job, config.grpo, config.rejection.least_score
        self._grader = find_grader(config.train.grader)
        device = pick_device(config.train.device)
        model = load_model(job.base, device=device, dense=True)
        self.context = model.config.longest
        grammar = read_grammar(config.grpo.grammar, job.tokenizer)
        self._sampler = Sampler(job.tokenizer, self.context, pick_dtype(device, config.train.dtype), grammar)
        self._sampler.load(model)
        minutes = config.train.minutes or math.inf
        self._end = time.monotonic() + 60 * minutes * config.rejection.time_share

    def best(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """The conversations whose best answer scores high enough, with this answer, until the time is over.

        Raises `TinyslmError` if there are none.
        """
        kept: list[Conversation] = []
        highest, answered = 0.0, 0
        for start in range(0, len(conversations), AT_ONCE):
            if answered and time.monotonic() > self._end:
                break
            part = conversations[start : start + AT_ONCE]
            for conversation, (score, text) in zip(part, self._answers(part, start), strict=True):
                highest = max(highest, score)
                if score >= self._least:
                    answer = {"role": "assistant", "content": text}
                    kept.append(replace(conversation, messages=[*question(conversation), answer]))
            answered += len(part)
            self._job.watch.event({"event": "sampling", "done": answered, "prompts": len(conversations)})
        left = f"; there was no time for {len(conversations) - answered:,}" if answered < len(conversations) else ""
        self._job.watch.notify(f"{len(kept):,} of {answered:,} prompts got an answer to learn{left}.")
        if not kept:
            raise TinyslmError(
                f"No answer scored {self._least:g} or more; the best scored {highest:.2f}.",
                "Lower --rejection.least-score, sample more answers (--grpo.group), or train on examples first.",
            )
        return kept

    def _answers(self, conversations: Sequence[Conversation], first: int) -> list[tuple[float, str]]:
        """The score and text of the best answer to each conversation."""
        settings = self._settings
        prompts = [self._prompt(one) for one in conversations]
        seeds = [
            (self._job.config.train.seed << 32) + (first + place) * settings.group for place in range(len(prompts))
        ]
        sampling = plain_sampling(settings.max_tokens, settings.temperature)
        best: list[tuple[float, str]] = []
        for prompt, answers in zip(
            prompts, self._sampler.answers(prompts, settings.group, sampling, seeds), strict=True
        ):
            texts = sorted({one.text for one in answers if one.finish == "stop" and one.text.strip()}, key=len)
            grades = grade_all(self._grader, ((prompt.example, text) for text in texts))
            scored = [(grade.score, text) for grade, text in zip(grades, texts, strict=True)]
            best.append(max(scored, key=lambda one: one[0], default=(0.0, "")))
        return best

    def _prompt(self, conversation: Conversation) -> Prompt:
        prompt = prompt_of(conversation, self._job.tokenizer)
        most = self.context - self._settings.max_tokens
        if len(prompt.ids) > most:
            raise TinyslmError(
                f"{conversation.place} has {len(prompt.ids)} tokens, and at most {most} leave room for an answer.",
                "Shorten or remove it, or lower --grpo.max-tokens.",
            )
        return prompt


def question(conversation: Conversation) -> list[dict[str, object]]:
    """The messages of a conversation before its last answer."""
    messages = list(conversation.messages)
    return messages[:-1] if messages[-1]["role"] == "assistant" else messages


REJECTION = Method(
    "sft",
    rates=(1e-3, 1e-4),
    prepare=prepare,
    needed=frozenset({"prompt"}),
    sections=frozenset({"grpo", "rejection", "sft", "replay"}),
    small_models_faster=True,
)
