"""The teacher's page: two timetables, what must be installed, one server for all, what to print."""

from collections.abc import Sequence

from tinyslm.core.page import Block, Paragraph, Sample, Section, Table

TEACHER = "teacher.html"
_LESSON = (
    ("0:00", "Let the class complete “The cat sat on the”, and count the answers: a distribution.", ""),
    ("0:05", "Text to tokens: each pupil types a sentence and counts its tokens.", "tokens"),
    ("0:12", "What the model predicts after a sentence of the class; temperature and top-k as sliders.", "prediction"),
    ("0:22", "Attention by hand: one row of scores, softmax with a pocket calculator, the weighted sum.", "attention"),
    ("0:32", "What the same model wrote before training, and at each snapshot.", "training"),
    ("0:40", "What the model cannot know, and why it sounds certain anyway. Homework: exercise 2.", ""),
)  # fmt: skip
_DAY = (
    ("9:00", "The lesson above, at a slower pace.", "tokens, prediction"),
    ("10:00", "Start one training per group: tinyslm train TEXT --minutes 20 --train.snapshots 8.", ""),
    ("10:15", "Exercise 1, together at the projector: read the file, change three lines, check.", "exercise 1"),
    ("10:45", "Break", ""),
    ("11:00", "Embeddings and attention, with the groups' own models.", "embeddings, attention"),
    ("11:45", "Exercises 2 and 3, in pairs.", "exercises 2, 3"),
    ("12:30", "Lunch", ""),
    ("13:30", "Feed-forward and residual stream: switch off a head, and see what that costs.", "feed-forward"),
    ("14:00", "Exercise 4 or 5; those who finish early continue with 6.", "exercises 4 to 6"),
    ("15:15", "Break", ""),
    ("15:30", "Training and its faults: which curve is which? Then: what a night of training would buy.",
     "training, scale"),
    ("16:00", "Evaluation: exercise 7, a grader, and 8, a task. Compare the groups' models with it.", "exercises 7, 8"),
    ("16:45", "Each group shows a text of its model, its score, and one thing that surprised it.", ""),
)  # fmt: skip


def teacher_sections() -> Sequence[Block]:
    """What the page says."""
    return (
        Section(
            "A lesson of 45 minutes",
            (
                Paragraph(
                    "For pupils who know tables and percentages; no programming. One computer with a projector is "
                    "enough. Make the course before the lesson, so that nobody has to wait. For a shorter lesson, "
                    "leave out attention."
                ),
                Table(_LESSON, ("from", "what happens", "chapter")),
            ),
        ),
        Section(
            "A day",
            (
                Paragraph(
                    "For pupils or students who know Python. Groups of two or three at one computer each. Exercises 9 "
                    "to 12 are for a second day, or for a project of several weeks."
                ),
                Table(_DAY, ("from", "what happens", "chapter or exercise")),
            ),
        ),
        Section("What must be installed", _installing()),
        Section("One server for 20 pupils", _server()),
        Section("What to print", _printing()),
    )


def _installing() -> Sequence[Block]:
    return (
        Table(
            (
                ("to read the course", "a browser of the last three years; no network, no program"),
                ("to solve exercises", "Python 3.11 or newer, and tinyslm: 0.3 GB, without administrator rights"),
                (
                    "to train",
                    "two cores and 4 GB of memory; with a C++ compiler training is two to three times as fast",
                ),
                ("systems", "Linux, macOS, Windows with WSL 2: without WSL, exercises cannot be checked"),
            ),
            ("for", "is needed"),
        ),
        Paragraph(
            "The folder of the course can be copied to a USB stick or a file server: its pages load nothing from the "
            "network. After installation, nothing needs the Internet; on a computer without it, install from a "
            "folder of wheels made with pip download."
        ),
        Sample("Before the lesson", "tinyslm doctor\ntinyslm learn --minutes 5 --no-open"),
    )


def _server() -> Sequence[Block]:
    return (
        Paragraph(
            "Chat and the view of tokens and probabilities can be used without an installation, from a server in the "
            "classroom. Other computers can connect only if it has keys; give each group one."
        ),
        Sample(
            "On the teacher's computer",
            "tinyslm serve --make-key group-1 --keys keys.txt    # for each group; prints its key\n"
            "tinyslm serve runs/class --host 0.0.0.0 --keys keys.txt --max-answer 200 --max-seconds 60",
        ),
        Table(
            (
                (
                    "concurrent requests",
                    "--max-requests: 256, far more than 20 pupils need; further requests get error 429",
                ),
                ("connections per address", "--max-connections: 512; behind a proxy all pupils share one address"),
                (
                    "length and time of an answer",
                    "--max-answer and --max-seconds; without them, one answer can fill the whole "
                    "context and take up to ten minutes",
                ),
                (
                    "speed",
                    "requests share the processor: concurrent answers are computed in one batch, and each is slower. "
                    "Try it with four windows before the lesson",
                ),
                ("a share for each pupil", "not guaranteed: whoever asks more gets more"),
                (
                    "encryption",
                    "none: keys and texts can be read on the network. Use a separate network for the classroom, or "
                    "a proxy with TLS",
                ),
                ("what is kept", "nothing on disk, and no prompts in the log unless --log-prompts is given"),
                ("training", "not through the server: each group trains on its own computer, or one at a time"),
            ),
            ("what", "limit"),
        ),
        Paragraph(
            "A small model writes nonsense, and it may repeat its training text: choose that text yourself. There is "
            "no content filter. Do not let them type personal data into a server that others run."
        ),
    )


def _printing() -> Sequence[Block]:
    return (
        Table(
            (
                ("for everybody", "the page of the exercise; hints and files are printed only if they are unfolded"),
                (
                    "for attention by hand",
                    "the step-by-step tables of the chapter on attention, for one short sentence",
                ),
                ("for reading in pairs", "lessons/tiny.py, six pages: the whole model from bytes to sampling"),
                ("not", "pages with sliders: they need the screen"),
            ),
            ("print", "what"),
        ),
        Paragraph(
            "Solutions are not part of the course. Those of the exercises are in the source tree, in "
            "tests/course/solutions."
        ),
    )
