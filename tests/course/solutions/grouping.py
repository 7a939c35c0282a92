"""Solution: keys and values are repeated head by head."""

INIT = """        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim) for _ in "qkvo")
"""
NEW_INIT = """        if heads % (kv_heads or heads):
            raise ValueError(f"{heads} heads cannot share {kv_heads} keys")
        self.heads, self.kv_heads, self.e = heads, kv_heads or heads, dim // heads
        self.q_proj, self.o_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.k_proj, self.v_proj = (nn.Linear(dim, self.kv_heads * self.e) for _ in "kv")
"""
MIXED = "        mixed_bhte ="
REPEATED = (
    "        k_bhte, v_bhte = (one.repeat_interleave(self.heads // self.kv_heads, 1) for one in (k_bhte, v_bhte))\n"
)

EDITS = [
    (INIT, NEW_INIT),
    ("unflatten(-1, (self.heads, -1))", "unflatten(-1, (-1, self.e))"),
    (MIXED, REPEATED + MIXED),
    ("def __init__(self, dim, heads):", "def __init__(self, dim, heads, kv_heads):"),
    ("Attention(dim, heads)", "Attention(dim, heads, kv_heads)"),
    ("Block(dim, heads)", "Block(dim, heads, kv_heads)"),
    ("heads=4):", "heads=4, kv_heads=None):"),
]
WRONG = [
    (
        "repeated in turn",
        [("one.repeat_interleave(self.heads // self.kv_heads, 1)", "one.repeat(1, self.heads // self.kv_heads, 1, 1)")],
        3,
        "0, 0, 1, 1",
    ),
    (
        "not refused",
        [
            (
                '            raise ValueError(f"{heads} heads cannot share {kv_heads} keys")\n',
                "            kv_heads = 1\n",
            )
        ],
        5,
        "raise a ValueError",
    ),
    ("full values", [('for _ in "kv")\n', 'for _ in "kv")\n        self.v_proj = nn.Linear(dim, dim)\n')], 1, "v_proj"),
]
