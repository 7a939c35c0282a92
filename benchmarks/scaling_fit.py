"""Fit the law that the planner predicts with to the models in `scaling_runs.json`, and write it into the package.

    python benchmarks/scaling_fit.py

It prints how well the law fits, also for each text when it takes no part in the fit, and the largest errors. A fit is
least squares of relative errors by Levenberg's and Marquardt's method, over the logarithms of the coefficients, each
held near a first guess as firmly as its spread says.
"""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import HERE, parser
from scaling import BYTE, RUNS, TEXTS
from tinyslm.core.files import write_json
from tinyslm.planning.law import Coefficients, Conditions, predict
from tinyslm.planning.survey import BYTES_FOR_A_TOKEN

LAW = HERE.parent / "src/tinyslm/planning/law.json"
SAMPLE_BYTES = 250_000
"""Runs that were scored on no more validation text than this are carried over to all of it: some documents of a text
are harder than others. By what factor, is stored with the text for each vocabulary (`of_sample`)."""
GUESS = {
    "lasting": (0.4, 0.7),
    "passing": (0.7, 0.5),
    "bend": (0.7, 0.7),
    "floor": (0.25, 0.7),
    "size": (0.1, 1.0),
    "size_power": (0.35, 0.3),
    "text": (0.4, 0.7),
    "text_power": (0.35, 0.3),
    "joining": (1.0, 0.4),
    "window": (0.3, 1.0),
    "window_power": (0.5, 0.3),
    "near": (1.0, 1.0),
    "near_power": (0.7, 0.3),
    "distant": (4.0, 1.0),
    "reach": (100.0, 1.0),
    "reach_power": (0.7, 0.5),
    "few_blocks": (3.0, 0.5),
    "narrow": (0.5, 0.5),
    "table_share": (0.4, 0.3),
    "output_share": (0.3, 0.7),
    "repeats": (2.0, 0.5),
    "rereading": (0.5, 0.5),
    "capacity": (5.0, 0.3),
    "critical_update": (8000.0, 1.0),
    "growth": (0.5, 0.7),
    "noisy_update": (300.0, 1.0),
    "noise": (2.0, 0.7),
    "token_power": (0.7, 0.5),
    "context_cost": (0.3, 0.7),
}
EXPECTED_SPREAD = 0.015
PLANNED_WEIGHT = 3.0
"""What the error of a planned run weighs: it is what the law is for, and there are few of them."""
MAX_READINGS = 8
"""Beyond, a model has learned its text by heart, unless it was planned: then its best weights count."""


def main() -> None:
    parser(__doc__).parse_args()
    stored = json.loads(RUNS.read_text())
    trained = [run for run in stored["runs"].values() if "bits_per_byte" in run]
    runs = [run for run in trained if run["text"] in TEXTS and _plannable(run, stored["texts"][run["text"]])]
    found = [_conditions(run, stored["texts"][run["text"]]) for run in runs]
    bits = np.array([run["bits_per_byte"] * _carried_over(run, stored["texts"][run["text"]]) for run in runs])
    weights = np.array([PLANNED_WEIGHT if run.get("planned") else 1.0 for run in runs])
    coefficients, errors = fitted(found, bits, weights)
    spread = float(np.sqrt(np.mean(errors**2)))
    left_out = []
    for text in TEXTS:
        inside = np.array([run["text"] != text for run in runs])
        if inside.all() or not inside.any():
            continue
        known = [one for one, use in zip(found, inside, strict=True) if use]
        without, _ = fitted(known, bits[inside], weights[inside])
        missed = _errors(without, found, bits)[~inside]
        left_out.append(float(missed.mean()))
        print(f"{text} left out: {missed.mean():+.1%} on average, spread {missed.std():.1%}", flush=True)
    for text in stored["texts"].keys() - {*TEXTS}:
        others = [run for run in trained if run["text"] == text]
        measured = np.array([run["bits_per_byte"] for run in others])
        missed = _errors(coefficients, [_conditions(run, stored["texts"][text]) for run in others], measured)
        left_out.append(float(missed.mean()))
        print(f"{text}, which took no part: {missed.mean():+.1%} on average, spread {missed.std():.1%}", flush=True)
    law = {
        "coefficients": {name: float(f"{value:.5g}") for name, value in coefficients.items()},
        "spread": round(spread, 4),
        "text_spread": round(float(np.sqrt(np.mean(np.square(left_out)))) if left_out else 0.0, 4),
        "runs": len(runs),
        "weights": _range([run["parameters"] / 1e6 for run in runs]),
        "tokens": _range([run["tokens"] / 1e6 for run in runs]),
        "vocabulary": _range([run["vocab"] for run in runs]),
        "update": _range([run["batch"] * run["context"] for run in runs]),
        "context": _range([run["context"] for run in runs]),
    }
    write_json(LAW, law)
    for run, error in sorted(zip(runs, errors, strict=True), key=lambda pair: -abs(pair[1]))[:10]:
        shape = " ".join(f"{key} {run[key]}" for key in ("text", "vocab", "dim", "depth", "tokens", "context", "batch"))
        print(f"{error:+.1%}  {run['bits_per_byte']:.3f}  {shape} epochs {run['bytes_seen'] / run['unique_bytes']:.1f}")
    print(json.dumps(law, indent=2))


def fitted(
    found: list[Conditions], bits: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[dict[str, float], NDArray[np.float64]]:
    """The coefficients that come nearest, and the relative errors that are left."""
    guesses = np.array([math.log(guess) for guess, _ in GUESS.values()])
    widths = np.array([width for _, width in GUESS.values()])

    def residuals(values: NDArray[np.float64]) -> NDArray[np.float64]:
        coefficients = dict(zip(GUESS, np.exp(values).tolist(), strict=True))
        missed = weights * _errors(coefficients, found, bits) / EXPECTED_SPREAD
        return np.concatenate([missed, (values - guesses) / widths])

    values, damping = guesses.copy(), 1.0
    now = residuals(values)
    for _ in range(300):
        slopes = np.stack([(residuals(values + step) - now) / 1e-5 for step in 1e-5 * np.eye(len(values))], axis=1)
        curvature = slopes.T @ slopes
        move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -slopes.T @ now)
        tried = residuals(values + np.clip(move, -1, 1))
        if tried @ tried < now @ now:
            values, now, damping = values + np.clip(move, -1, 1), tried, damping / 3
        else:
            damping *= 4
    return dict(zip(GUESS, np.exp(values).tolist(), strict=True)), now[: len(bits)] * EXPECTED_SPREAD / weights


def _errors(coefficients: dict[str, float], found: list[Conditions], bits: NDArray[np.float64]) -> NDArray[np.float64]:
    law = Coefficients.model_construct(**coefficients)
    return np.log(bits) - np.log([predict(law, one) for one in found])


def _plannable(run: dict[str, Any], text: dict[str, Any]) -> bool:
    """Whether a plan could have chosen this: no text by heart, no vocabulary that the text is too short for."""
    read = run["bytes_seen"] / run["unique_bytes"]
    supported = run["vocab"] == BYTE or run["vocab"] * BYTES_FOR_A_TOKEN <= text["training_bytes"]
    return supported and (read < MAX_READINGS or run.get("planned", False))


def _carried_over(run: dict[str, Any], text: dict[str, Any]) -> float:
    return text.get("of_sample", {}).get(str(run["vocab"]), 1.0) if run["scored_bytes"] <= SAMPLE_BYTES else 1.0


def _conditions(run: dict[str, Any], text: dict[str, Any]) -> Conditions:
    output = run["table_parameters"] / 2 if run.get("untied") else 0
    return Conditions(
        xz_bits=text["xz_bits"],
        context_bits=text["context_bits"],
        probe_bits=text["probe_bits"],
        probed=text["probed_bytes"] / 1e6,
        block_weights=(run["parameters"] - run["table_parameters"]) / 1e6,
        table_weights=(run["table_parameters"] - output) / 1e6,
        output_weights=output / 1e6,
        tokens=run["bytes_seen"] / run["bytes_per_token"] / 1e6,
        unique_tokens=run["unique_bytes"] / run["bytes_per_token"] / 1e6,
        bytes_per_token=run["bytes_per_token"],
        held_out_bytes_per_token=run["held_out_bytes_per_token"],
        tokens_per_update=run["batch"] * run["context"],
        context=run["context"],
        depth=run["depth"],
        dim=run["dim"],
    )


def _range(values: list[float]) -> dict[str, float]:
    return {"low": float(f"{min(values):.4g}"), "high": float(f"{max(values):.4g}")}


if __name__ == "__main__":
    main()
