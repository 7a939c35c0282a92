"""Solution: both modules hold one parameter."""

HEAD = "        self.head = nn.Linear(dim, vocab_size, bias=False)\n"
TIED = "        self.head.weight = self.tokens.weight\n"
SMALL = "        nn.init.normal_(self.tokens.weight, std=0.02)\n"

EDITS = [(HEAD, HEAD + TIED + SMALL)]
WRONG = [
    ("a copy", [(TIED, "        self.head.weight.data = self.tokens.weight.data.clone()\n")], 1, "and not a copy"),
    ("large numbers", [(SMALL, "")], 4, "The loss before training is"),
    ("a fixed table", [(TIED, TIED + "        self.tokens.weight.requires_grad_(False)\n")], 3, "no gradient"),
]
