"""The content types of the built-in k-means: bytes to points, and predictions to bytes.

Serving reads requests with it, training its CSV channels. RecordIO itself is in formats.recordio.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats import recordio

Points = NDArray[np.float32]
RECORDIO = "application/x-recordio-protobuf"
CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
_FRAME = struct.Struct("<II")
_MAGIC = 0xCED7230A


class PayloadError(ValueError):
    """A body cannot be read as points; the text is for the caller."""


class UnsupportedTypeError(PayloadError):
    """The content type is none of the algorithm's."""


def media_type(header: str) -> tuple[str, dict[str, str]]:
    """Splits `text/csv;label_size=0` into the type and its parameters, in lower case."""
    kind, *rest = header.split(";")
    pairs = (part.partition("=") for part in rest)
    return kind.strip().lower(), {k.strip().lower(): v.strip().lower() for k, _, v in pairs}


def read_points(body: bytes, content_type: str) -> Points:
    """Reads a request's body.

    Returns:
        (N, D) float32, N at least 1, all finite.

    Raises:
        UnsupportedTypeError: The content type is not known.
        PayloadError: The body is not of that type, is empty, uneven or not finite.
    """
    kind, _ = media_type(content_type)
    reader = _READERS.get(kind)
    if reader is None:
        raise UnsupportedTypeError(
            f"Content-type {content_type} not supported. Supported content-type: "
            f"{', '.join(_READERS)}"
        )
    try:
        points = reader(body)
    except PayloadError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise PayloadError(f"unable to parse the payload as {kind}: {error}") from error
    if points.ndim != 2 or not points.size:
        raise PayloadError(f"the payload is not a matrix but of shape {points.shape}")
    if not np.isfinite(points).all():
        raise PayloadError("the payload holds values that are not finite numbers")
    return points


def read_csv(body: bytes) -> Points:
    """Reads rows of comma-separated numbers without a header.

    Raises:
        PayloadError: A row has another number of values than the first, or one is no number.
    """
    lines = [line for line in body.replace(b"\r", b"\n").split(b"\n") if line.strip()]
    if not lines:
        raise PayloadError("the payload is empty")
    width = lines[0].count(b",") + 1
    for number, line in enumerate(lines, 1):
        if line.count(b",") + 1 != width:
            raise PayloadError(
                f"row {number} has {line.count(b',') + 1} values and row 1 has {width}"
            )
    # One list of all fields: NumPy parses it faster than row by row, and as strictly as float().
    fields = b",".join(lines).split(b",")
    try:
        return np.array([float(field) for field in fields], np.float32).reshape(len(lines), width)
    except ValueError as error:
        raise PayloadError(f"the payload is not CSV of numbers: {error}") from error


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


def _read_json(body: bytes) -> Points:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise PayloadError('the payload must be an object with "instances" or "data"')
    instances = document.get("instances")
    if instances is None:
        instances = [document]
    if not isinstance(instances, list) or not instances:
        raise PayloadError('"instances" must be a list that is not empty')
    return np.array([_features(instance) for instance in instances], np.float32)


def _read_json_lines(body: bytes) -> Points:
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise PayloadError("the payload is empty")
    return np.array([_features(json.loads(line)) for line in lines], np.float32)


def _features(instance: Any) -> Any:
    """The numbers of `{"features": […]}` or `{"data": {"features": {"values": […]}}}`."""
    if isinstance(instance, dict):
        features = instance.get("features", instance.get("data"))
        if isinstance(features, dict) and "features" in features:
            features = features["features"]
        if isinstance(features, dict) and "values" in features:
            features = features["values"]
        if isinstance(features, list):
            return features
    raise PayloadError('an instance must be {"features": […]} or {"data": {"features": …}}')


def _read_recordio(body: bytes) -> Points:
    return recordio.decode(body)[0]


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


_READERS: dict[str, Callable[[bytes], Points]] = {
    RECORDIO: _read_recordio,
    CSV: read_csv,
    JSON: _read_json,
    JSON_LINES: _read_json_lines,
}


def _write_recordio(clusters: NDArray[np.intp], distances: NDArray[np.float32]) -> bytes:
    """One record a prediction, both numbers under their names in `label`."""
    return b"".join(
        _frame(_label(b"closest_cluster", cluster) + _label(b"distance_to_cluster", distance))
        for cluster, distance in zip(clusters.tolist(), distances.tolist(), strict=True)
    )


def _label(key: bytes, value: float) -> bytes:
    """A map entry of Record.label whose Value is a float32 tensor of one number."""
    tensor = b"\x12\x06\x0a\x04" + struct.pack("<f", value)
    entry = bytes((0x0A, len(key))) + key + bytes((0x12, len(tensor))) + tensor
    return bytes((0x12, len(entry))) + entry


def _frame(payload: bytes) -> bytes:
    return _FRAME.pack(_MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


_WRITERS: dict[str, Callable[[NDArray[np.intp], NDArray[np.float32]], bytes]] = {
    JSON: _write_json,
    JSON_LINES: _write_json_lines,
    CSV: _write_csv,
    RECORDIO: _write_recordio,
}
