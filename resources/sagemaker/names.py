"""Names and tags: made the same from the same input, and within what SageMaker takes."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from resources.sagemaker.errors import SpecError

if TYPE_CHECKING:
    from mypy_boto3_sagemaker.type_defs import TagTypeDef

MAX_NAME = 63
# Room for the suffix of an attempt: -2 to -999.
MAX_JOB_BASE = MAX_NAME - 4
MAX_TAGS = 50
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
DIGEST_LENGTH = 10

# Tags by which what was made is recognised again.
ENDPOINT_TAG = "dagster:endpoint"
VERSION_TAG = "dagster:version"
# Tags of an endpoint config: when it last passed its deploy, and when it was rolled back.
VERIFIED_TAG = "dagster:verified-at"
ROLLED_BACK_TAG = "dagster:rolled-back-at"


def deterministic_name(*parts: str, digest_of: object = None, longest: int = MAX_JOB_BASE) -> str:
    """A name for SageMaker out of parts: the same parts, the same name.

    Args:
        parts: Readable parts, such as a project and a date. Other characters than letters, digits
            and hyphens become hyphens.
        digest_of: Anything that JSON can hold; its digest ends the name. Put there what makes
            two pieces of work different: configuration, checksums of the inputs.
        longest: Longest name. A longer one is cut, and then ends in a digest of all of it.

    Raises:
        SpecError: Nothing readable is in the parts.
    """
    readable = re.sub(r"[^a-zA-Z0-9]+", "-", "-".join(parts)).strip("-")
    if not readable:
        raise SpecError(f"A name needs at least one letter or digit, and {parts!r} has none.")
    ending = "" if digest_of is None else digest(digest_of)
    name = f"{readable}-{ending}" if ending else readable
    if len(name) <= longest:
        return name
    ending = digest(["-".join(parts), ending])
    return f"{readable[: longest - len(ending) - 1].rstrip('-')}-{ending}"


def attempt_name(base: str, attempt: int) -> str:
    """The name of the n-th attempt at a job: `base`, `base-2`, `base-3`, ..."""
    return base if attempt == 1 else f"{base}-{attempt}"


def digest(value: object) -> str:
    """A short digest of anything that JSON can hold, whatever the order of its keys."""
    return digest_text(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str))


def digest_text(text: str) -> str:
    """The first digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def to_tags(*groups: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags as SageMaker takes them; later groups win.

    Characters that AWS refuses become `_`, values longer than 256 and keys longer than 128
    characters are cut: a run must not fail for the tag it wears.

    Raises:
        SpecError: More than 50 tags, or a key that AWS keeps to itself.
    """
    merged: dict[str, str] = {}
    for group in groups:
        merged.update(group)
    reserved = [key for key in merged if key.lower().startswith("aws:")]
    if reserved:
        raise SpecError(f"Tags that begin with 'aws:' are AWS's own; rename {', '.join(reserved)}.")
    if len(merged) > MAX_TAGS:
        raise SpecError(f"{len(merged)} tags are more than the {MAX_TAGS} that AWS takes.")
    return [
        {"Key": _taggable(key)[:128], "Value": _taggable(value)[:256]}
        for key, value in merged.items()
    ]


def from_tags(tags: "Iterable[TagTypeDef]") -> dict[str, str]:
    """Tags as a mapping."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def differences(wanted: object, found: object, path: str = "") -> list[str]:
    """Where `found` lacks or contradicts something of `wanted`; what it has beyond is all right.

    Only the places are given, never the values: environments hold secrets.
    """
    if isinstance(wanted, Mapping):
        ours = cast("Mapping[str, object]", wanted)
        theirs = cast("Mapping[str, object]", found if isinstance(found, Mapping) else {})
        return [
            place
            for key, value in ours.items()
            for place in differences(value, theirs.get(key), f"{path}.{key}" if path else key)
        ]
    if isinstance(wanted, list):
        items = cast("list[object]", wanted)
        others = cast("list[object]", found if isinstance(found, list) else [])
        if len(items) != len(others):
            return [path]
        pairs = zip(items, others, strict=True)
        return [
            place
            for number, (item, other) in enumerate(pairs)
            for place in differences(item, other, f"{path}[{number}]")
        ]
    return [] if wanted == found else [path]


def _taggable(text: str) -> str:
    return re.sub(r"[^\w .:/=+\-@]", "_", text)
