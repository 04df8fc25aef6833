"""Fields that several components have, each with the sentence that a wrong value gets."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_ASSET = r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+"
_CRON = r"[0-5]?\d ([01]?\d|2[0-3]) \* \* \*"
_TABLE = r"\w+(\.\w+)?"
_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


def _matching(pattern: str, remedy: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{value!r} {remedy}")
        return value

    return AfterValidator(check)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


AssetName = Annotated[
    str,
    _matching(
        _ASSET,
        "is no key of an asset: write it as lisbon/snapshot, in small letters, digits and _, "
        "with at least one slash",
    ),
]
AssetNames = Annotated[list[AssetName], Field(min_length=1)]
Cron = Annotated[
    str,
    _matching(
        _CRON,
        "is not once a day: write 'MINUTE HOUR * * *', in UTC, like '30 1 * * *' for 01:30",
    ),
]
TableName = Annotated[
    str,
    _matching(
        _TABLE,
        "is no table: write its name, or schema.name, in letters, digits and _; where it has "
        "others, or rows are to be chosen, write a SELECT as the query instead",
    ),
]
ModuleName = Annotated[
    str, _matching(_MODULE, "is no Python module: write it as for python -m, like price_levels")
]
ObjectUri = Annotated[
    str,
    _matching(
        r"s3://[a-z0-9][a-z0-9.-]{2,62}/([^\s/]+/)*(?!manifest\.json$)[\w.-]+",
        "is no object that can be copied: write it as s3://bucket/key; the name manifest.json is "
        "the platform's own",
    ),
]
FileName = Annotated[
    str,
    _matching(
        r"(?!manifest\.json$)[A-Za-z0-9_][\w.-]*",
        "is no name of a file: write it as levels.csv; manifest.json is the platform's own",
    ),
]
OneOrMore = BeforeValidator(_listed, json_schema_input_type=str | list[str])
