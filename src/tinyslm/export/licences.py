"""The identifiers that the Hugging Face hub has for licences, and which one a licence's name means."""

from tinyslm.core.errors import TinyslmError, did_you_mean

IDENTIFIERS = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0
    lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
    openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
    """.split()  # noqa: SIM905 - a list of strings would take a line for each
)
_NAMES = {
    "apache license": "apache-2.0",
    "apache license 2.0": "apache-2.0",
    "apache license, version 2.0": "apache-2.0",
    "mit license": "mit",
    "the mit license": "mit",
    "the mit license (mit)": "mit",
}


def licence_fields(licence: str) -> dict[str, str]:
    """The front matter of a licence: its identifier, or "other" and its name; nothing for an unknown one."""
    plain = licence.strip().lower()
    identifier = plain if plain in IDENTIFIERS else _NAMES.get(plain, "")
    if identifier:
        return {"license": identifier}
    return {"license": "other", "license_name": licence.strip()} if plain else {}


def check_licence(licence: str) -> str:
    """A licence that a user gives, in the hub's spelling. Raises `TinyslmError` for one that the hub does not know."""
    if licence.lower() not in IDENTIFIERS:
        raise TinyslmError(
            f'The Hugging Face hub has no licence "{licence}".', did_you_mean(licence.lower(), IDENTIFIERS)
        )
    return licence.lower()
