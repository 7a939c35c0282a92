"""The strings, prompts and conversations that exports are tried with: public, and always the same."""

import random
from collections.abc import Iterator

SPECIAL = (
    "<|endoftext|> is how it is written, and so are <|im_start|>user and <|im_end|>",
    "<s>[INST] x [/INST]</s> <bos><eos> <unk> <pad> <0x0A> [CLS] [SEP] <|begin_of_text|><|eot_id|>",
    "<|pad|><|reserved_0|> <start_of_turn>user <end_of_turn>",
)
"""Special tokens as text: what a user writes must not act as one."""

SCRIPTS = (
    "It's 12345 o'clock; WE'LL see: naïve Straße, façade, Ærøskøbing.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "我能吞下玻璃而不伤身体。漢字かな交じり文、カタカナ。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "نص حكيم له سر قاطع وذو شأن عظيم. דג סקרן שט בים מאוכזב.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण। เป็นมนุษย์สุดประเสริฐ",
    "👩‍👩‍👧 🏳️‍🌈 🇩🇪🇯🇵 👍🏽 ✈️ 🫠 𝕌𝕟𝕚𝕔𝕠𝕕𝕖 ﷽ Z̷͓̈a̸l̶g̵o̷",
    "½ ² ① Ⅳ ﬁ Ａｂ１ \u00a0nbsp \u3000wide\u200bzero\ufeffmark\u2028line",
)

CODE = (
    "def f(x, *, y=1):\n    return {k: v for k, v in x.items() if v != y}  # naïve\n",
    'for (int i = 0; i < 10; ++i) {\n\tprintf("%d\\n", a[i] << 2);\r\n}',
    '{"a": [1, 2.5e-3, null, true], "b": "\\u00e9\\n"}',
    "SELECT name FROM t WHERE id IN (1,22,333,4444,55555) AND x LIKE '%a_b%';",
    '=IF(A1>0,VLOOKUP(A1,Sheet2!$A$1:$B$9,2,FALSE),"")',
    "https://example.org/a?b=c&d=%20#e  user@example.org  C:\\Users\\x  ../..//x",
)

SPACES = (
    "",
    " ",
    "a",
    "\n",
    "  leading and trailing  ",
    "one  two   three    four     five",
    "tabs\t\tand\n\n\nlines\r\nof\r\rall  \n  kinds \t \n",
    " " * 40 + "x" + "\n" * 12 + "\t" * 9,
    "\x00\x01\x02\x07\x1b[31mred\x1b[0m\x7f\x85",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "I'll we've DON'T they're O'Neill's 'tis '' \"quotes\" “curly” — … !!! ??? ... --- ===",
)

PROMPTS = (
    "Once upon a time, there was a little",
    "The capital of France is",
    "def add(a, b):\n    return",
    "To make tea, first",
    "In 1969, the first",
    "The three primary colours are",
    "A dog and a cat",
    "import os\n\nfor name in",
    "She opened the door and",
    "Dear Sir or Madam,",
    "1, 2, 3, 4,",
    "The difference between a virus and a bacterium is",
    "It was raining, so",
    "SELECT name, price FROM",
    "Water boils at",
    'The old man said: "',
    "My favourite book is",
    "To be, or not to be,",
    "Il était une fois",
    "Question: What is 2 + 2?\nAnswer:",
)

CONVERSATIONS = (
    [{"role": "user", "content": "How many legs has a beetle?"}],
    [
        {"role": "system", "content": "You answer in one word."},
        {"role": "user", "content": "What colour is the sky?"},
    ],
    [
        {"role": "user", "content": "Say hi, 用中文。"},
        {"role": "assistant", "content": "你好!"},
        {"role": "user", "content": "And now\n\nin two lines, please: 1 + 1 = ?"},
    ],
)

_PIECES = (
    *SCRIPTS,
    *CODE,
    "the quick brown fox jumps over the lazy dog and runs away from 1234567890 hungry bears",
    "\x00\x03\x0c\x1f\x7f\x80\x9f \t\n\r\v\u2003\u00ad\u200d\ufffd",
    "😀😁🦊🚀❤️‍🔥👨‍🚀",
)


def strings(count: int) -> list[str]:
    """So many different strings: the fixed ones first, then pieces of many scripts, code and spaces put together."""
    fixed = [*SPACES, *SPECIAL, *SCRIPTS, *CODE, *PROMPTS]
    made = _mixtures(random.Random(0))
    found = dict.fromkeys(fixed[:count])
    while len(found) < count:
        found[next(made)] = None
    return list(found)


def _mixtures(chance: random.Random) -> Iterator[str]:
    """Strings of one to six parts, each cut from somewhere or drawn from all of Unicode, never in a lone half."""
    while True:
        yield "".join(_part(chance) for _ in range(chance.randint(1, 6)))


def _part(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.6:
        piece = chance.choice(_PIECES)
        start = chance.randrange(len(piece))
        return piece[start : start + chance.randint(1, 30)]
    if kind < 0.8:
        return chance.choice((" ", "\n", "\t", "\r\n", "  ", "\u00a0")) * chance.randint(1, 8)
    if kind < 0.9:
        return str(chance.randrange(10 ** chance.randint(1, 12)))
    code = chance.choice((0x80, 0x3000, 0x10000)) + chance.randrange(0x3000)
    return chr(code)
