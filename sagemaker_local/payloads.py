"""The content types of the built-in k-means: bytes to points, and predictions to bytes.

Serving reads requests with it, training its CSV channels. RecordIO itself is in formats.recordio.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagemaker_local.formats import recordio
from sagemaker_local.formats.recordio_message import float_label

Points = NDArray[np.float32]
RECORDIO = "application/x-recordio-protobuf"
CSV = "text/csv"
JSON = "application/json"
_JSON_LINES = "application/jsonlines"


class PayloadError(ValueError):
    """A body cannot be read as points; the text is for the caller."""


class UnsupportedTypeError(PayloadError):
    """The content type is none of the algorithm's."""


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """Splits `text/csv;label_size=0` into the type and its parameters, in lower case."""
    kind, *rest = header.split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {k.strip().lower(): v.strip().lower() for k, _, v in pairs}


def read_points(body: bytes, content_type: str, width: int) -> Points:
    """Reads a request's body.

    Args:
        body: Dense points of any type, or sparse ones of JSON, JSON lines or RecordIO.
        content_type: The header.
        width: How many values each point must have; no more memory is taken for any.

    Returns:
        (N, width) float32, N at least 1, all finite.

    Raises:
        UnsupportedTypeError: The content type is not known.
        PayloadError: The body is not of that type, is empty, of another width or not finite.
    """
    kind, _ = media_type(content_type)
    reader = _READERS.get(kind)
    if reader is None:
        raise UnsupportedTypeError(
            f"Content-type {content_type} not supported. Supported content-type: "
            f"{', '.join(_READERS)}"
        )
    try:
        points = reader(body, width)
    except PayloadError:
        raise
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"unable to parse the payload as {kind}: {error}") from error
    if not np.isfinite(points).all():
        raise PayloadError("the payload holds values that are not finite numbers")
    return points


def read_csv(body: bytes, first: int = 1) -> Points:
    """Reads rows of comma-separated numbers without a header.

    Args:
        body: Lines; those without anything are no rows.
        first: The number of the first row, where the body is a part of a file.

    Raises:
        PayloadError: A row has another number of values than the first, or one is no number.
    """
    lines = [line for line in body.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines:
        raise PayloadError("the payload is empty")
    width = lines[0].count(b",") + 1
    for number, line in enumerate(lines, first):
        if line.count(b",") + 1 != width:
            raise PayloadError(
                f"row {number} has {line.count(b',') + 1} values and row {first} has {width}"
            )
    # One list of all fields: NumPy parses it faster than row by row, and as strictly as float(),
    # but for underscores: that takes 1_0 as 10, as Python writes numbers. With a `?` it is none.
    fields = b",".join(lines).replace(b"_", b"?").split(b",")
    try:
        return np.array([float(field) for field in fields], np.float32).reshape(len(lines), width)
    except ValueError:
        row, column = divmod(next(n for n, field in enumerate(fields) if not _number(field)), width)
        # Not the field itself: it is a row's content.
        raise PayloadError(
            "the payload is not CSV of numbers: "
            f"row {first + row}, column {column + 1} is no number"
        ) from None


def _number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def write_predictions(
    clusters: NDArray[np.intp], distances: NDArray[np.float32], accept: str
) -> tuple[bytes, str]:
    """Writes predictions in the first type of an Accept header that the algorithm knows.

    Args:
        clusters: (N,) number of the nearest centroid.
        distances: (N,) Euclidean distance to it.
        accept: The header; empty or `*/*` means JSON.

    Returns:
        The body and its content type.

    Raises:
        UnsupportedTypeError: None of the accepted types is known.
    """
    for part in (accept or "*/*").split(","):
        kind, _ = media_type(part)
        writer = _WRITERS.get(JSON if kind in ("*/*", "application/*") else kind)
        if writer is not None:
            return writer(clusters, distances), JSON if "*" in kind else kind
    raise UnsupportedTypeError(
        f"Accept type {accept} not supported. Supported accept types: {', '.join(_WRITERS)}"
    )


def _read_csv(body: bytes, width: int) -> Points:
    points = read_csv(body)
    if points.shape[1] != width:
        raise _other_width(width, points.shape[1])
    return points


def _other_width(width: int, given: int) -> PayloadError:
    return PayloadError(f"the model takes {width} values a point, not {given}")


def _read_json(body: bytes, width: int) -> Points:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise PayloadError('the payload must be an object with "instances" or "data"')
    instances = document.get("instances")
    if instances is None:
        instances = [document]
    if not isinstance(instances, list) or not instances:
        raise PayloadError('"instances" must be a list that is not empty')
    return _matrix(instances, width)


def _read_json_lines(body: bytes, width: int) -> Points:
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise PayloadError("the payload is empty")
    return _matrix([json.loads(line) for line in lines], width)


def _matrix(instances: list[Any], width: int) -> Points:
    points: list[Points] = []
    for number, instance in enumerate(instances, 1):
        try:
            points.append(_point(_features(instance), width))
        except (ValueError, OverflowError) as error:
            raise ValueError(f"instance {number}: {error}") from error
    return np.stack(points)


def _features(instance: Any) -> Any:
    """The list or tensor of `{"features": …}` or `{"data": {"features": …}}`."""
    if isinstance(instance, dict):
        features = instance.get("features", instance.get("data"))
        if isinstance(features, dict) and "features" in features:
            features = features["features"]
        if isinstance(features, list) or (isinstance(features, dict) and "values" in features):
            return features
    raise PayloadError('an instance must be {"features": […]} or {"data": {"features": …}}')


def _point(features: Any, width: int) -> Points:
    """One vector of a list or of `{"values": […]}`, sparse if that has `keys` and `shape` too.

    As in a record of RecordIO: no keys make a dense tensor, unless there are no values either.
    """
    tensor = features if isinstance(features, dict) else {"values": features}
    numbers = _list(tensor, "values", {int, float})
    keys, shape = _list(tensor, "keys", {int}), _list(tensor, "shape", {int})
    if min([0, *keys, *shape]) < 0:
        raise PayloadError("a key or a size of the shape is negative")
    sparse = bool(keys or (shape and not numbers))
    if sparse and not shape:
        raise PayloadError("a sparse tensor must have a shape")
    size = math.prod(shape) if shape else len(numbers)
    if size != width:
        raise _other_width(width, size)
    if not sparse and len(numbers) != size:
        raise PayloadError(f"{len(numbers)} values are given for shape {shape[:8]}")
    with np.errstate(over="ignore"):
        # What float32 cannot hold becomes infinite, and is refused as such.
        values = np.array(numbers, np.float32)
    return recordio.scattered(np.array(keys, np.uint64), values, width) if sparse else values


def _list(tensor: dict[str, Any], name: str, kinds: set[type]) -> list[Any]:
    """A tensor's list; JSON's booleans, texts and nulls are no numbers."""
    content = tensor.get(name, [])
    if not isinstance(content, list) or not kinds.issuperset(map(type, content)):
        wanted = "whole numbers" if float not in kinds else "numbers"
        raise PayloadError(f'"{name}" must be a list of {wanted}')
    return content


def _read_recordio(body: bytes, width: int) -> Points:
    return recordio.decode(body, width)[0]


def _write_json(clusters: NDArray[np.intp], distances: NDArray[np.float32]) -> bytes:
    return json.dumps({"predictions": _predictions(clusters, distances)}).encode()


def _write_json_lines(clusters: NDArray[np.intp], distances: NDArray[np.float32]) -> bytes:
    rows = _predictions(clusters, distances)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _predictions(
    clusters: NDArray[np.intp], distances: NDArray[np.float32]
) -> list[dict[str, float]]:
    return [
        {"closest_cluster": float(cluster), "distance_to_cluster": distance}
        for cluster, distance in zip(clusters.tolist(), distances.tolist(), strict=True)
    ]


def _write_csv(clusters: NDArray[np.intp], distances: NDArray[np.float32]) -> bytes:
    rows = zip(clusters.tolist(), distances.tolist(), strict=True)
    return "".join(f"{float(cluster)},{distance}\n" for cluster, distance in rows).encode()


_READERS: dict[str, Callable[[bytes, int], Points]] = {
    RECORDIO: _read_recordio,
    CSV: _read_csv,
    JSON: _read_json,
    _JSON_LINES: _read_json_lines,
}


def _write_recordio(clusters: NDArray[np.intp], distances: NDArray[np.float32]) -> bytes:
    """One record a prediction, both numbers under their names in `label`."""
    return b"".join(
        recordio.framed(
            float_label(cluster, b"closest_cluster") + float_label(distance, b"distance_to_cluster")
        )
        for cluster, distance in zip(clusters.tolist(), distances.tolist(), strict=True)
    )


_WRITERS: dict[str, Callable[[NDArray[np.intp], NDArray[np.float32]], bytes]] = {
    JSON: _write_json,
    _JSON_LINES: _write_json_lines,
    CSV: _write_csv,
    RECORDIO: _write_recordio,
}
