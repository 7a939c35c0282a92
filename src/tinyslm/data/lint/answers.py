"""Checks of the answers: truncated, dominated by one answer, contained in the prompt, or of another assistant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tinyslm.data.conversations import Conversation
from tinyslm.data.lint.check import Answer, Check, Examples, Hit, quoted

FEWEST = 20
"""Minimum number of answers for checks of shares."""

# Cut off: an answer breaks a rule that nearly all others follow.
FOLLOWED = 0.95
"""Minimum share of the answers that follow a rule, so that the others count as faulty."""
FULL_WORDS = 6
"""An answer of at least this many words should end like a sentence."""
SAME_LENGTH = 5
"""This many answers of exactly the maximum length suggest a limit on the length."""
_ENDS = tuple(".!?…。！？।۔:;)]}>\"'`*_”’»|~")
_DANGLING = re.compile(
    r"(?:[,(\[{]|(?<![–—-])[–—-]|\b(?:a|an|the|and|or|of|to|in|for|with|from|by|at|that|which|is|are|was|were|be|as|his|her|their"
    r"|its|your|my|der|die|das|und|oder|mit|von|le|la|les|et|ou|de|du|des|el|los|las|y|con))$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^[ \t>]*(?:[-*+] +|\d+[.)] +)?(```+|~~~+)", re.MULTILINE)
_QUOTED = re.compile(r"""\\.|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`\n]*`""")
_BRACKETS = {")": "(", "]": "[", "}": "{"}


def _cut_off(data: Examples) -> Iterator[Hit]:
    reasons: dict[int, str] = {}
    for rule in (_open_fences, _open_brackets, _unfinished, _same_length):
        for number, reason in rule(data.answers):
            reasons.setdefault(number, reason)
    for number, reason in sorted(reasons.items()):
        yield Hit(data.answers[number].place, f"{reason}: …{quoted(data.answers[number].text[-50:])}")


Faults = Iterator[tuple[int, str]]
"""Indices of answers, and the reason of each."""


def _exceptions(answers: Sequence[Answer], breaks: Callable[[str], bool | None]) -> list[int]:
    """Indices of answers that break a rule that nearly all others follow. breaks: `None` if the rule does not apply."""
    results = {number: broken for number, one in enumerate(answers) if (broken := breaks(one.text)) is not None}
    wrong = [number for number, broken in results.items() if broken]
    return wrong if len(wrong) <= (1 - FOLLOWED) * len(results) or len(results) < FEWEST else []


def _open_fences(answers: Sequence[Answer]) -> Faults:
    for number, one in enumerate(answers):
        if "```" in one.text and len(_FENCE.findall(one.text)) % 2:
            yield number, "a code block is not closed"


def _open_brackets(answers: Sequence[Answer]) -> Faults:
    def breaks(text: str) -> bool | None:
        if not any(sign in text for sign in "([{"):
            return None
        text = text.strip()
        part = text if text[0] in "[{" else text[text.rfind("\n") + 1 :]  # JSON, or the last line of other text
        opened: list[str] = []
        for sign in _QUOTED.sub("", part):
            if sign in "([{":
                opened.append(sign)
            elif opened and _BRACKETS.get(sign) == opened[-1]:
                opened.pop()
        return bool(opened) and not text.endswith(_ENDS) and not re.search(r"(?:^|\s)[(\[{]+$", text)

    for number in _exceptions(answers, breaks):
        yield number, "a bracket is not closed"


def _unfinished(answers: Sequence[Answer]) -> Faults:
    """If nearly all answers end like sentences: those that end within a word, or with a word that requires another."""
    known = Counter(word for one in answers for word in _words(one.text))
    beginnings = {word[:size] for word, count in known.items() if count > 1 for size in range(2, len(word))}

    def breaks(text: str) -> bool | None:
        end = text.rstrip()
        return None if len(text.split()) < FULL_WORDS else not end.endswith(_ENDS)

    for number in _exceptions(answers, breaks):
        end = answers[number].text.rstrip()
        last = (_words(end[-60:]) or [""])[-1]
        if _DANGLING.search(end):
            yield number, "it ends in mid-sentence"
        elif known[last] == 1 and last in beginnings:
            yield number, "it ends in mid-word"


def _same_length(answers: Sequence[Answer]) -> Faults:
    """Answers of exactly the maximum length, if most of these do not end like sentences."""
    longest = max((len(one.text) for one in answers), default=0)
    same = [number for number, one in enumerate(answers) if len(one.text) == longest]
    different = {answers[number].text for number in same}
    open_ended = [number for number in same if not answers[number].text.rstrip().endswith(_ENDS)]
    if len(different) >= SAME_LENGTH and longest > 40 and len(open_ended) > len(same) / 2:
        yield from ((number, f"it ends after {longest:,} characters, as others do") for number in open_ended)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


# One answer for everything.
DOMINANT = 0.5
"""Minimum share of a dominating answer."""
REPEATED_SHARE, REPEATED_WORDS = 0.05, 4
"""Minimum share and words of a dominating answer, such as a refusal, among answers that are mostly unique."""


def _dominating(data: Examples) -> Iterator[Hit]:
    answers = [" ".join(one.text.casefold().split()) for one in data.answers]
    if len(answers) < FEWEST:
        return
    counts = Counter(answers)
    (answer, count), *_ = counts.most_common(1)
    different = sum(1 for one in counts.values() if one == 1) > len(answers) / 2
    phrase = len(answer.split()) >= REPEATED_WORDS and count >= FEWEST / 2
    if count < (REPEATED_SHARE if different and phrase else DOMINANT) * len(answers):
        return
    share = f"{100 * count / len(answers):.0f} % of all answers are"
    for one, text in zip(data.answers, answers, strict=True):
        if text == answer:
            yield Hit(one.place, f"{share} {quoted(one.text)}")


# The prompt contains the answer.
GIVEN_WORDS = 8
"""A prompt does not contain an answer of this many words by chance."""
BY_DESIGN = 0.02
"""Above this share of such rows, copying is the task, as in extraction and reading."""
_LABEL = re.compile(
    r"(?:^|\n)[ \t#*]*(?:answer|response|output|solution|completion|assistant|label)s?[ \t*]*[:=][ \t*]*\n*$", re.I
)


def _given_away(data: Examples) -> Iterator[Hit]:
    labelled: list[Hit] = []
    copied: list[tuple[int, Hit]] = []
    long = 0
    for row, one in enumerate(data.conversations):
        answer = _last_answer(one).strip()
        prompt = _last_question(one)
        words = len(answer.split())
        long += words >= GIVEN_WORDS
        if not answer or answer not in prompt:
            continue
        before, _, after = prompt.rpartition(answer)
        if prompt.strip() == answer:
            labelled.append(Hit(one.place, f"the answer is the prompt: {quoted(answer)}"))
        elif not after.strip() and (_LABEL.search(before) or (before.endswith("\n") and words >= GIVEN_WORDS)):
            labelled.append(Hit(one.place, f"the prompt ends with its answer: {quoted(answer)}"))
        elif words >= GIVEN_WORDS:
            copied.append((row, Hit(one.place, f"the prompt contains the answer: {quoted(answer)}")))
    yield from labelled
    if len(copied) <= max(1, BY_DESIGN * long):
        yield from (hit for _, hit in copied)


def _echoed(data: Examples) -> Iterator[Hit]:
    for one in data.conversations:
        prompt, answer = _last_question(one).strip(), _last_answer(one)
        if len(prompt.split()) >= GIVEN_WORDS and prompt in answer and prompt != answer.strip():
            yield Hit(one.place, f"the answer contains {quoted(prompt)}")


def _last_answer(one: Conversation) -> str:
    """The last message of a conversation if it is the assistant's, else ""."""
    return str(one.messages[-1]["content"]) if one.messages[-1]["role"] == "assistant" else ""


def _last_question(one: Conversation) -> str:
    return next((message["content"] for message in reversed(one.messages) if message["role"] == "user"), "")


# Another assistant.
_MAKERS = (
    "OpenAI|Anthropic|Google(?: DeepMind)?|DeepMind|Meta(?: AI)?|Microsoft|Mistral(?: AI)?|DeepSeek|Alibaba(?: Cloud)?"
    "|xAI|Cohere|Moonshot AI|Zhipu(?: AI)?|Baidu|Hugging ?Face|Nvidia|IBM"
)
_NAMES = (
    r"ChatGPT|GPT-?[345][\w.-]*|Claude(?: \d\S*)?|Gemini|Bard|LLaMA[\w.-]*|Qwen[\w.-]*|DeepSeek[\w.-]*|Mistral|Copilot"
    r"|Grok|Kimi|ERNIE(?: Bot)?|Bing Chat|Vicuna|Alpaca|SmolLM\w*|Phi-\d"
)
_IDENTITY = re.compile(
    rf"\b(?:I am|I['’]m|my name is|ich bin|je suis|soy|yo soy|sono|eu sou|you are) (?:an? |the )?(?:{_NAMES})\b"
    rf"|\b(?:I|you)(?:['’]m| am| are| was|['’]ve been| have been)\b[^.!?\n]{{0,80}}?"
    rf"\b(?:developed|trained|created|made|built|designed)(?: and \w+)? by (?:{_MAKERS})\b"
    r"|\bas an? (?:AI|artificial intelligence|large language|language|virtual)(?: language)?(?: model| assistant)?"
    r"(?: (?:developed|trained|created|made) by \w+)?,? I\b"
    r"|\b(?:I am|I['’]m) (?:just |only )?an? (?:AI|artificial intelligence|large language model|language model)\b"
    r"|\bmy (?:knowledge cutoff|training data (?:only )?(?:goes|ends|includes|cuts))\b"
    r"|\bals (?:ein )?KI-(?:Sprach)?[mM]odell\b|\ben tant qu['’](?:IA|intelligence artificielle|assistant IA)\b"
    r"|\bcomo (?:un |uma? )?(?:modelo de lengua|modelo de linguagem|IA)\w*"
    r"|我是(?:ChatGPT|文心一言|通义千问|由OpenAI)|作为一[个個](?:AI|人工智能|大?语言模型)",
    re.IGNORECASE,
)


def _identity(data: Examples) -> Iterator[Hit]:
    for one in data.conversations:
        for message in one.messages:
            if message["role"] not in ("assistant", "system"):
                continue
            if found := _IDENTITY.search(message["content"]):
                yield Hit(one.place, quoted(found[0]))
                break


CHECKS = {
    "cut-off": Check(
        "warning",
        "Answers that look cut off",
        "Complete or remove them: the model learns to stop there.",
        _cut_off,
    ),
    "same-answer": Check(
        "warning",
        "Rows with one answer that dominates",
        "Add rows with other answers, or remove most of these: the model learns to give this answer to everything.",
        _dominating,
    ),
    "given-away": Check(
        "warning",
        "Prompts that contain their answer",
        "Remove the answer from the prompt, unless the job is to copy it: otherwise the model learns to copy.",
        _given_away,
    ),
    "echoed": Check(
        "note",
        "Answers that repeat their whole prompt",
        "Remove the prompt from the answer, unless the model should repeat it.",
        _echoed,
    ),
    "identity": Check(
        "warning",
        "Rows that speak as another assistant",
        "Rewrite or remove them, unless your model should say this about itself.",
        _identity,
    ),
}
