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
        "Nothing in it is extreme: compare its beginning and its end with those of the others.",
        "The loss leaves that of guessing gently, while the learning rate warms up. It stays for a while where "
        "counting the tokens would get it, and falls on as soon as the model uses what stands before, to {last:.2f}. "
        "But for one jump at the highest learning rate, the gradient shrinks early and then stays about the same.",
    ),
    "learning rate too high": Fault(
        "Look at where the loss goes after the first updates, and at how restless it is.",
        "The loss jumps to {highest:.2f} in the first updates, above that of guessing, and only comes back to "
        "{last:.2f}: about what counting the tokens would give. Each step lands far from where its gradient was "
        "right. The remedy: divide the learning rate by 3 until the loss falls from the beginning.",
    ),
    "learning rate too low": Fault(
        "Look at how long the loss stays at that of guessing, and how smooth its curve is.",
        "The curve is smooth, leaves the loss of guessing late, and has come only to {last:.2f} when the run ends. "
        "Nothing is unstable; the steps are too small. The remedy: multiply the learning rate by 3 until the loss "
        "begins to jump, then take one factor back.",
    ),
    "no warm-up": Fault(
        "Look at the first three updates, in the loss and in the gradient.",
        "The loss falls at the very first update, where the others need several, and the gradient jumps once. After "
        "that nothing is wrong: it ends at {last:.2f}, the healthy run at {healthy:.2f}. Norms and AdamW make so "
        "small a model robust, and the warm-up only costs it updates. At three times the learning rate, the loss "
        "jumps above that of guessing; in a large model, such a jump can ruin a run.",
    ),
    "no mask": Fault(
        "Is its loss too good to be true? Compare it with what the model writes.",
        "The training loss falls to {last:.2f}, far below all others, and yet it writes worse nonsense than they do: "
        "it copies the next token, which it sees. On held-out text its loss is {whole:.2f} when it sees whole texts, "
        "and {past:.2f}, worse than guessing, when it sees only the past, as it does when it writes.",
    ),
    "no residual": Fault(
        "It begins well. Look at where its loss stops, and what its gradient does from then on.",
        "The loss comes to what counting the tokens gives and stays there, at {last:.2f}, while the gradient becomes "
        "smaller and smaller. Without the stream that every layer adds to, all that the model knows has to pass "
        "through every layer, and so has the gradient; hardly anything arrives.",
    ),
    "no norm": Fault(
        "Look at the size of its gradient in the first updates, and at what comes then.",
        "Nothing keeps the numbers at one size. The gradient begins at {first:.2f}, far smaller than in the other "
        "runs, so nothing is learned at first; then it explodes to {largest:.0f}, and the loss with it, to "
        "{highest:.1f}. AdamW, which divides by the size of the gradient, saves this run in the end. At three times "
        "the learning rate its gradient becomes infinite.",
    ),
}
"""By the names of the runs."""
