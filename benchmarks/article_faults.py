"""What each fault of the article's printed model costs, fixed one after the other.

    python benchmarks/article_faults.py | tee >(tail -n 1 > src/tinyslm/course/data/article.json)

The course (`tinyslm learn`) shows the stored result, with its curves.

Every variant reads the same batches of the same text (source files of the Python standard library) and is trained by
the article's loop: AdamW at 3e-4, cross-entropy, teacher forcing, PyTorch's own initial weights, fp32. Two losses are
printed, in nats per token: "whole windows" feeds whole windows of held-out text, and "past only" gives the model
only what comes before the token that it has to predict, as in generating. For a model that does not see the answer
they are the same.
"""

import math
import statistics
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness import finish, parser
from tinyslm.tokenizer.training import train_tokenizer

VOCAB, CONTEXT, DIM, DEPTH, HEADS, BATCH = 512, 64, 128, 2, 4, 8
WINDOWS, CURVE_WINDOWS, CURVE_POINTS = 128, 8, 10
"""Windows of held-out text for the results, and for each point of the curves."""


@dataclass(frozen=True)
class Variant:
    """Which faults are fixed."""

    name: str
    positions: bool = True
    causal: bool = True
    head_scale: bool = True
    width: bool = True


VARIANTS = (
    Variant("as printed", positions=False, causal=False, head_scale=False, width=False),
    Variant("attention over positions", causal=False, head_scale=False, width=False),
    Variant("+ causal mask", head_scale=False, width=False),
    Variant("+ scale head_dim ** -0.5", width=False),
    Variant("+ feed-forward 4 * dim wide"),
)


class ArticleAttention(nn.Module):
    """The article's attention with the variant's faults fixed: `[batch, seq, dim]` to the same."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.scale = (DIM // HEADS if variant.head_scale else DIM) ** -0.5
        self.qkv = nn.Linear(DIM, 3 * DIM)
        self.out = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, DIM // HEADS)).unbind(2)  # [batch, seq, heads, head_dim]
        if self.variant.positions:
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        scores = q @ k.transpose(-2, -1) * self.scale
        if self.variant.causal:
            seq = x.shape[1]
            scores = scores.masked_fill(torch.ones(seq, seq, dtype=torch.bool).triu(1), -math.inf)
        y = scores.softmax(-1) @ v
        if self.variant.positions:
            y = y.transpose(1, 2)
        return self.out(y.flatten(2))


class ArticleBlock(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = 4 * DIM if variant.width else 1024
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attention = ArticleAttention(variant)
        self.feed_forward = nn.Sequential(nn.Linear(DIM, width), nn.GELU(), nn.Linear(width, DIM))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class ArticleModel(nn.Module):
    """Token ids `[batch, seq]` to logits `[batch, seq, vocab]`."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, DIM)
        self.positions = nn.Embedding(512, DIM)
        self.blocks = nn.Sequential(*(ArticleBlock(variant) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(DIM)
        self.head = nn.Linear(DIM, VOCAB)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=1000)
    options.add_argument("--seeds", type=int, default=1)
    arguments = options.parse_args()
    train, valid = corpus()
    print(f"{len(train):,} tokens to train on, {len(valid):,} held out; {arguments.steps} steps of {BATCH * CONTEXT}")
    results = [measure(variant, train, valid, arguments.steps, arguments.seeds) for variant in VARIANTS]
    print("\n| variant | parameters | whole windows | past only |\n| --- | --- | --- | --- |")
    for one in results:
        print(f"| {one['name']} | {one['parameters']:,} | {one['whole_windows']:.3f} | {one['past_only']:.3f} |")
    finish(results)


def corpus() -> tuple[Tensor, Tensor]:
    """Ids of the standard library's modules; each tenth file is held out."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    train, valid = [text for i, text in enumerate(texts) if i % 10], texts[::10]
    tokenizer = train_tokenizer(train, vocab_size=VOCAB)
    return tuple(torch.tensor([i for ids in tokenizer.encode_batch(some) for i in ids]) for some in (train, valid))


def measure(variant: Variant, train: Tensor, valid: Tensor, steps: int, seeds: int) -> dict:
    """Train with each seed; the losses in nats per token of held-out text, in both ways."""
    curve: list[tuple[int, float, float]] = []
    models = [trained(variant, train, steps, seed, (curve, valid)) for seed in range(seeds)]
    whole = [loss_in_windows(model, valid) for model in models]
    past = [past_only_loss(model, valid) for model in models]
    print(f"{variant.name}: {whole} in whole windows, {past} from the past only", flush=True)
    return {
        "name": variant.name,
        "parameters": sum(weight.numel() for weight in models[0].parameters()),
        "whole_windows": statistics.mean(whole),
        "past_only": statistics.mean(past),
        "past_only_by_seed": past,
        "curve": [[step, round(seen, 3), round(honest, 3)] for step, seen, honest in curve[: CURVE_POINTS + 1]],
    }


def trained(variant: Variant, train: Tensor, steps: int, seed: int, curve: tuple[list, Tensor]) -> ArticleModel:
    """The article's loop. curve: where to note (step, whole windows, past only), and the held-out text for it."""
    torch.manual_seed(seed)
    model = ArticleModel(variant)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    batches = torch.Generator().manual_seed(seed)
    points, valid = curve
    for step in range(steps):
        if step % max(1, steps // CURVE_POINTS) == 0:
            points.append((step, *losses_of(model, valid)))
        batch = windows(train, torch.randint(len(train) - CONTEXT - 1, (BATCH,), generator=batches))
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    points.append((steps, *losses_of(model, valid)))
    return model.eval()


def losses_of(model: ArticleModel, valid: Tensor) -> tuple[float, float]:
    """Both losses on a few windows."""
    return loss_in_windows(model, valid, CURVE_WINDOWS), past_only_loss(model, valid, CURVE_WINDOWS)


def windows(ids: Tensor, starts: Tensor) -> Tensor:
    """`[n, CONTEXT + 1]` ids from each of the places `starts`."""
    return ids[starts[:, None] + torch.arange(CONTEXT + 1)]


def held_out_windows(valid: Tensor, number: int) -> Tensor:
    """So many windows, evenly spread."""
    return windows(valid, torch.linspace(0, len(valid) - CONTEXT - 2, number).long())


@torch.no_grad()
def loss_in_windows(model: ArticleModel, valid: Tensor, number: int = WINDOWS) -> float:
    """Every position's loss in one pass, with the whole window visible: what the training loop computes."""
    batch = held_out_windows(valid, number)
    return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).item()


@torch.no_grad()
def past_only_loss(model: ArticleModel, valid: Tensor, number: int = WINDOWS) -> float:
    """Every position's loss with nothing after it visible: one pass for each length of prefix."""
    batch = held_out_windows(valid, number)
    losses = [F.cross_entropy(model(batch[:, :n])[:, -1], batch[:, n]).item() for n in range(1, CONTEXT + 1)]
    return statistics.mean(losses)


if __name__ == "__main__":
    main()
