"""The serving container's program: answers with the nearest centroid, one request after another.

It talks to the server over one inherited socket and ends when that closes. Frames, both ways:
`u32 length of head | u32 length of body | head as JSON | body`.
"""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sagemaker_local import children, payloads
from sagemaker_local.formats import ndarray_file


class Model:
    """Centroids, ready for many requests."""

    def __init__(self, centroids: NDArray[np.float32]) -> None:
        """Takes (k, D) float32, all finite."""
        # Not a view of the file's bytes, in which numbers may lie anywhere.
        self._centroids = np.array(centroids)
        self._transposed = np.ascontiguousarray(centroids.T)
        self._norms = np.square(centroids, dtype=np.float64).sum(axis=1)

    @property
    def shape(self) -> tuple[int, int]:
        """(k, D)."""
        return self._centroids.shape[0], self._centroids.shape[1]

    def predict(self, points: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Nearest centroid and Euclidean distance to it for (N, D) float32 points."""
        nearest = (self._norms - 2.0 * (points @ self._transposed)).argmin(axis=1)
        # The product loses digits where a point is close to its centroid; the difference does not.
        difference = points - self._centroids[nearest]
        return nearest, np.sqrt(np.einsum("ij,ij->i", difference, difference))

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[int, str, bytes]:
        """HTTP status, content type and body of an answer."""
        try:
            points = payloads.read_points(body, content_type, self.shape[1])
            written, kind = payloads.write_predictions(*self.predict(points), accept)
        except payloads.UnsupportedTypeError as error:
            return 415, "text/plain", str(error).encode()
        except payloads.PayloadError as error:
            return 400, "text/plain", str(error).encode()
        except MemoryError:
            return 500, "text/plain", b"the request needs more memory than the container has"
        return 200, kind, written


def _receive(channel: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = channel.recv_into(view)
        if not count:
            # The server has closed the socket or is gone.
            sys.exit(0)
        view = view[count:]
    return bytes(data)


def _send(channel: socket.socket, head: dict[str, Any], body: bytes = b"") -> None:
    packed = json.dumps(head).encode()
    channel.sendall(children.FRAME.pack(len(packed), len(body)) + packed + body)


def main() -> None:
    """Serves one variant: `serving SOCKET_FD MODEL_FILE PARENT MEMORY_MB`."""
    fd, path, parent, memory_mb = sys.argv[1:]
    children.tie_to_parent(int(parent), int(memory_mb))
    channel = socket.socket(fileno=int(fd))
    try:
        model = Model(ndarray_file.unpack_model(Path(path).read_bytes()))
    except (ValueError, OSError, MemoryError) as error:
        _send(channel, {"error": f"{type(error).__name__}: {error}"})
        return
    _send(channel, {"clusters": model.shape[0], "feature_dim": model.shape[1]})
    while True:
        head_size, body_size = children.FRAME.unpack(_receive(channel, children.FRAME.size))
        head = json.loads(_receive(channel, head_size))
        body = _receive(channel, body_size)
        status, kind, answer = model.answer(body, head["content_type"], head["accept"])
        _send(channel, {"status": status, "content_type": kind}, answer)


if __name__ == "__main__":
    main()
