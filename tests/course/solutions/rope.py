"""Solution: halves of each head are the coordinates of points."""

ROTATE = '''def rotate(x_bhte):
    """Turn pair i of each head at position t by the angle t * 10000 ** (-2i / e)."""
    t, e = x_bhte.shape[-2:]
    angles_te = torch.arange(t)[:, None] * 10_000.0 ** (-torch.arange(0, e, 2) / e)
    cos, sin = angles_te.cos(), angles_te.sin()
    left, right = x_bhte.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


'''
SCORES = "        mixed_bhte = self.scores(q_bhte, k_bhte)"

EDITS = [
    ("class Attention(", ROTATE + "class Attention("),
    (SCORES, SCORES.replace("(q_bhte, k_bhte)", "(rotate(q_bhte), rotate(k_bhte))")),
    ("        self.positions = nn.Embedding(512, dim)\n", ""),
    (" + self.positions(torch.arange(ids_bt.shape[1]))", ""),
]
WRONG = [
    ("two minus signs", [("cos + left", "cos - left")], 2, "both signs"),
    ("wrong frequencies", [("arange(0, e, 2) / e", "arange(0, e // 2) / e")], 4, "have the cosines"),
    ("values too", [("softmax(-1) @ v_bhte", "softmax(-1) @ rotate(v_bhte)")], 5, "values are not"),
    ("not used", [("(rotate(q_bhte), rotate(k_bhte))", "(q_bhte, k_bhte)")], 6, "does it use rotate?"),
    (
        "the table stays",
        [("        self.norm =", "        self.positions = nn.Embedding(512, dim)\n        self.norm =")],
        1,
        "without positions",
    ),
]
