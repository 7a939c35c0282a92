"""Solution: count the pairs of each word, and take the most frequent ones."""

BEGIN = '"""\n\nfrom tinyslm.tokenizer.kinds import KINDS\n'
IMPORTS = '"""\n\nfrom collections import Counter\nfrom itertools import pairwise\n\nimport regex\n\n' + BEGIN[5:]
PAIRS = "    pairs = []\n"
COUNTED = """    counts = Counter()
    for text in texts:
        for word in regex.findall(split_of(wanted.digits), text):
            counts.update(pairwise(word.encode()))
    ordered = sorted(counts, key=lambda pair: (-counts[pair], pair))
    room = (wanted.vocab_size or SMALLEST) - 256 - SPECIAL_SLOTS
    pairs = [(bytes([left]), bytes([right])) for left, right in ordered[:room]]
"""

EDITS = [(BEGIN, IMPORTS), (PAIRS, COUNTED)]
WRONG = [
    ("across words", [("for word in regex.findall(split_of(wanted.digits), text):", "for word in [text]:")], 4,
     "occurs 0 times within words"),
    ("no room for special tokens", [(" - SPECIAL_SLOTS\n", "\n")], 1, "A vocabulary of 320 has"),
    ("rare pairs", [("(-counts[pair], pair)", "(counts[pair], pair)")], 4, "which is no token"),
]  # fmt: skip
