"""Receivers of alerts that tests run: a webhook, and a mail server that speaks a little SMTP."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.local_servers import QuietHandler, serving


@dataclass
class Receiver:
    """A server that accepts every POST unless told otherwise.

    Attributes:
        url: Its address; the path must stay secret.
        status: HTTP status of its answers.
        answer: Body of its answers.
        headers: Headers of its answers.
        refuse: Requests with this text in their body are answered with 400; none if it is empty.
        fail_after: After so many accepted requests it answers 503; None for never.
        requests: Bodies of the accepted requests.
        paths: Paths of all requests.
    """

    url: str = ""
    status: int = 200
    answer: bytes = b"ok"
    headers: dict[str, str] = field(default_factory=dict)
    refuse: str = ""
    fail_after: int | None = None
    requests: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: str) -> None:
        """Keep a body."""
        with self._changed:
            self.requests.append(body)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until a message with this text has come."""
        with self._changed:
            come = self._changed.wait_for(
                lambda: any(text in received for received in self.texts()), timeout=600
            )
        assert come, self.texts()

    def texts(self) -> list[str]:
        """The messages, as a Slack channel would show them."""
        return [json.loads(body)["text"] for body in self.requests]


@contextmanager
def webhook(path: str = "/services/T000/B000/hush") -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            receiver.paths.append(self.path)
            full = receiver.fail_after is not None and len(receiver.requests) >= receiver.fail_after
            status = 503 if full else receiver.status
            if receiver.refuse and receiver.refuse in body:
                status = 400
            if status == 200:
                receiver.take(body)
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

    with serving(Handler) as port:
        receiver.url = f"http://127.0.0.1:{port}{path}"
        yield receiver


@dataclass
class Mails:
    """A mail server.

    Attributes:
        port: Of this machine.
        refusals: What is answered to a command instead of yes; `.` is the end of a message's text.
        messages: That were taken, as they came.
        commands: All that came.
    """

    port: int = 0
    refusals: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[Mails]:
    """A server that takes mail, and any user's password, but for what is in its `refusals`."""
    mails = Mails()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                mails.commands.append(line)
                verb = line.split(" ", 1)[0].upper()
                if verb in mails.refusals:
                    self.say(mails.refusals[verb])
                elif verb == "EHLO":
                    self.say("250-here\r\n250 AUTH PLAIN")
                elif verb == "AUTH":
                    self.say("235 come in")
                elif verb == "DATA":
                    self.say("354 go on")
                    lines: list[str] = []
                    while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        lines.append(part)
                    if "." in mails.refusals:
                        self.say(mails.refusals["."])
                        continue
                    mails.messages.append("\n".join(lines))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

    with serving(Handler) as port:
        mails.port = port
        yield mails
