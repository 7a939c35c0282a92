"""tinyslm models in EleutherAI's lm-eval: importing this module adds the model "tinyslm" to its registry.

lm-eval finds models only in its registry and has no entry point for other packages, so start its command line here:

    python -m tinyslm.evaluation.lm_eval run --model tinyslm --model_args model=runs/first --tasks arc_easy

`continuations` scores the texts in batches, and the engine generates the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tinyslm.core.errors import require_extra
from tinyslm.evaluation.answers import GenerationRequest
from tinyslm.evaluation.continuations import Reading, score_continuations
from tinyslm.evaluation.protocols import Continuation
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.inference.settings import SamplingSettings

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError:
    raise require_extra("lm-eval", "Running lm-eval") from None

ON = (True, "True", "true", "on", "1", 1)


@register_model("tinyslm")
class TinyslmModel(LM):  # type: ignore[misc]
    """A model folder or run folder in lm-eval.

    model: its path. bos: whether every context is prefixed with the tokens that precede texts in training. The default
    is that of lm-eval's own models: only texts without a context get this prefix.
    """

    def __init__(self, model: str, bos: bool | str = False, **_: Any) -> None:
        super().__init__()
        self._runtime = ModelRuntime.open(Path(model), torch.float32)
        self._bos = bos in ON

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """See `lm_eval.api.model.LM`."""
        asked = [Continuation(*request.args) for request in requests]
        found: list[tuple[float, bool]] = [(0.0, False)] * len(asked)
        for bare in (True, False):
            chosen = [index for index, one in enumerate(asked) if bool(one.context) != bare]
            reading = self._runtime.reading
            reading = reading if bare or self._bos else Reading((), reading.max_length)
            scores = score_continuations(self._runtime, reading, [asked[index] for index in chosen])
            for index, score in zip(chosen, scores, strict=True):
                found[index] = score.logprob, score.greedy
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """See `lm_eval.api.model.LM`."""
        asked = [Continuation("", request.args[0]) for request in requests]
        return [score.logprob for score in score_continuations(self._runtime, self._runtime.reading, asked)]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """See `lm_eval.api.model.LM`."""
        texts = []
        for request in requests:
            prompt, given = request.args
            until = given.get("until") or ()
            settings = SamplingSettings(
                max_tokens=int(given.get("max_gen_toks", 256)),
                temperature=float(given.get("temperature", 0.0)) if given.get("do_sample") else 0.0,
                stop=(until,) if isinstance(until, str) else tuple(until),
            )
            answers = self._runtime.answer_many(
                [GenerationRequest(prompt)], self._runtime.reading, settings, lambda *_: None
            )
            texts.append(answers.completions[0].text)
        return texts


def main() -> None:
    """Run lm-eval's command line."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
