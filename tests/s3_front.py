"""A proxy in front of a real S3, or moto, that can answer some requests itself."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

Answer = tuple[int, bytes]
_HOP = {"connection", "transfer-encoding", "content-length"}


class Front:
    """A proxy and what it does to requests.

    Attributes:
        url: its address.
        requests: method and target of each request that came, in order.
        refuse: looks at a request and answers in the place of S3, or returns None.
        amend: gets method, target and body of each request and returns the body to pass on.
        rewrite: gets target and body of each good answer and returns the body to send.
        observe: gets each request, its body and the status of its answer.
    """

    def __init__(self, upstream: str) -> None:
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[BaseHTTPRequestHandler], Answer | None] = lambda _: None
        self.amend: Callable[[str, str, bytes], bytes] = lambda _method, _target, body: body
        self.rewrite: Callable[[str, bytes], bytes] = lambda _, body: body
        self.observe: Callable[[BaseHTTPRequestHandler, bytes, int], None] = (
            lambda _request, _body, _status: None
        )
        front, address = self, urlsplit(upstream)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                front.requests.append((self.command, self.path))
                if refusal := front.refuse(self):
                    front.observe(self, body, refusal[0])
                    self.reply(*refusal)
                    return
                # Clients ask a forward proxy for a whole URL.
                target = urlsplit(self.path)
                path = target._replace(scheme="", netloc="").geturl()
                server = http.client.HTTPConnection(address.hostname or "", address.port)
                body = front.amend(self.command, path, body)
                headers = dict(self.headers.items())
                if "Content-Length" in headers:
                    headers["Content-Length"] = str(len(body))
                server.request(self.command, path, body, headers)
                answer = server.getresponse()
                content = answer.read()
                front.observe(self, body, answer.status)
                if answer.status == 200 and self.command == "GET":
                    content = front.rewrite(path, content)
                self.reply(answer.status, content, answer)
                server.close()

            def reply(
                self, status: int, body: bytes, answer: http.client.HTTPResponse | None = None
            ) -> None:
                # An answer has its own date and server.
                (self.send_response_only if answer else self.send_response)(status)
                length = str(len(body))
                for name, value in answer.getheaders() if answer else ():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                    elif self.command == "HEAD" and name.lower() == "content-length":
                        length = value
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = pass_on  # noqa: N815 - its names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def in_front_of(upstream: str) -> Iterator[Front]:
    """Runs a proxy in front of an S3 while the block runs."""
    front = Front(upstream)
    yield front
    front.close()


def with_keys(*keys: str) -> Callable[[str, bytes], bytes]:
    """Adds empty objects with these keys to listings: keys that this S3 would not accept."""

    def rewrite(target: str, body: bytes) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        if query.get("list-type") != "2":
            return body
        root = ElementTree.fromstring(body)
        space = root.tag.rpartition("}")[0] + "}"
        after = query.get("start-after", "")
        contents = root.findall(f"{space}Contents")
        for key in keys:
            if key.startswith(query.get("prefix", "")) and key > after:
                item = ElementTree.SubElement(root, f"{space}Contents")
                shown = quote(key) if "encoding-type" in query else key
                content = {"Key": shown, "Size": "0", "ETag": '"0"'}
                content["LastModified"] = "2026-01-01T00:00:00.000Z"
                for name, value in content.items():
                    ElementTree.SubElement(item, space + name).text = value
                contents.append(item)
        for item in contents:
            root.remove(item)
        root.extend(sorted(contents, key=lambda item: item.findtext(f"{space}Key") or ""))
        return ElementTree.tostring(root)

    return rewrite
