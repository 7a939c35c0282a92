"""Compare models: scores on tasks and on text, cost, samples, and disagreements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tinyslm.core.errors import TinyslmError
from tinyslm.core.plugins import load_plugins
from tinyslm.evaluation.answers import answer_all
from tinyslm.evaluation.differences import TaskComparison, compare_scores, corrected
from tinyslm.evaluation.protocols import Runtime
from tinyslm.evaluation.running import Subject, TaskScore, run_task
from tinyslm.evaluation.settings import EvaluationSettings
from tinyslm.evaluation.tasks.loading import load_tasks
from tinyslm.evaluation.tasks.task import Task
from tinyslm.export.evaluating import check_overlap, is_address, open_subject
from tinyslm.export.measuring import Cost, cost_of
from tinyslm.export.opening import kind_of
from tinyslm.export.text_quality import TextComparison, TextQuality
from tinyslm.inference.settings import SamplingSettings

DEFAULT_TASK = "grammar"
ENDPOINT = "endpoint"
PROMPTS, PROMPT_WORDS = 3, 8
"""By default, how many prompts the models continue, and the number of words in each."""
DRAWN = SamplingSettings(temperature=0.8, max_tokens=48, seed=0)
GREEDY = SamplingSettings(temperature=0.0, max_tokens=48)
PASSAGES, PASSAGE_CHARACTERS = 16, 600
"""The number and size of the passages, taken from the tasks, that measure speed if no text is given."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ComparedModel(Cost):
    """The figures of one model; `None` for unknown ones.

    kind: "folder", "gguf", "onnx" or "endpoint". With a text: bits_per_byte on it; change: the relative change of
    bits_per_byte from the first model; mean_kl: the mean KL divergence KL(first || this) in nats, if both models
    tokenize the text alike.
    """

    name: str = ""
    kind: str = ""
    bits_per_byte: float | None = None
    change: float | None = None
    mean_kl: float | None = None


@dataclass(frozen=True)
class PromptContinuations:
    """A prompt and each model's continuation; "" for a model that could not continue it."""

    prompt: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The figures of all models.

    passages, tokens, utf8_bytes: of the text that all models scored, in the first model's tokens; 0 without a text.
    sampling: how the continuations in `samples` were generated. notes: remarks that the figures need.
    """

    models: tuple[ComparedModel, ...]
    passages: int = 0
    tokens: int = 0
    utf8_bytes: int = 0
    tasks: tuple[TaskComparison, ...] = ()
    samples: tuple[PromptContinuations, ...] = ()
    sampling: SamplingSettings = DRAWN
    notes: tuple[str, ...] = ()

    @property
    def comparisons(self) -> int:
        """How many differences were tested; their p-values are corrected for this number."""
        return sum(one is not None for task in self.tasks for one in task.differences)

    def as_json(self, *, items: bool = True) -> dict[str, Any]:
        """The comparison as JSON values. items: whether to include the outcome of every item."""
        found = {**asdict(self), "sampling": self.sampling.model_dump(mode="json"), "comparisons": self.comparisons}
        if not items:
            for score in (score for task in found["tasks"] for score in task["scores"] if score is not None):
                for key in ("ids", "outcomes", "answers"):
                    del score[key]
        return found


@dataclass(frozen=True)
class _Found:
    """The results of one model."""

    compared: ComparedModel
    scores: tuple[TaskScore | None, ...]
    texts: tuple[str, ...]
    notes: tuple[str, ...]


def compare_models(
    models: Sequence[str | Path],
    texts: Sequence[str] = (),
    tasks: str | Sequence[str] = (),
    *,
    prompts: Sequence[str] | None = None,
    tokens: int | None = None,
    settings: EvaluationSettings | None = None,
    progress: Progress = lambda *_: None,
) -> Comparison:
    """Compare model folders, run folders, GGUF files, ONNX folders and endpoints (`http://HOST:PORT/v1#MODEL`).

    texts: text that no model was trained on. All models except endpoints score the same passages, spread evenly over
    it: about `tokens` tokens, by default 8,192, or 512 if there is a GGUF file. With texts, list each export after the
    model folder that it was made from. tasks: see `load_tasks`; by default, without texts, the set "grammar". prompts:
    texts that every model continues; by default the first words of some texts or items.

    Raises `TinyslmError` for models, texts and tasks that cannot be used.
    """
    settings = settings or EvaluationSettings()
    load_plugins(settings.plugin)
    places = [str(model) for model in models]
    kinds = _check(places, texts)
    chosen = tasks or ((DEFAULT_TASK,) if not texts else ())
    loaded = load_tasks(chosen, limit=settings.limit or None) if chosen else []
    local = [Path(place) for place, kind in zip(places, kinds, strict=True) if kind != ENDPOINT]
    text = TextComparison(local, texts, tokens) if texts else None
    passages = text.passages if text else _passages(loaded)
    asked = tuple(_beginnings(passages, loaded) if prompts is None else prompts)
    sampling = GREEDY if "onnx" in kinds else DRAWN
    found: list[_Found] = []
    for place, kind, name in zip(places, kinds, _names(places), strict=True):
        progress(f"opening {name}", 0, 0)
        with open_subject(place, settings) as subject:
            quality = None
            if text is not None and kind != ENDPOINT:
                progress(f"the text: {name}", 0, 0)
                quality = text.measure(Path(place), cast("Runtime", subject.scorer))
            scores, problems = _scores(subject, place, name, loaded, settings, progress)
            progress(f"speed and samples: {name}", 0, 0)
            parameters = text.parameters(Path(place)) if quality and text else None
            compared = _compared(name, kind, cost_of(subject, place, kind, passages, parameters), quality)
            texts_after, silent = _continued(subject, name, asked, sampling)
            found.append(_Found(compared, scores, texts_after, (*problems, *silent)))
    compared_tasks = [compare_scores(task, [one.scores[index] for one in found]) for index, task in enumerate(loaded)]
    return Comparison(
        models=tuple(one.compared for one in found),
        passages=len(text.passages) if text else 0,
        tokens=text.tokens if text else 0,
        utf8_bytes=text.utf8_bytes if text else 0,
        tasks=tuple(corrected(compared_tasks)),
        samples=tuple(
            PromptContinuations(prompt, tuple(one.texts[index] for one in found)) for index, prompt in enumerate(asked)
        ),
        sampling=sampling,
        notes=(*_notes(kinds, texts, tasks, sampling), *(note for one in found for note in one.notes)),
    )


def _check(places: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The kinds of the models. Raises `TinyslmError` for inputs that cannot be compared."""
    if not places:
        raise TinyslmError(
            "No models to compare were given.", "For instance: tinyslm compare MODEL MODEL2 --tasks grammar"
        )
    kinds = [ENDPOINT if is_address(place) else kind_of(Path(place)) for place in places]
    if texts and not any(text.strip() for text in texts):
        raise TinyslmError("The text to compare the models on is empty.", "Give text that no model was trained on.")
    if texts and set(kinds) == {ENDPOINT}:
        raise TinyslmError("Endpoints cannot be compared on a text.", "Give --tasks instead, or add a model folder.")
    return kinds


def _scores(
    subject: Subject,
    place: str,
    name: str,
    tasks: Sequence[Task],
    settings: EvaluationSettings,
    progress: Progress,
) -> tuple[tuple[TaskScore | None, ...], tuple[str, ...]]:
    """The model's scores, and notes on tasks that it could not run. Raises `TinyslmError` if it could run none."""
    scores: list[TaskScore | None] = []
    problems: list[TinyslmError] = []
    notes: list[str] = []
    for task in tasks:

        def report(stage: str, done: int, total: int, task: str = task.name) -> None:
            progress(f"{task}: {stage}: {name}", done, total)

        try:
            score = run_task(subject, task, seeds=settings.seeds, progress=report)
        except TinyslmError as error:
            problems.append(error)
            scores.append(None)
            notes.append(f"{name} has no score on {task.name}: {error.problem}")
        else:
            scores.append(score)
    if tasks and len(problems) == len(tasks):
        raise problems[0]
    checked = check_overlap(place, tasks, scores)
    notes += [f"{name}, {score.task}: {note}" for score in checked if score is not None for note in _remarks(score)]
    return tuple(checked), tuple(notes)


def _remarks(score: TaskScore) -> list[str]:
    """Reservations about a score."""
    found = list(score.notes)
    if score.truncated:
        found.append(f"{score.truncated:,} items are longer than the context and were cut on the left.")
    if score.overlap is not None and score.overlap.found:
        without = score.overlap.value_without
        rest = "" if without is None else f"; the score without them is {without:.4f}"
        found.append(f"{score.overlap.found:,} items are in its training data{rest}.")
    return found


def _compared(name: str, kind: str, cost: Cost, quality: TextQuality | None) -> ComparedModel:
    return ComparedModel(name=name, kind=kind, **asdict(cost), **(asdict(quality) if quality else {}))


def _continued(
    subject: Subject, name: str, prompts: Sequence[str], settings: SamplingSettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The model's continuation of each prompt; and a note if it cannot continue text, such as a chat-only server."""
    if subject.generator is None or not prompts:
        return ("",) * len(prompts), ()
    try:
        found = answer_all(subject.generator, subject.reading, [_Beginning(prompt) for prompt in prompts], settings)
    except TinyslmError as error:
        return ("",) * len(prompts), (f"{name} cannot continue text: {error.problem}",)
    return tuple(one.text for one in found.completions), ()


@dataclass(frozen=True)
class _Beginning:
    """A text to continue, as `answer_all` takes it."""

    text: str

    def prompt(self) -> str:
        """The text."""
        return self.text

    def tools(self) -> Sequence[Any]:
        """None."""
        return ()


def _passages(tasks: Sequence[Task]) -> list[str]:
    """Passages spread evenly over the tasks' texts."""
    whole = "\n\n".join(example.text for task in tasks for example in task.examples)
    step = max(PASSAGE_CHARACTERS, len(whole) // PASSAGES)
    return [whole[start : start + PASSAGE_CHARACTERS] for start in range(0, len(whole), step)][:PASSAGES]


def _beginnings(passages: Sequence[str], tasks: Sequence[Task]) -> list[str]:
    """The first words of a few items of the tasks, or else of a few passages."""
    texts = [example.text for task in tasks for example in task.examples] or list(passages)
    chosen = [texts[index * len(texts) // PROMPTS] for index in range(min(PROMPTS, len(texts)))]
    words = [text.split() for text in chosen]
    return list(dict.fromkeys(" ".join(some[: max(1, min(PROMPT_WORDS, len(some) // 2))]) for some in words if some))


def _notes(kinds: Sequence[str], texts: Sequence[str], tasks: Sequence[str], sampling: SamplingSettings) -> list[str]:
    notes = []
    if not texts and not tasks:
        notes.append(f'Without a text or tasks, models are compared on the built-in set "{DEFAULT_TASK}".')
    if texts and ENDPOINT in kinds:
        notes.append("Endpoints are not compared on the text.")
    if ENDPOINT in kinds:
        notes.append("The speed of an endpoint includes the time on the network.")
    if sampling.greedy:
        notes.append("Samples use greedy decoding, because ONNX Runtime supports no other sampling here.")
    return notes


def _names(places: Sequence[str]) -> list[str]:
    """Display names: the name of the folder, or of the run for its `model` folder; whole paths if names collide."""
    short = [_short(place) for place in places]
    names = short if len(set(short)) == len(short) else list(places)
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _short(place: str) -> str:
    if is_address(place):
        return place.rpartition("#")[2] if "#" in place else place.partition("://")[2]
    path = Path(place).resolve()
    return path.parent.name if path.name == "model" else path.name
