"""Training: the loss, one step of it, the snapshots of the reader's run, and a quiz on what can go wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from tinyslm.core.page import Block, Folded, Paragraph, Section, Table
from tinyslm.core.plots import Series, thin
from tinyslm.core.printable import printable
from tinyslm.course.blocks import Formula, Widget
from tinyslm.course.chapter import Chapter, stored_data
from tinyslm.course.faults import FAULTS
from tinyslm.course.subject import Subject
from tinyslm.inference.engine import Engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.shown import face
from tinyslm.training.metrics import read_metrics

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Learning rates of the step that the reader can take."""
SAMPLE = SamplingSettings(max_tokens=40, seed=1)
FEWEST_POINTS = 2
ABOVE_GUESSING = 1.3
"""The top of the quiz's charts, as a factor of the loss of guessing."""
QUIZ = "DAFCGBE"
"""The letters of the quiz's runs, in the order of `FAULTS`."""


def _blocks(subject: Subject) -> Iterator[Block]:
    loss, gradients = loss_and_gradients(subject)
    yield Section("The loss", tuple(_loss(subject)))
    yield Section("One step", tuple(_step(subject, loss, gradients)))
    yield Section("Your run", tuple(_run(subject)))
    yield Section("Quiz: which run has which fault?", tuple(_quiz()))


def _loss(subject: Subject) -> Iterator[Block]:
    scored = subject.inspection.tokens[1:]
    logprobs = [one.logprob or 0.0 for one in scored]
    best, worst, total = -max(logprobs), -min(logprobs), -math.fsum(logprobs)
    likeliest = max(scored, key=lambda one: one.logprob or 0.0)
    rarest = min(scored, key=lambda one: one.logprob or 0.0)
    config = subject.model.config
    yield Paragraph(
        "Training needs one number that says how wrong the model is. At each position of a text, the model gives a "
        "probability to every token that could come next. The loss there is minus the logarithm of the probability of "
        "the token that does come next: 0 if the model was certain of that token, and larger the less likely it was. "
        "The mean over all positions is the cross-entropy, or simply the loss."
    )
    yield Formula(
        (
            ("loss = -(1/n) sum over t of ln p(token t+1 | tokens 1..t)", f"here n is {len(scored)}"),
            (
                f"-ln p({face(likeliest.token)}) = -ln {math.exp(-best):.4g} = {best:.3f}",
                "the token of the sentence that the model expected most",
            ),
            (f"-ln p({face(rarest.token)}) = -ln {math.exp(-worst):.4g} = {worst:.3f}", "the one it expected least"),
            (
                f"loss = {total:.3f} / {len(scored)} = {total / len(scored):.4f}",
                f"from logits [{len(scored)}, {config.vocab_size:,}] and targets [{len(scored)}] to one number",
            ),
        )
    )
    yield Paragraph(
        f"A model that knows nothing gives each of the {config.vocab_size:,} tokens the same probability; its loss is "
        f"ln {config.vocab_size:,} = {math.log(config.vocab_size):.2f}. That is where a run with new weights begins. "
        "The model learns from all positions of a text at once, each with the true tokens before it as input (teacher "
        "forcing). The mask hides later tokens from each position, so one pass through the model gives as many "
        "training examples as there are tokens."
    )


def _step(subject: Subject, loss: float, gradients: Mapping[str, Tensor]) -> Iterator[Block]:
    name, gradient = max(gradients.items(), key=lambda item: float(item[1].abs().max()))
    place = int(gradient.abs().argmax())
    weight = float(dict(subject.model.named_parameters())[name].detach().flatten()[place])
    slope = float(gradient.flatten()[place])
    length = gradient_norm(gradients)
    index = ", ".join(str(int(one)) for one in torch.unravel_index(torch.tensor(place), gradient.shape))
    yield Paragraph(
        "The gradient says for each weight how fast the loss changes when the weight increases. A training step "
        "changes each weight by minus the learning rate times its gradient. One backward pass through the model "
        "(backpropagation) computes all gradients."
    )
    yield Formula(
        (
            ("new weight = weight - learning rate * gradient", ""),
            (
                f"{weight - 0.01 * slope:.5f} = {weight:.5f} - 0.01 * ({slope:.5f})",
                f"the weight with the largest gradient: {name}[{index}], in a tensor of shape {list(gradient.shape)}",
            ),
            (
                f"norm of the gradient = sqrt(sum of squares) = {length:.3f}",
                f"over all {sum(one.numel() for one in gradients.values()):,} weights",
            ),
        )
    )
    yield Paragraph(
        "How large should the step be? The slider takes one step on this sentence with your model. The gradient "
        "describes the loss only near the current weights: a small step lowers the loss a little, a larger one more, "
        "and one that is too large overshoots and raises it."
    )
    data = {"rates": RATES, "losses": losses_after(subject, gradients), "before": loss, "dim": subject.model.config.dim}
    yield Widget("step", data, "One step with a learning rate of your choice")
    yield Paragraph(
        "A real run takes each step on a batch of many texts. Its optimizer also divides each gradient by a "
        "running estimate of its size (AdamW), or orthogonalizes the update of a whole matrix (Muon), so its learning "
        "rates cannot be compared with those of this slider. The schedule raises the learning rate at first (warm-up), "
        "while the weights are random and the optimizer's averages cover few steps, and lowers it to 0 at the end, so "
        "that the noise of single batches averages out."
    )


def _run(subject: Subject) -> Iterator[Block]:
    curve = loss_curve(subject)
    how = "A run of tinyslm train with --train.snapshots 8 saves its weights several times during training"
    shows = "this page then has a slider that shows how the sentence becomes more likely and the samples readable."
    if not curve["series"]:
        yield Paragraph(f"This model comes without the log of a run, so there is no loss curve to show. {how}; {shows}")
        return
    yield Paragraph(
        "The training loss is measured on the training batches, the validation loss on held-out text. As long as both "
        "fall together, what the model learns applies to other texts too. If only the training loss falls, the model "
        "memorizes its training text (overfitting)."
    )
    if not subject.snapshots:
        yield Widget("charts", {"charts": [curve]}, "The loss of your run")
        yield Paragraph(f"Your run has no snapshots. {how}; {shows}")
        return
    yield Paragraph(
        "Move the slider through the snapshots of the run: the line in the chart marks the update, the boxes show the "
        "probability of each token of the sentence, and the text below is how the model continues a prompt. Models "
        "usually learn first which tokens are frequent, then which tokens follow each other, and later what depends on "
        "words further away."
    )
    data = {"curve": curve, "faces": [face(token) for token in subject.tokens], **snapshot_views(subject)}
    yield Widget("snapshots", data, "Your model at the snapshots of its training")


def _quiz() -> Iterator[Block]:
    stored = fault_runs()
    shape, runs = stored["shape"], stored["runs"]
    guessing = math.log(shape["vocab_size"])
    yield Paragraph(
        "A fault in the code or a bad setting seldom stops a run. The loss still falls, only not as it should. These "
        f"are seven runs of one small model ({shape['depth']} layers, {shape['width']} wide) on Python's "
        "documentation. They have the same first weights and the same batches. One is healthy, and each of the others "
        "has one fault. The updates are on a logarithmic axis, so that the first ones are visible; the line “guessing” "
        f"is the loss of a model that knows nothing, ln {shape['vocab_size']} = {guessing:.2f}. A "
        "loss beyond the top of a chart is cut off. Which fault does each run have?"
    )
    cards = [
        {
            "letter": letter,
            "losses": runs[name]["losses"],
            "gradients": runs[name]["gradients"],
            "text": printable(runs[name]["text"]),
            "answer": list(FAULTS).index(name),
            "hint": fault.hint,
            "why": fault.why.format(**_figures(runs[name]), healthy=runs["healthy"]["losses"][-1]),
        }
        for letter, (name, fault) in sorted(zip(QUIZ, FAULTS.items(), strict=True))
    ]
    losses, gradients = ([one for run in runs.values() for one in run[key] if one] for key in ("losses", "gradients"))
    ranges = {"losses": [min(losses), ABOVE_GUESSING * guessing], "gradients": [min(gradients), max(gradients)]}
    data = {"steps": stored["steps"], "guessing": guessing, "ranges": ranges, "runs": cards, "choices": list(FAULTS)}
    yield Widget("quiz", data, "Seven runs: which has which fault?")
    rows = [
        (name, *(f"{figures[key]:.2f}" for key in ("last", "whole", "past", "largest")))
        for name, figures in ((name, _figures(run)) for name, run in runs.items())
    ]
    header = ("run", "training loss", "held out, whole windows", "held out, past tokens only", "largest gradient")
    yield Folded("The figures of all runs (with the answers)", [Table(rows, header)])
    yield Paragraph(
        "The command python lessons/faults.py OUT.json trains all seven again. Each fault is a few lines of that file, "
        "to be read and changed."
    )


def _figures(run: Mapping[str, Any]) -> dict[str, float]:
    """Figures of a run for `Fault.why`; a number that was too large to be stored is infinite."""
    losses, gradients = (
        [math.inf if value is None else value for value in run[key]] for key in ("losses", "gradients")
    )
    figures = {"last": losses[-1], "highest": max(losses), "first": gradients[0], "largest": max(gradients)}
    return figures | {key: math.inf if run[key] is None else run[key] for key in ("whole", "past")}


def loss_and_gradients(subject: Subject) -> tuple[float, dict[str, Tensor]]:
    """The loss of the sentence in nats per token, and its gradient by each of the model's parameters."""
    parameters = {name: one.detach().clone().requires_grad_() for name, one in subject.model.named_parameters()}
    loss = _sentence_loss(subject, parameters)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    used = {name: one for name, one in zip(parameters, found, strict=True) if one is not None}
    return float(loss.detach()), used


def gradient_norm(gradients: Mapping[str, Tensor]) -> float:
    """The length of the gradient as one vector."""
    return math.sqrt(math.fsum(float(one.double().square().sum()) for one in gradients.values()))


@torch.no_grad()
def losses_after(subject: Subject, gradients: Mapping[str, Tensor]) -> list[float | None]:
    """The loss of the sentence after one step along the gradient with each of `RATES`; `None` if it is not finite."""
    parameters = dict(subject.model.named_parameters())
    losses = []
    for rate in RATES:
        moved = {name: parameters[name].detach() - rate * gradient for name, gradient in gradients.items()}
        loss = float(_sentence_loss(subject, moved))
        losses.append(loss if math.isfinite(loss) else None)
    return losses


def _sentence_loss(subject: Subject, parameters: Mapping[str, Tensor]) -> Tensor:
    ids_1t = torch.tensor([list(subject.ids)])
    logits_tv = functional_call(subject.model, dict(parameters), (ids_1t[:, :-1],))[0]
    return torch.nn.functional.cross_entropy(logits_tv.float(), ids_1t[0, 1:])


def loss_curve(subject: Subject) -> dict[str, Any]:
    """The chart of the losses that the run logged; without a run, or a log of it, a chart without lines."""
    events: Sequence[Mapping[str, Any]] = ()
    if subject.run is not None and subject.run.metrics_file.is_file():
        events = read_metrics(subject.run.metrics_file)
    series = []
    for event, name in (("step", "training"), ("validation", "validation")):
        rows = [row for row in events if row["event"] == event and isinstance(row.get("loss"), int | float)]
        if len(rows) >= FEWEST_POINTS:
            line = thin(Series(name, [row["step"] for row in rows], [row["loss"] for row in rows]))
            series.append(line._asdict())
    return {"series": series, "title": "Loss of your run, in nats per token", "xTitle": "updates", "from": 0}


def snapshot_views(subject: Subject) -> dict[str, Any]:
    """For each snapshot: the probability of each token of the sentence but the first, their loss, and a sample.

    The samples continue the beginning of the sentence, which is also returned ("prompt").
    """
    text = subject.text
    prompt = text[: max(text.rfind(" ", 0, len(text) // 2), 0)].rstrip() or text
    ids = torch.tensor([list(subject.ids)])
    views, engine = [], None
    for step, model in subject.snapshot_models():
        logprobs_t = _logprobs(model, ids)
        if engine is None:
            engine = Engine(model, subject.tokenizer)
        else:
            engine.load_weights(model)
        sample = printable(engine.complete(prompt, SAMPLE, heal=False)[0].text)
        shares = logprobs_t.exp().tolist()
        views.append({"step": step, "shares": shares, "loss": -float(logprobs_t.mean()), "sample": sample})
    return {"snapshots": views, "prompt": prompt}


@torch.inference_mode()
def _logprobs(model: Decoder, ids_1t: Tensor) -> Tensor:
    """Logarithms of the probabilities of all tokens but the first, `[t - 1]`."""
    logprobs_tv: Tensor = model(ids_1t[:, :-1])[0].float().log_softmax(-1)
    return logprobs_tv.gather(1, ids_1t[0, 1:, None])[:, 0]


def fault_runs() -> dict[str, Any]:
    """What `lessons/faults.py` wrote."""
    return stored_data("faults.json")


TRAINING = Chapter(
    "Training",
    "The loss, one step, your run from its first update to its last, and seven runs of which six have a fault.",
    lambda subject: list(_blocks(subject)),
    ("chart.js", "training.js"),
    ("chart.css", "training.css"),
)
