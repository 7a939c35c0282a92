"""Exercise: tied embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from tinyslm.course.exercises.exercise import Check, Exercise
from tinyslm.course.exercises.originals import IDS, max_difference, original, parameters

VOCABULARY, DIM = 64, 32


def _model(module: Any) -> Any:
    torch.manual_seed(0)
    return module.TinySLM(VOCABULARY, dim=DIM, depth=2, heads=4)


def _smaller(module: Any) -> str:
    before, found = parameters(_model(original("article.py"))), parameters(_model(module))
    expected = before - VOCABULARY * DIM
    if found == expected:
        return ""
    return (
        f"A model of {VOCABULARY} tokens and width {DIM} has {found:,} parameters; with one table, the {before:,} of "
        f"the article become {expected:,}. Is the output's weight the same object as the table, and not a copy?"
    )


def _same_logits(module: Any) -> str:
    model, seen = _model(module), []
    model.norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        found = model(IDS)
        expected = seen[-1] @ model.tokens.weight.T
    if max_difference(found, expected) < 1e-4:
        return ""
    return "The logits are not the products of the last norm's output with the rows of tokens.weight."


def _both_gradients(module: Any) -> str:
    model = _model(module)
    F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()).backward()
    gradient = model.tokens.weight.grad
    if gradient is None:
        return "The table of tokens gets no gradient."
    if not gradient[VOCABULARY - 1].any():  # a token that is not in the text: only the output can reach it
        return "The row of a token that is not in the text gets no gradient: the output does not use the table."
    return ""


def _first_loss(module: Any) -> str:
    with torch.no_grad():
        loss = float(F.cross_entropy(_model(module)(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten()))
    if abs(loss - math.log(VOCABULARY)) < 0.3:
        return ""
    return (
        f"The loss before training is {loss:.2f}; for {VOCABULARY} equally probable tokens it is "
        f"{math.log(VOCABULARY):.2f}. nn.Embedding is initialized with a standard deviation of 1, which is too large "
        "for the output."
    )


TYING = Exercise(
    title="Tie the weights",
    about="One embedding table for input and output, and half as many parameters for both.",
    task=(
        "The article's model has two tables of the same shape [vocabulary, width]: one maps tokens to "
        "vectors, the other maps vectors to logits. In small models they have a large part of all parameters. Let the "
        "model use one table for both (Press and Wolf, 2017).",
        "Change the class TinySLM. Its arguments stay as they are, and the table stays at self.tokens.",
        "Watch the loss before training. The model knows nothing then, so it should be near ln(vocabulary). The "
        "initial values of nn.Embedding are too large for the output.",
    ),
    hints=(
        "A parameter that two modules share is one object: assign the weight of one module to the other.",
        "Give the shared table a standard deviation of 0.02, with nn.init.normal_.",
    ),
    start="article.py",
    checks=(
        Check("The model has one table fewer.", _smaller),
        Check("The logits are products with the table of tokens.", _same_logits),
        Check("Both uses of the table give it gradients.", _both_gradients),
        Check("The untrained model gives all tokens about the same probability.", _first_loss),
    ),
)
