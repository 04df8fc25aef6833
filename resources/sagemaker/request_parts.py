"""What specs of jobs and endpoints share: their base, further fields, comparison.

What a request is for stands in the modules of the specs, such as `training_job.py`.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from .errors import SpecError

if TYPE_CHECKING:
    # The metaclass of dagster.Config makes every attribute of a nested config unknown to pyright.
    # Its own base is the same to a type checker.
    from pydantic import BaseModel as Config
else:
    from dagster import Config

__all__ = ["Config", "differences", "over", "with_extra", "work_differences"]


def with_extra(request: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A request with further fields, by AWS's own names; nested objects are merged.

    Raises:
        SpecError: Both give the same field.
    """
    if twice := _in_both(request, extra):
        raise SpecError(
            f"The extra request gives {', '.join(twice)}, which other fields of the spec say "
            "already: set those instead."
        )
    return over(request, extra)


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both requests as one; where they differ, the second wins. Nested objects are merged."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], Mapping) and isinstance(above[key], Mapping):
            merged[key] = over(below[key], above[key])
    return merged


def differences(wanted: object, actual: object, path: str = "") -> list[str]:
    """Where `actual` lacks or contradicts something of `wanted`; what it has beyond is all right.

    Only the places are given, never the values: environments hold secrets.
    """
    if isinstance(wanted, Mapping):
        ours = cast("Mapping[str, object]", wanted)
        theirs = cast("Mapping[str, object]", actual if isinstance(actual, Mapping) else {})
        return [
            place
            for key, value in ours.items()
            for place in differences(value, theirs.get(key), _join(path, key))
        ]
    if isinstance(wanted, list):
        items = cast("list[object]", wanted)
        others = cast("list[object]", actual if isinstance(actual, list) else [])
        if len(items) != len(others):
            return [path]
        pairs = zip(items, others, strict=True)
        return [
            place
            for number, (item, other) in enumerate(pairs)
            for place in differences(item, other, f"{path}[{number}]")
        ]
    return [] if wanted == actual else [path]


def work_differences(
    wanted: Mapping[str, Any], actual: Mapping[str, Any], *, exact: Collection[str]
) -> list[str]:
    """Where two jobs do other work.

    AWS may have added to what was asked for, but neither a whole part nor anything to `exact` ones.
    """
    places = differences(wanted, actual)
    places += [key for key in actual if key not in wanted and key not in exact]
    for key in exact:
        extra = set(actual.get(key) or {}) - set(wanted.get(key) or {})
        places += [f"{key}.{name}" for name in extra]
    return sorted(set(places))


def _in_both(request: Mapping[str, Any], extra: Mapping[str, Any], path: str = "") -> list[str]:
    places: list[str] = []
    for key in request.keys() & extra.keys():
        place = _join(path, key)
        both_objects = isinstance(request[key], Mapping) and isinstance(extra[key], Mapping)
        places += _in_both(request[key], extra[key], place) if both_objects else [place]
    return sorted(places)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
