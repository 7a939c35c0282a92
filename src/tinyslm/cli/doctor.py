"""`tinyslm doctor`."""

from tinyslm.core.errors import TinyslmError


def doctor(*, compile: bool = False, portable: bool = False, json: bool = False) -> None:  # noqa: A002 (the option's name)
    """Say what this machine offers for training and generating: cores, memory, number formats, measured speeds.

    Parameters
    ----------
    compile
        First compile the engine and the training kernels for this processor, where they are not in the cache folder:
        for images, so that no first command has to wait for it.
    portable
        With --compile, compile for several kinds of processors, into the installation itself: for images that run on
        other machines, without a compiler. What fits the processor is chosen at each start.
    json
        Print the findings as JSON.
    """
    import dataclasses
    from json import dumps

    from tinyslm.core import console
    from tinyslm.hardware.doctor import examine
    from tinyslm.training.compiling import compile_ahead, compile_all

    if portable and not compile:
        raise TinyslmError("--portable says how to compile, and nothing is to be compiled.", "Add --compile.")
    if compile:
        (compile_ahead if portable else compile_all)()
    findings = examine()
    if json:
        console.say(dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        console.table([(finding.name, finding.value, finding.meaning) for finding in findings])
