"""Curves of other training loops, in the forms in which these write them."""

import json
from pathlib import Path

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.training.curves import common_axis, draw, read_curves, table_rows, write_page

FORMS = {
    "trainer_state.json": json.dumps(
        {
            "log_history": [
                {"loss": 3.0, "epoch": 0.1, "step": 10},
                {"eval_loss": 2.9, "eval_runtime": 1.0, "step": 10},
                {"loss": 2.5, "epoch": 0.2, "step": 20},
                {"eval_loss": 2.7, "step": 20},
                {"train_loss": 2.75, "train_runtime": 9.0, "step": 20},
            ]
        }
    ),
    "metrics.csv": "epoch,iter,loss,step,val_loss\n0,40,3.0,10,\n0,40,,10,2.9\n0,80,2.5,20,\n0,80,,20,2.7\n",
    "rows.jsonl": '{"iteration": 10, "train/loss": 3, "eval/loss": 2.9}\n'
    '{"iteration": 20, "train/loss": 2.5, "eval/loss": 2.7}\n{"iteration": 30, "tr',
    "nanogpt.log": "compiling the model...\niter 10: loss 3.0000, time 33.4ms, mfu 1.2%\n"
    "step 10: train loss 2.9500, val loss 2.9000\niter 20: loss 2.5000, time 33.4ms\n"
    "step 20: train loss 2.4, val loss 2.7000\n",
    "wandb.csv": '"Step","a - train/loss","a - train/loss__MIN","a - val/loss"\n'
    '"10","3.0","1","2.9"\n"20","2.5","1","2.7"\n',
}


@pytest.fixture
def write(tmp_path: Path):
    def written(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


@pytest.mark.parametrize("name", FORMS)
def test_a_form(write, name: str) -> None:
    training, validation = read_curves([write(name, FORMS[name])])
    assert (training.name, training.validation, validation.validation) == (name, False, True)
    assert (training.x["steps"], training.losses) == ([10, 20], [3.0, 2.5])
    assert (validation.x["steps"], validation.losses) == ([10, 20], [2.9, 2.7])


def test_tensorboard(write) -> None:
    text = "Wall time,Step,Value\n1.7e9,0,4.0\n1.7e9,100,3.0\n1.7e9,50,3.5\n1.7e9,150,NaN\n"
    (curve,) = read_curves([write("run.csv", text)])
    assert (curve.x["steps"], curve.losses, curve.missing) == ([0, 50, 100], [4.0, 3.5, 3.0], 1)
    assert table_rows([curve]) == [("run.csv", "3 and 1 NaN", "0", "100", "3.0000", "3.0000", "100")]


def test_of_a_resumed_run_the_later_loss_counts(write) -> None:
    (curve,) = read_curves(
        [write("a.jsonl", "".join(f'{{"step": {n}, "loss": {n + k}}}\n' for k in (0, 5) for n in (1, 2)))]
    )
    assert (curve.x["steps"], curve.losses) == ([1, 2], [6, 7])


def test_columns_are_named(write) -> None:
    file = write("odd.tsv", "when\thow bad\tloss\n1\t5.0\t0\n2\t4.0\t0\n")
    (curve,) = read_curves([file], step="when", loss="how bad")
    assert curve.losses == [5.0, 4.0]
    usual = write("usual.csv", FORMS["metrics.csv"])
    assert [one.losses[0] for one in read_curves([usual, file], step="when", loss="how bad")] == [3.0, 2.9, 5.0]
    with pytest.raises(TinyslmError, match='no column "wen"') as told:
        read_curves([file], step="wen")
    assert "when" in told.value.remedy


def test_over_tokens_where_all_know_them(write) -> None:
    run = '{"event": "start", "tokens_per_step": 100, "steps": 9}\n' + "".join(
        f'{{"event": "step", "step": {n}, "loss": {4 - n}}}\n' for n in (1, 2)
    )
    ours = write("metrics.jsonl", run)
    litgpt = write("litgpt.csv", "step,total_tokens,loss\n1,512,3.5\n2,1024,3.25\n")
    curves = read_curves([ours, litgpt])
    assert common_axis(curves) == "tokens"
    assert [one.x["tokens"] for one in curves] == [[100, 200], [512, 1024]]
    assert "tokens" in draw(curves)[0].description
    other = write("other.csv", "step,loss\n1,3.5\n")
    assert common_axis(read_curves([ours, litgpt, other])) == "steps"
    only_tokens = write("tokens.csv", "tokens,loss\n1,3.5\n")
    with pytest.raises(TinyslmError, match="other curves have only steps"):
        common_axis(read_curves([only_tokens, other]))


def test_the_page_shows_every_curve_in_its_colour(write, tmp_path: Path) -> None:
    curves = read_curves([write("<a>.csv", "step,loss\n1,3.5\n2,3\n"), write("wandb.csv", FORMS["wandb.csv"])])
    write_page(curves, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "&lt;a&gt;.csv" in page
    assert "<a>" not in page
    assert all(cell in page for row in table_rows(curves) for cell in row if "<" not in cell)
    assert "same tokenizer" in page
    training, validation = draw(curves)
    assert "#e07a2f" in training.svg()
    assert "#3d7fd6" in training.svg()
    assert "#3d7fd6" not in validation.svg()


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "", "no column that looks like a step"),
        ("a.csv", "step,lr\n1,2\n", "no column that looks like a loss. Its columns: step, lr"),
        ("a.csv", "step,loss\nx,1\n", "no row with both a step and a loss"),
        ("a.csv", "step,loss\n1,NaN\n", "no row with both a step and a loss"),
        ("a.json", "{}", "neither rows nor"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.jsonl", "1\n{}\n{", "no column"),
        ("a.log", "nothing", "no column"),
        ("metrics.jsonl", "", "has no losses yet"),
    ],
)
def test_what_is_no_curve(write, name: str, text: str, problem: str) -> None:
    with pytest.raises(TinyslmError, match=problem):
        read_curves([write(name, text)])


def test_bytes_are_no_curve(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TinyslmError, match="not a text file"):
        read_curves([tmp_path / "a.csv"])
    with pytest.raises(TinyslmError, match="Could not read"):
        read_curves([tmp_path / "none"])
    with pytest.raises(TinyslmError, match="at most 8"):
        read_curves([tmp_path / "a.csv"] * 9)
