"""Whether an exported model is still the original: tried in the program that will run it, then judged.

The runtime speaks first and the original checks what it said: tokens are the original's greedy tokens if each of them
is what the original finds most probable there. So the original never generates, and one pass over a text is enough.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

import numpy as np
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.core.printable import one_line
from tinyslm.evaluation.loss import kl_divergence
from tinyslm.evaluation.protocols import Array, Generator, Runtime, greedy
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.evaluation.speed import tokens_per_second
from tinyslm.export.format import Original, Scheme
from tinyslm.export.probes import CONVERSATIONS, PROMPTS, SCRIPTS, strings
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.sandbox import template_error
from tinyslm.tokenizer.tokenizer import Tokenizer

STRINGS = 500
GREEDY_TOKENS = 32
TIE = 1e-3
"""Two tokens whose log-probabilities differ by less are equally good: rounding decides between them."""
PASSAGES = 8
PASSAGE_TOKENS = 64
PAST_WINDOW = 32
"""Where attention has a window, a text goes so many tokens past it."""
LARGEST = 150_000_000
"""Log-probabilities of one text (0.6 GB, enough for Gemma 3): a window too long for that is not passed."""
ENOUGH = 1024
"""No text is longer but for a window."""
POSITIONS = 96
"""Where a runtime scores one position at a time, so many are compared; else all of the passages. A quarter of them for
vocabularies over 16k, as a position then takes as long as a second."""
SURE = 0.5
"""A text has ended where the original gives its end so much probability: a rounded model must mostly end it, too."""


@dataclass(frozen=True)
class Findings:
    """How often the runtime did the same as the original, of how many trials.

    prompts_equal counts ties, too. mean_kl: nats, of the original from the export, over `positions`. chats: by the
    runtime's own reading of the chat template (none tried where it has no such thing). ends: places where the
    original ends the text. other: the first thing that was not the same, in words. tokens_per_second: generating,
    `None` where the model ends every text at once. greedy_tokens: after each prompt. past_window: whether a text was
    longer than the model's attention window; `None` where it has none.
    """

    strings: int
    strings_equal: int
    prompts: int
    prompts_equal: int
    ties: int
    positions: int
    mean_kl: float
    chats: int
    chats_equal: int
    ends: int
    ends_equal: int
    tokens_per_second: float | None
    other: str = ""
    greedy_tokens: int = GREEDY_TOKENS
    past_window: bool | None = None

    def meaning(self, *, failed: bool) -> str:
        """What the first difference means, and whether it matters, in one sentence. failed: by the verdict.

        The mean KL is how much more the export loses than the original, per token of the original's own text.
        """
        if self.strings_equal < self.strings:
            return (
                "The program cuts such a text into tokens that the model did not learn it from, and answers it worse."
            )
        if failed:
            return "The program does not compute what the model computes, so what it writes is not the model's text."
        share = math.expm1(max(0.0, self.mean_kl))
        matters = next(words for limit, words in MATTERS if share < limit)
        return (
            "Rounding changed which of several likely tokens came first, and the text goes another way from there; "
            f"on average, perplexity rises by {share:.1%}: {matters}."
        )


MATTERS = (
    (0.01, "this hardly matters"),
    (0.1, "answers may differ in wording, and are about as good"),
    (math.inf, "this is noticeable, so compare the answers with `tinyslm compare` first"),
)
"""What a relative rise in perplexity below a limit means."""


def judge(found: Findings, scheme: Scheme) -> str:
    """ "ok", or "failed: " and why, by what the scheme promises.

    Ids and conversations must always be equal. An exact scheme must also give equal greedy tokens and end where the
    original ends; of a rounded one, half of the ends (rounded down) are demanded: near a threshold, rounding decides.
    """
    wrong = []
    if found.strings_equal < found.strings:
        wrong.append(f"{found.strings - found.strings_equal} of {found.strings} strings have other ids")
    if found.chats_equal < found.chats:
        wrong.append(f"{found.chats - found.chats_equal} of {found.chats} conversations have other ids")
    if scheme.exact and found.prompts_equal < found.prompts:
        wrong.append(f"{found.prompts - found.prompts_equal} of {found.prompts} prompts are continued otherwise")
    if found.ends_equal < (found.ends if scheme.exact else found.ends // 2):
        wrong.append(f"{found.ends - found.ends_equal} of {found.ends} texts do not end where they should")
    if not found.mean_kl <= scheme.largest_kl:  # so that "not a number" is wrong, too
        wrong.append(f"mean KL is {found.mean_kl:.3g}, more than {scheme.largest_kl:g}")
    return f"failed: {'; '.join(wrong)}" if wrong else "ok"


def measure(runtime: Runtime, reference: "Reference", scheme: Scheme) -> Findings:
    """Try a runtime with everything that the reference has.

    Ends are tried where the original is sure of them; for an exact scheme, also where the end is merely likeliest.
    """
    texts = [text for text, ids in reference.strings if runtime.encode(text) != ids]
    chats = [(runtime.encode_chat(messages), ids) for messages, ids in reference.conversations]
    chats = [(theirs, ids) for theirs, ids in chats if theirs is not None]
    agreements = [_agreement(runtime, reference, prompt, reference.greedy_tokens) for prompt in reference.prompts]
    divergences = _divergences(runtime, reference)
    ends = [_agreement(runtime, reference, ids, 1) for ids in reference.ends(0.0 if scheme.exact else SURE)]
    ends += [agreement for agreement in agreements if agreement.end]
    differing = next((agreement.other for agreement in agreements if not agreement.equal), "")
    return Findings(
        strings=len(reference.strings),
        strings_equal=len(reference.strings) - len(texts),
        prompts=len(agreements),
        prompts_equal=sum(agreement.equal for agreement in agreements),
        ties=sum(agreement.tie for agreement in agreements),
        positions=len(divergences),
        mean_kl=float(np.mean(divergences)),
        chats=len(chats),
        chats_equal=sum(theirs == ids for theirs, ids in chats),
        ends=len(ends),
        ends_equal=sum(agreement.equal for agreement in ends),
        tokens_per_second=decoding_speed(runtime, reference.prompts, reference.greedy_tokens),
        other=f"other ids: {one_line(repr(texts[0]), 80)}" if texts else differing,
        greedy_tokens=reference.greedy_tokens,
        past_window=bool(reference.past_window) if reference.window else None,
    )


class Reference:
    """What there is to try, and what the original does there.

    texts: what the model is meant for (calibration or held-out text); prompts and passages are cut from them. Without
    them, the model's own samples and a fixed list take their place. count: of strings. longest: how many tokens the
    runtime reads; by default as many as the model.
    """

    def __init__(
        self, original: Original, texts: Sequence[str] = (), count: int = STRINGS, longest: int | None = None
    ) -> None:
        self._original = ModelRuntime(original.model, original.tokenizer)
        self._source = original.source
        self.vocab_size = original.model.config.vocab_size
        self._texts = texts
        self._count = count
        config = original.model.config
        self.window = config.window
        self.context = max(2, reach(original.model, config.longest if longest is None else longest))
        self.greedy_tokens = max(1, min(GREEDY_TOKENS, self.context // 2))
        self.stop_ids = set(original.tokenizer.stop_ids)

    def logprobs(self, ids: Sequence[int]) -> Array:
        """The original's log-probabilities after each of `ids`, fp32 `[len(ids), vocab_size]`."""
        return self._original.logprobs(ids, range(len(ids)))

    @cached_property
    def strings(self) -> list[tuple[str, list[int]]]:
        """Varied strings and their ids.

        For a tokenizer that composes characters first (NFC), only strings that are composed: llama.cpp does not
        compose, which its format notes.
        """
        texts = strings(self._count)
        if "NFC" in json.dumps(self._source.tokenizer.content.get("normalizer")):
            texts = [text for text in texts if unicodedata.is_normalized("NFC", text)]
        return [(text, self._original.encode(text)) for text in texts]

    @cached_property
    def conversations(self) -> list[tuple[list[dict[str, str]], list[int]]]:
        """Conversations and their ids, with the beginning of the answer; none for a model without a template."""
        return _conversations(self._source.tokenizer)

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Ids to go on from: the beginnings of texts, and conversations."""
        texts = [*PROMPTS[: len(PROMPTS) // 2], *self._spread(len(PROMPTS) // 2)] if self._texts else PROMPTS
        room = self.context - self.greedy_tokens
        prompts = [self._begun(text)[: min(16, room)] for text in texts]
        past = [self.past_window[:room]] if min(len(self.past_window), room) > self.window else []
        return prompts + past + [ids for _, ids in self.conversations if len(ids) <= room]

    @cached_property
    def passages(self) -> list[list[int]]:
        """Ids of passages on which probabilities are compared."""
        if self._texts:
            texts = self._spread(PASSAGES)
        else:
            texts = [*self._samples(PASSAGES // 2), *SCRIPTS[: PASSAGES // 4], " ".join(PROMPTS[:9]), PROMPTS[2]]
        return [self._begun(text)[: min(PASSAGE_TOKENS, self.context)] for text in texts]

    @cached_property
    def past_window(self) -> list[int]:
        """Ids of a text that is longer than the attention window; none without one, or where it is too long to try."""
        length = min(self.context, self.window + PAST_WINDOW)
        if not self.window or length <= self.window or length * self._source.config.vocab_size > LARGEST:
            return []
        ids = [token for passage in self.passages for token in passage]
        return list(islice(cycle(ids), length))

    def ends(self, least: float) -> list[list[int]]:
        """Ids after which the original ends a text, and gives its end at least so much probability."""
        return [ids for ids, probability in self._ends if probability >= least][:PASSAGES]

    @cached_property
    def _ends(self) -> list[tuple[list[int], float]]:
        found = []
        for passage in self.passages:
            logprobs_tv = self.logprobs(passage)
            for place, best in enumerate(logprobs_tv.argmax(-1).tolist()):
                if best in self.stop_ids and place + 1 < self.context:
                    found.append((passage[: place + 1], float(np.exp(logprobs_tv[place, best]))))
        return found

    def _begun(self, text: str) -> list[int]:
        """A text's ids behind what every text begins with: the end of the one before, where nothing else is said."""
        return [*self._source.begin, *self._original.encode(text)]

    def _spread(self, count: int) -> list[str]:
        """So many pieces from all over the texts, each with more than enough for a passage."""
        whole = "\n\n".join(self._texts)
        starts = [len(whole) * part // count for part in range(count)]
        return [whole[start : start + 8 * PASSAGE_TOKENS] for start in starts]

    def _samples(self, count: int) -> list[str]:
        """Texts as the model writes them."""
        settings = SamplingSettings(max_tokens=min(PASSAGE_TOKENS, self.context), temperature=1.0, min_p=0.0, seed=0)
        return [sample.text for sample in self._original.engine.complete("", settings, count)]


def try_template(original: Original) -> None:
    """Raise `TinyslmError` where the model has a chat template, and it cannot be rendered."""
    try:
        _conversations(original.tokenizer)
    except TinyslmError as error:
        raise TinyslmError(f"In {original.folder}: {error.problem}", error.remedy) from None


def _conversations(tokenizer: Tokenizer) -> list[tuple[list[dict[str, str]], list[int]]]:
    """Those that the template takes: one may refuse a message of the system, but not a question alone."""
    found: list[tuple[list[dict[str, str]], list[int]]] = []
    for messages in CONVERSATIONS if tokenizer.chat_template is not None else ():
        try:
            found.append((messages, encode_chat(tokenizer, messages, add_generation_prompt=True)))
        except TinyslmError as error:
            if not found or error.remedy != template_error("refused").remedy:
                raise
    return found


def reach(model: Decoder, longest: int) -> int:
    """Of so many tokens that a runtime reads, how many a check makes use of."""
    return min(longest, max(ENOUGH, model.config.window + PAST_WINDOW + GREEDY_TOKENS))


@dataclass(frozen=True)
class Agreement:
    """Whether greedy tokens are the original's.

    tie: up to a place where two are equally good. end: the original ends the text where comparing ended. other: what
    differed, in words.
    """

    equal: bool
    tie: bool = False
    end: bool = False
    other: str = ""


def agreement(tokens: Sequence[int], logprobs_tv: Array, stop_ids: set[int], count: int) -> Agreement:
    """Judge greedy tokens by the original's log-probabilities before each of them and after the last.

    Where less than `count` tokens came, the runtime ended the text there.
    """
    chosen: list[int | None] = [*tokens, None] if len(tokens) < count else list(tokens)
    stops = sorted(stop_ids)
    end = False
    for place, (token, logprobs_v) in enumerate(zip(chosen, logprobs_tv, strict=False)):
        best = int(logprobs_v.argmax())
        end, ended = best in stop_ids, token is None
        if end if ended else (token == best and not end):
            continue
        theirs = logprobs_v[stops].max() if ended else logprobs_v[token]
        # A token that ends a text was generated instead of ending it: no tie.
        if token not in stop_ids and logprobs_v[best] - theirs <= TIE:
            return Agreement(equal=True, tie=True)
        words = ("the end" if one is None or one in stop_ids else f"token {one}" for one in (token, best))
        return Agreement(
            equal=False, end=end, other=f"token {place + 1} of a continuation: {' instead of '.join(words)}"
        )
    return Agreement(equal=True, end=end)


def decoding_speed(runtime: Generator, prompts: Sequence[Sequence[int]], count: int = GREEDY_TOKENS) -> float | None:
    """Tokens generated per second, the best of three, after a prompt that the model continues for long enough."""
    rates = (tokens_per_second(lambda begun=prompt[:8]: len(greedy(runtime, begun, count))) for prompt in prompts)  # type: ignore[misc]
    return next(filter(None, rates), None)


def _agreement(runtime: Runtime, reference: Reference, prompt: list[int], count: int) -> Agreement:
    tokens = greedy(runtime, prompt, count)
    if len(tokens) > count:
        raise ValueError(f"it generated {len(tokens)} tokens instead of {count}")
    return agreement(tokens, reference.logprobs([*prompt, *tokens])[len(prompt) - 1 :], reference.stop_ids, count)


def _divergences(runtime: Runtime, reference: Reference) -> list[float]:
    """KL(original, runtime) in nats at each compared position; past the attention window first."""
    past = reference.past_window
    places = range(reference.window, len(past)) if runtime.one_pass else range(len(past) - 1, len(past))
    found = _divergence(runtime, reference, past, places) if past else []
    for passage in reference.passages:
        step = 1
        if not runtime.one_pass:
            positions = POSITIONS if reference.vocab_size <= 2**14 else POSITIONS // 4
            step = max(1, len(passage) * len(reference.passages) // positions)
        found += _divergence(runtime, reference, passage, range(step - 1, len(passage), step))
    return found


def _divergence(runtime: Runtime, reference: Reference, ids: Sequence[int], places: Sequence[int]) -> list[float]:
    found: list[float] = divergence(reference.logprobs(ids)[list(places)], runtime.logprobs(ids, places)).tolist()
    return found


def divergence(ours_tv: Array, theirs_tv: Array) -> Array:
    """Kullback-Leibler divergence in nats at each position, from log-probabilities."""
    if ours_tv.shape != theirs_tv.shape:
        raise ValueError(f"it has probabilities of {theirs_tv.shape[-1]} tokens instead of {ours_tv.shape[-1]}")
    ours, theirs = (torch.from_numpy(logprobs_tv.astype(np.float64)) for logprobs_tv in (ours_tv, theirs_tv))
    found: Array = kl_divergence(ours, theirs).numpy()
    return found
