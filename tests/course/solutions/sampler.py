"""Solution: minus infinity for what is left out."""

BEFORE = "# 4. Sampling: draw the next token"
FILTERED = '''def filtered(logits, temperature=1.0, top_k=0, top_p=1.0):
    """The probabilities to draw from."""
    logits = logits / max(temperature, 1e-4)
    if top_k:
        least = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    likely, order = logits.softmax(-1).sort(descending=True)
    before = likely.cumsum(-1) - likely
    likely[before >= top_p] = 0
    return torch.zeros_like(likely).scatter(0, order, likely) / likely.sum()


'''
DRAWN = """        logits = model(window)[0, -1] / max(temperature, 1e-4)
        ids = [*ids, int(torch.multinomial(logits.softmax(-1), 1))]
"""
NEW = """        chances = filtered(model(window)[0, -1], temperature, top_k, top_p)
        ids = [*ids, int(torch.multinomial(chances, 1))]
"""

EDITS = [
    (BEFORE, FILTERED + BEFORE),
    ("count, temperature=0.8):", "count, temperature=0.8, top_k=0, top_p=1.0):"),
    (DRAWN, NEW),
]
WRONG = [
    ("division by zero", [("max(temperature, 1e-4)\n    if", "temperature\n    if")], 2, "gives [nan"),
    ("the crossing token is lost", [("before >= top_p", "likely.cumsum(-1) > top_p")], 4, "is kept"),
    ("top_k beyond the vocabulary", [("min(top_k, len(logits))", "top_k")], 3, "raised RuntimeError: selected index"),
    ("sample forgets top_k", [("temperature, top_k, top_p)\n", "temperature, 0, top_p)\n")], 6, "drew the tokens"),
    ("not divided by the sum", [("/ likely.sum()", "")], 4, "gives [0.0, 0.4"),
]
