"""Solution: a pair of keys and values for each layer."""

SDPA = "        mixed_bhte = F.scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, is_causal=True, enable_gqa=True)\n"
KEPT = """        if kept is not None:
            k_bhte, v_bhte = torch.cat([kept[0], k_bhte], 2), torch.cat([kept[1], v_bhte], 2)
        mask = torch.ones(t, k_bhte.shape[2], dtype=torch.bool).tril(k_bhte.shape[2] - t)
        mixed_bhte = F.scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, attn_mask=mask, enable_gqa=True)
"""
LOOP = """        for layer in self.layers:
            x_btd = layer(x_btd)
        return"""
NEW_LOOP = """        for number, layer in enumerate(self.layers):
            kept = cache[number] if cache else None
            x_btd, now = layer(x_btd, kept)
            found.append(now)
        if cache is not None:
            cache[:] = found
        return"""
DRAWN = """    for _ in range(count):
        window = torch.tensor([ids[-model.config["max_position_embeddings"] :]])
"""
NEW_DRAWN = """    cache, longest, new = [], model.config["max_position_embeddings"], ids
    for _ in range(count):
        window = torch.tensor([new])
        if len(ids) > longest:
            cache, window = [], torch.tensor([ids[-longest:]])
"""
LOGITS = "        logits = model(window)[0, -1] /"
DRAW = "        ids = [*ids, int(torch.multinomial(logits.softmax(-1), 1))]\n"

EDITS = [
    ("def rotate(x_bhte, theta):", "def rotate(x_bhte, theta, first=0):"),
    ("torch.arange(t)[:, None] * theta", "torch.arange(first, first + t)[:, None] * theta"),
    ("    def forward(self, x_btd):\n        b, t, _", "    def forward(self, x_btd, kept):\n        b, t, _"),
    ("rotate(self.q_norm(q_bhte), self.theta), rotate(self.k_norm(k_bhte), self.theta)",
     "(rotate(norm(one), self.theta, 0 if kept is None else kept[0].shape[2])\n"
     "                          for norm, one in ((self.q_norm, q_bhte), (self.k_norm, k_bhte)))"),
    (SDPA, KEPT),
    ("        return self.o_proj(mixed_bhte.transpose(1, 2).reshape(b, t, -1))\n",
     "        return self.o_proj(mixed_bhte.transpose(1, 2).reshape(b, t, -1)), (k_bhte, v_bhte)\n"),
    ("    def forward(self, x_btd):\n        x_btd = x_btd + self.self_attn(self.input_layernorm(x_btd))\n"
     "        return x_btd + self.mlp(self.post_attention_layernorm(x_btd))\n",
     "    def forward(self, x_btd, kept):\n        mixed, now = self.self_attn(self.input_layernorm(x_btd), kept)\n"
     "        x_btd = x_btd + mixed\n        return x_btd + self.mlp(self.post_attention_layernorm(x_btd)), now\n"),
    ("    def forward(self, ids_bt):\n", "    def forward(self, ids_bt, cache=None):\n        found = []\n"),
    (LOOP, NEW_LOOP),
    (DRAWN, NEW_DRAWN),
    (LOGITS, LOGITS.replace("(window)", "(window, cache)")),
    (DRAW, DRAW + "        new = ids[-1:]\n"),
]  # fmt: skip
WRONG = [
    ("positions from 0", [("0 if kept is None else kept[0].shape[2]", "0")], 3, "from token 2 on"),
    ("a mask without the kept keys", [(".tril(k_bhte.shape[2] - t)", ".tril()")], 3, "from token 2 on"),
    (
        "one token at a time only",
        [("dtype=torch.bool).tril(k_bhte.shape[2] - t)", "dtype=torch.bool)")],
        1,
        "differ from those",
    ),
    ("sample computes all again", [("        new = ids[-1:]\n", "        new, cache = ids, []\n")], 5, "14 are enough"),
    ("no window", [("if len(ids) > longest:", "if False:")], 6, "beyond the context"),
]
