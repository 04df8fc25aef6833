"""A proxy in front of a real S3, or of any other service, that can answer some requests itself."""

import http.client
import io
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

from tests.local_servers import QuietHandler, serving

# Status, body, and headers if there are any.
Answer = tuple[int, bytes] | tuple[int, bytes, Mapping[str, str]]
_HOP = {"connection", "transfer-encoding", "content-length"}


class Incoming(QuietHandler):
    """A request.

    Attributes:
        body: All of it, however it was sent.
        trailers: The headers that came behind it.
    """

    # Headers and body of an answer are sent one after the other.
    disable_nagle_algorithm = True
    body = b""
    trailers = Message()

    def read_body(self) -> None:
        """Fill `body` and `trailers`."""
        self.trailers = Message()
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body, _ = read_chunks(self.rfile)
        else:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "aws-chunked":
            self.body, self.trailers = read_chunks(io.BytesIO(self.body))

    def headers_as_sent(self) -> dict[str, str]:
        """Its headers, for a body that is passed on in one piece."""
        length = {"Content-Length": str(len(self.body))} if "Content-Length" in self.headers else {}
        return {
            name: value for name, value in self.headers.items() if name.lower() not in _HOP
        } | length


def read_chunks(stream: io.BufferedIOBase) -> tuple[bytes, Message]:
    """A body in chunks, and the headers behind it.

    HTTP's own are of one form with those of S3 that no signature is in:
    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
    """
    chunks: list[bytes] = []
    while size := int(stream.readline(), 16):
        chunks.append(stream.read(size))
        stream.readline()
    return b"".join(chunks), http.client.parse_headers(stream)


class Front:
    """A proxy and what it does to requests.

    Attributes:
        upstream: what it is in front of.
        url: its address; of TLS on `localhost`, which is then in the certificate.
        requests: method and target of each request that came, in order.
        refuse: looks at a request and answers in the place of S3, or returns None.
        amend: gets method, target and body of each request and returns the body to pass on.
        headers: gives the headers of a request that is passed on.
        rewrite: gets target and body of each good answer and returns the body to send.
        observe: gets each request, its body and the status of its answer.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self.refuse: Callable[[Incoming], Answer | None] = lambda _: None
        self.headers: Callable[[Incoming], dict[str, str]] = Incoming.headers_as_sent
        self.amend: Callable[[str, str, bytes], bytes] = lambda _method, _target, body: body
        self.rewrite: Callable[[str, bytes], bytes] = lambda _, body: body
        self.observe: Callable[[BaseHTTPRequestHandler, bytes, int], None] = (
            lambda _request, _body, _status: None
        )

    def handler(self) -> type[Incoming]:
        """What handles a request."""
        front, address = self, urlsplit(self.upstream)

        class Handler(Incoming):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                self.read_body()
                front.requests.append((self.command, self.path))
                if refusal := front.refuse(self):
                    front.observe(self, self.body, refusal[0])
                    headers = refusal[2] if len(refusal) == 3 else {}
                    self.send(refusal[0], refusal[1], headers)
                    return
                # Clients ask a forward proxy for a whole URL.
                target = urlsplit(self.path)
                path = target._replace(scheme="", netloc="").geturl()
                server = http.client.HTTPConnection(address.hostname or "", address.port)
                self.body = front.amend(self.command, path, self.body)
                server.request(self.command, path, self.body, front.headers(self))
                answer = server.getresponse()
                content = answer.read()
                front.observe(self, self.body, answer.status)
                if answer.status == 200 and self.command == "GET":
                    content = front.rewrite(path, content)
                self.send(answer.status, content, dict(answer.getheaders()))
                server.close()

            def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                # An answer of a server has its own date.
                (self.send_response_only if "Date" in headers else self.send_response)(status)
                length = str(len(body))
                for name, value in headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                    elif self.command == "HEAD" and name.lower() == "content-length":
                        length = value
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = pass_on  # noqa: N815 - its names

        return Handler


@contextmanager
def in_front_of(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[Front]:
    """Runs a proxy in front of an S3 while the block runs."""
    front = Front(upstream)
    with serving(front.handler(), tls) as port:
        front.url = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        yield front


@contextmanager
def in_front_of_all(
    env: Mapping[str, str], tls: ssl.SSLContext | None = None
) -> Iterator[dict[str, Front]]:
    """Proxies in front of AWS's services of an environment, by the names of their addresses."""
    upstreams = {name: url for name, url in env.items() if name.startswith("AWS_ENDPOINT_URL_")}
    with ExitStack() as stack:
        fronts = {
            url: stack.enter_context(in_front_of(url, tls)) for url in set(upstreams.values())
        }
        yield {name: fronts[url] for name, url in upstreams.items()}


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
