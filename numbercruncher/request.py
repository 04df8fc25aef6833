"""The request of a run: read from the Pipes extras and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from numbercruncher.errors import RequestError
from numbercruncher.outputs import OUTPUTS


@dataclass(frozen=True)
class Request:
    """The dates and outputs to make.

    Attributes:
        bucket: where snapshots are and outputs go.
        dates: ISO dates in ascending order, each once.
        outputs: names of the outputs to make of each date.
        code_version: outputs of another version are made anew, and their states not used.
        listings_prefix: folder of the snapshots, with a folder `date=YYYY-MM-DD` each.
        prefixes: folder of each output, likewise.
        kms_key_id: KMS key of what is written; empty for the bucket's default.
    """

    bucket: str
    dates: tuple[str, ...]
    outputs: tuple[str, ...]
    code_version: str
    listings_prefix: str
    prefixes: Mapping[str, str]
    kms_key_id: str = ""


def parse_request(extras: Mapping[str, Any]) -> Request:
    """Reads a request.

    Args:
        extras: `bucket`; `dates`, a list of YYYY-MM-DD; `code_version`; and, other than by
            default, `outputs`, `listings_prefix`, `price_changes_prefix`,
            `neighbourhood_summary_prefix` and `kms_key_id`.

    Raises:
        RequestError: something is missing or makes no sense.
    """
    outputs = extras.get("outputs", list(OUTPUTS))
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or not outputs:
        raise RequestError(f"The outputs asked for are {outputs}; known are {list(OUTPUTS)}.")
    bucket = extras.get("bucket")
    if not isinstance(bucket, str) or not bucket:
        raise RequestError("No bucket is named; the extras need 'bucket'.")
    return Request(
        bucket=bucket,
        dates=_dates(extras.get("dates")),
        outputs=tuple(name for name in OUTPUTS if name in outputs),
        code_version=str(extras.get("code_version", "")),
        listings_prefix=str(extras.get("listings_prefix", "airbnb/listings")).strip("/"),
        prefixes={
            name: str(extras.get(f"{name}_prefix", f"airbnb/{name}")).strip("/") for name in OUTPUTS
        },
        kms_key_id=str(extras.get("kms_key_id", "")),
    )


def _dates(texts: Any) -> tuple[str, ...]:
    try:
        days = {date.fromisoformat(text) for text in texts}
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"The dates asked for cannot be read ({error}); the extras need 'dates', a list of"
            " YYYY-MM-DD."
        ) from error
    if not days:
        raise RequestError("No dates are asked for.")
    return tuple(day.isoformat() for day in sorted(days))
