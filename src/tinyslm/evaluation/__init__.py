"""How good a model is: losses with intervals, baselines, completions that parse."""
