"""The command of an image that serves in tests of AWS's contract: does what a request says.

It imports nothing of the project.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
MEETING = threading.Barrier(2)
FAILED: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    """Answers /ping and /invocations."""

    def is_ready(self) -> bool:
        """Whether it answers /ping; of those with the same variable READY one alone does."""
        if "READY" not in os.environ:
            return True
        path = Path(os.environ["READY"])
        with contextlib.suppress(FileExistsError), path.open("x") as file:
            file.write(str(os.getpid()))
        return path.read_text() == str(os.getpid())

    def do_GET(self) -> None:
        """The health check, and what the variable PARAMETERS says."""
        parameters = os.environ.get("PARAMETERS")
        if self.path == "/execution-parameters" and parameters:
            self.send(200, parameters)
        else:
            self.send(200 if self.path == "/ping" and self.is_ready() else 404)

    def do_POST(self) -> None:
        """A request says what is to be done; with the variable ECHO it is shown in brackets."""
        assert self.path == "/invocations"
        body = self.rfile.read(int(self.headers["content-length"]))
        if "ECHO" in os.environ:
            time.sleep(float(os.environ.get("PAUSE", "0")))
            self.send(200, f"<{body.decode('latin-1')}>")
            return
        asked: dict[str, Any] = json.loads(body or "{}")
        getattr(self, asked.pop("do", "describe"))(**asked)

    def say(self, text: str) -> None:
        """Writes into the log; the variable TROUBLE names what is done then."""
        print(f"said {text}", flush=True)
        if "TROUBLE" in os.environ:
            getattr(self, os.environ["TROUBLE"])()
            return
        self.send(200, os.environ.get("NAME", ""))

    def describe(self) -> None:
        """Answers with its arguments, environment, headers and model."""
        model = BASE / "model"
        seen = {
            "pid": os.getpid(),
            "arguments": sys.argv[1:],
            "environment": dict(os.environ),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "model": {
                str(path.relative_to(model)): path.read_text()
                for path in model.rglob("*")
                if path.is_file()
            },
        }
        self.send(200, json.dumps(seen))

    def status(self, status: int, text: str) -> None:
        """Answers with this status and text."""
        self.send(status, text)

    def hang(self) -> None:
        """Gives no answer for longer than any test."""
        time.sleep(600)

    def say_and_hang(self, text: str) -> None:
        """Says so before it hangs."""
        print(text, flush=True)
        self.hang()

    def die(self) -> None:
        """Ends the process without an answer."""
        os._exit(7)

    def big(self, size: int) -> None:
        """Answers with so many bytes."""
        self.send(200, "x" * size)

    def fail_once(self, text: str) -> None:
        """An error for the first request of this text."""
        first = text not in FAILED
        FAILED.add(text)
        self.send(503 if first else 200, text)

    def meet(self) -> None:
        """Answers once another request is here."""
        MEETING.wait(120)
        self.send(200, "met")

    def fork(self) -> None:
        """Starts a process in a session of its own and answers with its id."""
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
        self.send(200, str(child.pid))

    def send(self, status: int, text: str = "") -> None:
        """Sends an answer with a content type and custom attributes."""
        self.send_response(status)
        self.send_header("Content-Type", "text/x-own")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", "mine")
        self.end_headers()
        self.wfile.write(text.encode("latin-1"))

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Requests are not logged."""


if __name__ == "__main__":
    print(f"serving version {os.environ.get('VERSION', '0')}", flush=True)
    if "LEAVE" in os.environ:
        sys.exit(5)
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer((os.environ.get("BIND_TO", "127.0.0.1"), port), Handler).serve_forever()
