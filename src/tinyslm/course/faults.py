"""What the quiz of the chapter on training says about the runs of `lessons/faults.py`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """hint: what to look at, after a wrong answer. why: what gives the run away, with figures of the runs to fill in.

    The figures are the `last` and the `highest` training loss, the `first` and the `largest` gradient, `whole` and
    `past` (see `Record` in `lessons/faults.py`), and the last training loss of the `healthy` run.
    """

    hint: str
    why: str


FAULTS = {
    "healthy": Fault(
        "Nothing in it is extreme: compare its start and its end with those of the others.",
        "The loss starts at that of guessing and falls slowly while the learning rate warms up. It pauses near the "
        "loss that token frequencies alone give, and falls further, to {last:.2f}, once the model uses the tokens "
        "before. Except for one jump at the highest learning rate, the gradient shrinks early and then stays about "
        "the same.",
    ),
    "learning rate too high": Fault(
        "Look at where the loss goes after the first updates, and at how noisy it is.",
        "The loss jumps to {highest:.2f} in the first updates, above that of guessing, and only comes back to "
        "{last:.2f}: about what token frequencies alone give. Each step goes far beyond the region where its "
        "gradient is valid. The remedy: divide the learning rate by 3 until the loss falls from the start.",
    ),
    "learning rate too low": Fault(
        "Look at how long the loss stays at that of guessing, and how smooth its curve is.",
        "The curve is smooth, leaves the loss of guessing late, and is still at {last:.2f} when the run ends. "
        "Nothing is unstable; the steps are too small. The remedy: multiply the learning rate by 3 until the loss "
        "begins to jump, then divide it by 3 once.",
    ),
    "no warm-up": Fault(
        "Look at the first three updates, in the loss and in the gradient.",
        "The loss falls at the very first update, where the others need several, and the gradient jumps once. After "
        "that, nothing is wrong: it ends at {last:.2f}, the healthy run at {healthy:.2f}. Norms and AdamW make so "
        "small a model robust, and here the warm-up only costs updates. At three times the learning rate, the loss "
        "jumps above that of guessing; in a large model, such a jump can ruin a run.",
    ),
    "no mask": Fault(
        "Is its loss too good to be true? Compare it with what the model writes.",
        "The training loss falls to {last:.2f}, far below all others, and yet its text is worse than theirs: "
        "it copies the next token, which it sees. On held-out text its loss is {whole:.2f} when it sees whole windows, "
        "and {past:.2f}, worse than guessing, when it sees only the past, as in generation.",
    ),
    "no residual": Fault(
        "It starts well. Look at where its loss stops, and what its gradient does from then on.",
        "The loss falls to what token frequencies alone give and stays there, at {last:.2f}, while the gradient "
        "becomes smaller and smaller. Without the residual stream, all information has to pass through every layer, "
        "and so does the gradient; hardly any of it gets through (vanishing gradients).",
    ),
    "no norm": Fault(
        "Look at the size of its gradient in the first updates, and at what comes then.",
        "Nothing keeps the activations at a constant size. The gradient starts at {first:.2f}, far smaller than "
        "in the other runs, so the model learns nothing at first; then it explodes to {largest:.0f}, and the loss "
        "with it, to {highest:.1f}. AdamW, which divides by the size of the gradient, lets this run recover. At "
        "three times the learning rate its gradient becomes infinite.",
    ),
}
"""By the names of the runs."""
