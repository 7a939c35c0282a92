"""Solution: both losses come from the same logits."""

CALL = "        return super().loss(model, batch)\n"
NEW = """        logits = model(batch.inputs)
        z = logits.logsumexp(-1)
        plain = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
        return plain + 1e-4 * (z**2).sum(), float(batch.targets.numel()), {"z": z.mean().item()}
"""
IMPORT = "from tinyslm.training.stages import STAGES\n"

EDITS = [(IMPORT, "from torch.nn import functional as F\n\n" + IMPORT), (CALL, NEW)]
WRONG = [
    ("means", [(', reduction="sum")', ")"), ("(z**2).sum()", "(z**2).mean()"), ("float(batch.targets.numel())", "1.0")],
     4, "give sums, not means"),
    ("no gradient of z", [("logits.logsumexp(-1)", "logits.detach().logsumexp(-1)")], 5, "with gradients"),
    ("not squared", [("(z**2).sum()", "z.sum()")], 2, "z ** 2 of all tokens"),
]  # fmt: skip
