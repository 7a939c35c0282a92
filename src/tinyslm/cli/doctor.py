"""`tinyslm doctor`."""


def doctor(*, compile: bool = False, json: bool = False) -> None:  # noqa: A002 (the option's name)
    """Say what this machine offers for training and generating: cores, memory, number formats, measured speeds.

    Parameters
    ----------
    compile
        First compile the engine and the training kernels for this processor, where they are not in the cache folder:
        for images, so that no first command has to wait for it.
    json
        Print the findings as JSON.
    """
    import dataclasses
    from json import dumps

    from tinyslm.core import console
    from tinyslm.hardware.doctor import examine
    from tinyslm.training.compiling import compile_all

    if compile:
        compile_all()
    findings = examine()
    if json:
        console.say(dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        console.table([(finding.name, finding.value, finding.meaning) for finding in findings])
