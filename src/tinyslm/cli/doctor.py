"""`tinyslm doctor`."""


def doctor(*, json: bool = False) -> None:
    """Say what this machine offers for training and generating: cores, memory, number formats, measured speeds.

    Parameters
    ----------
    json
        Print the findings as JSON.
    """
    import dataclasses
    from json import dumps

    from tinyslm.core import console
    from tinyslm.hardware.doctor import examine

    findings = examine()
    if json:
        console.say(dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        console.table([(finding.name, finding.value, finding.meaning) for finding in findings])
