"""`tinyslm config`."""


def config(*, json: bool = False) -> None:
    """List every setting of a training run, with its default and meaning, as a TOML file.

    Save it, edit it, and give it to `tinyslm train --config`; or give single settings as options there
    (`--model.depth 6`). Lines that are commented out follow from other settings unless they are given.

    Parameters
    ----------
    json
        Print the defaults as JSON.
    """
    from tinyslm.cli.settings import explain
    from tinyslm.cli.telling import tell
    from tinyslm.core.console import say
    from tinyslm.training.config import RunConfig

    if json:
        tell(RunConfig().model_dump(mode="json"))
    else:
        say(explain(RunConfig))
