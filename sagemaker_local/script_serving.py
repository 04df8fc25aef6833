"""Script mode's `serve`: a user's `model_fn`, `input_fn`, `predict_fn` and `output_fn` over HTTP.

A program of its own, run by the Python that the table of images names: it imports nothing but the
standard library, and where the defaults are used NumPy, or with the argument `xgboost` XGBoost. The
server has unpacked model and sources.
Sources: https://github.com/aws/sagemaker-inference-toolkit,
https://github.com/aws/sagemaker-xgboost-container (handler_service.py and encoder.py)
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_NPY, _CSV, _JSON = "application/x-npy", "text/csv", "application/json"
_LIBSVM = ("text/libsvm", "text/x-libsvm")
_TEXTS = (_CSV, _JSON)
_DELIMITERS = ",;|\t "


class UnsupportedTypeError(Exception):
    """Neither the defaults nor the user's functions know the content type."""


class Handlers:
    """The user's functions, and the defaults for those that there are not."""

    def __init__(self, module: Any, model_folder: str, *, xgboost: bool) -> None:
        """Loads the model.

        Args:
            module: The user's script.
            model_folder: What its `model_fn` gets.
            xgboost: Whether the defaults are those of the XGBoost image, not of scikit-learn's.
        """
        own = {
            name: getattr(module, name, None)
            for name in ("input_fn", "predict_fn", "output_fn", "transform_fn")
        }
        self._transform = own.pop("transform_fn")
        if self._transform and any(own.values()):
            raise ValueError("transform_fn goes with none of input_fn, predict_fn and output_fn")
        self._input = own["input_fn"] or (_to_dmatrix if xgboost else _decode)
        # In a matrix that comes from a request features have no names.
        options = {"validate_features": False} if xgboost else {}
        self._predict = own["predict_fn"] or (lambda data, model: model.predict(data, **options))
        self._output = own["output_fn"] or (lambda prediction, accept: _encode(prediction, accept))
        if not hasattr(module, "model_fn"):
            raise ValueError("the script has no model_fn(model_dir), which loads the model")
        self._model = module.model_fn(model_folder)
        # The framework images have one request at a time in each worker.
        self._turn = threading.Lock()

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[Any, str]:
        """Body and content type of the answer to a request."""
        data: Any = body.decode() if content_type.split(";")[0].strip() in _TEXTS else body
        with self._turn:
            if self._transform:
                result = self._transform(self._model, data, content_type, accept)
            else:
                prediction = self._predict(self._input(data, content_type), self._model)
                result = self._output(prediction, accept)
        return result if isinstance(result, tuple) else (result, accept)


def _decode(data: Any, content_type: str) -> Any:
    """An array of a body: float32 for text, as the scikit-learn image has it."""
    import numpy as np

    kind = content_type.split(";")[0].strip()
    if kind == _NPY:
        # No pickled objects: a request must not run code.
        return np.load(io.BytesIO(data), allow_pickle=False)
    if kind == _JSON:
        return np.array(json.loads(data)).astype(np.float32)
    if kind == _CSV:
        return np.genfromtxt(io.StringIO(data), delimiter=",").astype(np.float32)
    raise _unsupported(content_type)


def _to_dmatrix(data: Any, content_type: str) -> Any:
    """XGBoost's matrix of a body. An empty cell of CSV is missing, an absent one of libsvm, too."""
    import numpy as np
    import xgboost

    kind = content_type.split(";")[0].strip()
    if kind == _CSV:
        lines = data.strip().split("\n")
        delimiter = _delimiter(lines[0])
        rows = [[float(cell.strip() or "nan") for cell in line.split(delimiter)] for line in lines]
        return xgboost.DMatrix(np.array(rows))
    if kind in _LIBSVM:
        return xgboost.DMatrix(_from_libsvm(data.decode()))
    raise _unsupported(content_type)


def _delimiter(line: str) -> str:
    try:
        return csv.Sniffer().sniff(line[:512], _DELIMITERS).delimiter
    except csv.Error:
        # One cell alone has none.
        return ","


def _from_libsvm(text: str) -> Any:
    """A sparse matrix of lines such as `1 0:0.5 3:2`.

    They are a label, which counts for nothing, and cells with their columns, which begin at 0.
    """
    from scipy.sparse import csr_matrix

    cells: list[float] = []
    columns: list[int] = []
    ends = [0]
    for line in text.strip().split("\n"):
        for pair in line.split()[1:]:
            column, _, cell = pair.partition(":")
            columns.append(int(column))
            cells.append(float(cell))
        ends.append(len(cells))
    return csr_matrix((cells, columns, ends))


def _encode(prediction: Any, accept: str) -> bytes:
    import numpy as np

    kind = accept.split(";")[0].strip()
    if kind == _NPY:
        packed = io.BytesIO()
        np.save(packed, prediction)
        return packed.getvalue()
    if kind == _JSON:
        return json.dumps(prediction, default=lambda value: value.tolist()).encode()
    if kind == _CSV:
        text = io.StringIO()
        np.savetxt(text, prediction, delimiter=",", fmt="%s")
        return text.getvalue().encode()
    raise _unsupported(accept)


def _unsupported(content_type: str) -> UnsupportedTypeError:
    return UnsupportedTypeError(
        f"Content type {content_type} is not supported by this framework. Please implement "
        "input_fn to deserialize the request data or an output_fn to serialize the response."
    )


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


def _handler(handlers: Handlers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, b"", _JSON)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.path != "/invocations":
                self._send(404, b"", _JSON)
                return
            accept = self.headers.get("accept", "*/*")
            if accept in ("*/*", ""):
                accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", _JSON)
            try:
                result, kind = handlers.answer(
                    body, self.headers.get("content-type", _JSON), accept
                )
            except UnsupportedTypeError as error:
                self._send(415, str(error).encode(), "text/plain")
            except Exception as error:
                traceback.print_exc()
                self._send(500, f"{error}\n{traceback.format_exc()}".encode(), "text/plain")
            else:
                self._send(200, result if isinstance(result, bytes) else str(result).encode(), kind)

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            """Requests are not logged; errors are."""

    return Handler


def main() -> int:
    """Loads the model and serves until it is ended."""
    # This file's folder holds modules that are not for the script.
    sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).parent]
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    program = os.environ.get("SAGEMAKER_PROGRAM", "")
    folders = (base / "code", base / "model" / "code")
    code = next((folder for folder in folders if program and (folder / program).is_file()), None)
    if code is None:
        print(f"there is no script: SAGEMAKER_PROGRAM has to name a file, not {program!r}")
        return 1
    sys.path.insert(0, str(code))
    os.chdir(code)
    module = importlib.import_module(".".join(Path(program).with_suffix("").parts))
    handlers = Handlers(module, str(base / "model"), xgboost="xgboost" in sys.argv[1:])
    address = ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"]))
    _Server(address, _handler(handlers)).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
