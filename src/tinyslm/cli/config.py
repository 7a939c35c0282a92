"""`tinyslm config`."""


def config() -> None:
    """List every setting of a training run, with its default and meaning, as a TOML file.

    Save it, edit it, and give it to `tinyslm train --config`; or give single settings as options there
    (`--model.depth 6`). Lines that are commented out follow from other settings unless they are given.
    """
    from tinyslm.cli.settings import explain
    from tinyslm.core.console import say
    from tinyslm.training.config import RunConfig

    say(explain(RunConfig))
