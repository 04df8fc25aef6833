"""HTTP as the API speaks it: statuses, limits, headers, and bodies that mean harm."""

import base64
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from embedded.aws import aws_client
from formats.digit_features import VERSION
from tests.api.hostile import Hostile
from tests.api.rig import Deployment, Served, Split, serve
from tests.conftest import Services
from tests.digit_pictures import encoded

PNG = {"content-type": "image/png"}
BLANK = encoded(Image.new("L", (60, 60), "white"))


@pytest.fixture(scope="module")
def picture(digits: dict[str, Split]) -> bytes:
    """A digit, as a PNG."""
    return encoded(digits["test"].pixels[0])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "HEIF"])
def test_each_format_is_read(api: httpx.Client, digits: dict[str, Split], kind: str) -> None:
    body = encoded(digits["test"].pixels[0], kind)
    answer = api.post("/", content=body, headers={"content-type": f"image/{kind.lower()}"})
    assert answer.status_code == 200
    assert answer.json()["digit"] == digits["test"].labels[0]


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        pytest.param("POST", "/", PNG, BLANK, 422, id="no ink"),
        pytest.param("POST", "/", PNG, b"\x89PNG\r\n\x1a\n", 422, id="only a signature"),
        pytest.param("POST", "/", PNG, b"hello", 422, id="no picture"),
        pytest.param("POST", "/", PNG, b"", 400, id="nothing"),
        pytest.param("POST", "/", PNG, bytes(4_500_001), 413, id="more than a picture has"),
        pytest.param("POST", "/", PNG, bytes(30_000_000), 413, id="much more"),
        pytest.param("POST", "/", {"content-type": "image/gif"}, b"GIF89a", 415, id="a GIF"),
        pytest.param("POST", "/", {"content-type": "text/html"}, b"<p>", 415, id="HTML"),
        pytest.param("POST", "/", {}, b"x", 415, id="no type"),
        pytest.param("POST", "/batch", {}, b"nonsense", 400, id="no JSON"),
        pytest.param("POST", "/batch", {}, b"[" * 100_000, 400, id="JSON without end"),
        pytest.param("POST", "/batch", {}, b'{"images": "7"}', 422, id="no list"),
        pytest.param("POST", "/batch", {}, b"[]", 422, id="a list instead"),
        pytest.param("POST", "/batch", {}, b"\xff\xfe\x00", 400, id="JSON that is no text"),
        pytest.param(
            "POST", "/batch", {}, json.dumps({"images": ["eA=="] * 1001}).encode(), 413, id="1,001"
        ),
        pytest.param("POST", "/batch", PNG, BLANK, 415, id="a picture as a batch"),
        pytest.param("GET", "/nothing", {}, b"", 404, id="no such route"),
        pytest.param("GET", "/../etc/passwd", {}, b"", 404, id="a way out"),
        pytest.param("DELETE", "/", {}, b"", 405, id="not a method of the page"),
        pytest.param("GET", "/batch", {}, b"", 405, id="not a method of the batch"),
    ],
)
def test_what_cannot_be_answered_is_told_by_status_and_sentence(
    api: httpx.Client, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    if path == "/batch" and not headers:
        headers = {"content-type": "application/json"}
    answer = api.request(method, path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"Code", "Message"}
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/", "/batch"])
@pytest.mark.parametrize("named", ["image/gif", "image/tiff", "nonsense", "", None])
def test_a_type_that_is_not_read_is_told_which_are(
    api: httpx.Client, path: str, named: str | None
) -> None:
    headers = {} if named is None else {"content-type": named}
    answer = api.post(path, content=b"x", headers=headers)
    assert answer.status_code == 415
    read = ["application/json"] if path == "/batch" else ["image/jpeg", "image/png", "form-data"]
    assert all(item in answer.json()["Message"] for item in read)


@pytest.mark.parametrize("named", ["image/jpg", "image/pjpeg", "IMAGE/JPEG; charset=binary"])
def test_a_jpeg_is_read_by_any_of_its_names(
    api: httpx.Client, digits: dict[str, Split], named: str
) -> None:
    body = encoded(digits["test"].pixels[0], "JPEG")
    answer = api.post("/", content=body, headers={"content-type": named})
    assert answer.json()["digit"] == digits["test"].labels[0]


def test_a_form_is_read_by_its_first_file(api: httpx.Client, picture: bytes) -> None:
    plain = api.post("/", content=picture, headers=PNG).json()
    files = {"picture": ("a.png", picture, "image/png"), "another": ("b.png", BLANK)}
    assert api.post("/", data={"note": "x"}, files=files).json() == plain
    without = api.post("/", files={"note": (None, b"x")})
    assert without.status_code == 400
    assert "holds no file" in without.json()["Message"]
    nameless = api.post("/", content=b"x", headers={"content-type": "multipart/form-data"})
    assert nameless.status_code == 400


@pytest.mark.parametrize(
    "before",
    [
        b'name="a"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n',
        b'name="a"; filename="empty.png"\r\n\r\n',
        b'name="filename"\r\n\r\nx',
        b'name="a"\r\nContent-Type: text/plain; name="filename"\r\n\r\nx',
    ],
    ids=["no file chosen", "an empty file", "a text called filename", "a text of a named type"],
)
@pytest.mark.parametrize("name", ['filename="a.png"', 'FileName="zwölf;.png"', "filename=a.png"])
def test_what_of_a_form_is_no_file_with_content_is_passed_over(
    api: httpx.Client, picture: bytes, before: bytes, name: str
) -> None:
    start = b"--limit\r\nContent-Disposition: form-data; "
    chosen = start + f'name="picture"; {name}\r\n\r\n'.encode() + picture + b"\r\n"
    other, end = start + before + b"\r\n", b"--limit--\r\n"
    form = {"content-type": "multipart/form-data; boundary=limit"}
    plain = api.post("/", content=picture, headers=PNG).json()
    assert api.post("/", content=other + chosen + end, headers=form).json() == plain
    without = api.post("/", content=other + end, headers=form)
    assert without.status_code == 400
    assert "holds no file" in without.json()["Message"]


def test_base64_of_every_dress_is_read_in_a_batch(api: httpx.Client) -> None:
    picture = encoded(Image.effect_noise((40, 40), 90))
    plain, safe = base64.b64encode(picture).decode(), base64.urlsafe_b64encode(picture).decode()
    assert set("-_") & set(safe)
    dresses = [
        plain,
        safe,
        safe.rstrip("="),
        base64.encodebytes(picture).decode(),
        f"data:image/png;base64,{plain}",
    ]
    answer = api.post("/batch", json={"images": dresses}).json()["predictions"]
    assert "No ink" in answer[0]["error"]
    assert answer == [answer[0]] * len(dresses)


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/model", "/openapi.json"])
def test_what_is_fetched_may_come_with_a_content_type(api: httpx.Client, path: str) -> None:
    """Chalice by itself answers 415 to such a GET."""
    assert api.get(path, headers={"content-type": "text/plain"}).status_code == 200


def test_an_empty_batch_has_no_predictions(api: httpx.Client) -> None:
    assert api.post("/batch", json={"images": []}).json() == {"predictions": []}


def test_pictures_that_are_no_base64_are_told_in_their_places(api: httpx.Client) -> None:
    answer = api.post("/batch", json={"images": ["%%%", 7, None, "AAAA", {"a": 1}, "é"]})
    assert answer.status_code == 200
    assert [set(item) for item in answer.json()["predictions"]] == [{"error"}] * 6


def test_the_page_is_allowed_its_own_script_only(api: httpx.Client) -> None:
    page = api.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text


def test_no_other_origin_is_let_in(api: httpx.Client, picture: bytes) -> None:
    origin = {"origin": "https://elsewhere.example"}
    for answer in (
        api.post("/", content=picture, headers=PNG | origin),
        api.get("/", headers=origin),
    ):
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = api.options("/", headers=origin | {"access-control-request-method": "POST"})
    assert preflight.status_code == 403
    own = api.post("/", content=picture, headers=PNG | {"origin": str(api.base_url).rstrip("/")})
    assert own.status_code == 200


def test_the_model_tells_what_is_live(api: httpx.Client, deployment: Deployment) -> None:
    answer = api.get("/model").json()
    assert answer["endpoint"] == deployment.endpoint
    assert answer["status"] == "InService"
    assert answer["version"] == deployment.first
    assert answer["accuracy"] == 0.97
    assert answer["centroids"] == len(deployment.centroids)


def test_health_tells_of_the_process_and_of_the_endpoint(
    api: httpx.Client, deployment: Deployment
) -> None:
    assert api.get("/healthz").json() == {
        "status": "ok",
        "endpoint": {"name": deployment.endpoint, "status": "InService"},
    }


def test_an_endpoint_that_is_not_deployed_is_503_and_the_process_well(
    services: Services, tmp_path: Path, picture: bytes
) -> None:
    with serve({**services.env, "PLATFORM_ENDPOINT_NAME": "not-there"}, tmp_path) as running:
        with running.client() as api:
            health = api.get("/healthz")
            assert health.status_code == 200
            assert health.json()["endpoint"]["status"] == "NotDeployed"
            for answer in (api.post("/", content=picture, headers=PNG), api.get("/model")):
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) > 0
                assert "not-there" in answer.json()["Message"]
        assert "Traceback" not in running.log.read_text()


def test_a_sagemaker_that_is_down_is_503_without_a_secret(
    services: Services, tmp_path: Path, picture: bytes
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        env = {
            **services.env,
            "AWS_ENDPOINT_URL_SAGEMAKER": nobody,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": nobody,
        }
        with serve(env, tmp_path) as running, running.client() as api:
            assert api.get("/healthz").json()["endpoint"]["status"] == "Unreachable"
            answer = api.post("/", content=picture, headers=PNG)
            assert answer.status_code == 503
            output = answer.text + running.log.read_text()
    assert services.env["AWS_SECRET_ACCESS_KEY"] not in output


def test_an_endpoint_that_hangs_is_504(services: Services, tmp_path: Path, picture: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {
            **services.env,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
            "PLATFORM_API_READ_SECONDS": "0.5",
        }
        with serve(env, tmp_path) as running, running.client() as api:
            assert api.post("/", content=picture, headers=PNG).status_code == 504


def test_too_many_at_once_are_turned_away_and_the_others_answered(
    services: Services, tmp_path: Path, picture: bytes
) -> None:
    """Behind an endpoint that hangs, requests pile up; the server says so at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {
            **services.env,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url,
            "PLATFORM_API_READ_SECONDS": "5",
            "PLATFORM_API_ATTEMPTS": "1",
        }

        many = httpx.Limits(max_connections=120)
        with (
            serve(env, tmp_path) as running,
            httpx.Client(base_url=running.url, timeout=60, trust_env=False, limits=many) as api,
            ThreadPoolExecutor(120) as crowd,
        ):
            sent = [crowd.submit(api.post, "/", content=picture, headers=PNG) for _ in range(120)]
            answer = [item.result() for item in sent]
    statuses = [item.status_code for item in answer]
    assert set(statuses) == {429, 504}
    assert all(item.headers["retry-after"] == "1" for item in answer if item.status_code == 429)


def test_where_a_key_is_set_only_its_holder_is_answered(
    services: Services, deployment: Deployment, tmp_path: Path, picture: bytes
) -> None:
    env = {
        **services.env,
        "PLATFORM_ENDPOINT_NAME": deployment.endpoint,
        "PLATFORM_API_KEY": "a-key-of-this-test",
    }
    with serve(env, tmp_path) as running, running.client() as api:
        keys: list[dict[str, Any]] = [{}, {"x-api-key": "another"}, {"x-api-key": "é".encode()}]
        for key in keys:
            assert api.post("/", content=picture, headers=PNG | key).status_code == 401
            assert api.post("/batch", json={"images": []}, headers=key).status_code == 401
            assert api.get("/model", headers=key).status_code == 401
        own = {"x-api-key": "a-key-of-this-test"}
        assert api.post("/", content=picture, headers=PNG | own).status_code == 200
        assert api.get("/healthz").status_code == 200
        assert api.get("/").status_code == 200


def test_ten_thousand_hostile_bodies_never_make_it_fail_nor_grow(
    served: Served, digits: dict[str, Split]
) -> None:
    """Truncated, spoilt and random bodies, polyglots, bombs, wrong types, broken batches."""
    hostile = Hostile(digits["test"].pixels[0])
    address = urlsplit(served.url)
    process = psutil.Process(served.process.pid)

    def send(numbers: range) -> Counter[int]:
        statuses: Counter[int] = Counter()
        peer = HTTPConnection(str(address.hostname), address.port, timeout=60)
        with closing(peer):
            for number in numbers:
                path, media_type, body = hostile.request(number)
                peer.request("POST", path, body, {"content-type": media_type})
                answer = peer.getresponse()
                assert b"Traceback" not in answer.read()
                statuses[answer.status] += 1
        return statuses

    statuses: Counter[int] = Counter()
    resident: list[int] = []
    with ThreadPoolExecutor(4) as crowd:
        for thousand in range(0, 10_000, 1000):
            parts = [range(thousand + first, thousand + 1000, 4) for first in range(4)]
            for item in crowd.map(send, parts):
                statuses += item
            resident.append(process.memory_info().rss)
    assert statuses.total() == 10_000
    assert set(statuses) == {200, 400, 413, 415, 422}
    assert max(resident[5:]) - max(resident[:5]) < 32 * 2**20


def test_broken_http_leaves_the_server_well(served: Served) -> None:
    address = urlsplit(served.url)
    for raw in (
        b"POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nshort",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=60) as peer:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(100)
    with served.client() as api:
        assert api.get("/healthz").status_code == 200


def test_an_update_under_load_fails_no_answer_and_mixes_no_numbering(
    served: Served, deployment: Deployment, digits: dict[str, Split], services: Services
) -> None:
    """The new version numbers the same centroids otherwise, digit by digit: an answer decoded with
    the wrong one's table would be wrong, and one explained with it would have another confidence.
    """
    renumbered = deployment.put(f"{deployment.endpoint}-next", turn=1)
    assert not np.array_equal(renumbered, deployment.centroids)
    bodies = [encoded(digit) for digit in digits["test"].pixels[:40]]
    with served.client() as api:
        before = [api.post("/", content=body, headers=PNG).json() for body in bodies]
    stop = threading.Event()
    reply: list[tuple[int, int, Mapping[str, object]]] = []

    def load(first: int) -> None:
        with served.client() as api:
            number = first
            while not stop.is_set():
                answer = api.post("/", content=bodies[number], headers=PNG)
                reply.append((number, answer.status_code, answer.json()))
                number = (number + 3) % len(bodies)

    with ThreadPoolExecutor(3) as crowd:
        running = [crowd.submit(load, first) for first in range(3)]
        try:
            for config in (f"{deployment.endpoint}-next", deployment.first):
                aws_client(services.env, "sagemaker").update_endpoint(
                    EndpointName=deployment.endpoint, EndpointConfigName=config
                )
                deployment.wait()
                # However slow the machine is, this version answers for every picture.
                enough = len(reply) + len(bodies)
                while len(reply) < enough and not any(item.done() for item in running):
                    time.sleep(0.05)
        finally:
            stop.set()
        for item in running:
            item.result()
    assert {status for _, status, _ in reply} == {200}
    clusters: dict[int, set[object]] = {}
    for number, _, answer in reply:
        assert answer["digit"] == before[number]["digit"]
        assert answer["confidence"] in (None, pytest.approx(before[number]["confidence"], abs=2e-3))
        clusters.setdefault(number, set()).add(answer["cluster"])
    assert any(len(item) > 1 for item in clusters.values()), "both versions answered"
    explained = [answer["confidence"] is not None for _, _, answer in reply]
    assert np.mean(explained) > 0.9


def test_a_model_of_other_features_gives_no_answer_rather_than_a_wrong_one(
    deployment: Deployment, services: Services, tmp_path: Path, picture: bytes
) -> None:
    """It would take the features, being as many, and read nine of ten digits wrongly."""
    other = Deployment.create(
        services.env, deployment.trained, deployment.validation, features=VERSION - 1
    )
    with other as created:
        env = {**services.env, "PLATFORM_ENDPOINT_NAME": created.endpoint}
        with serve(env, tmp_path) as served, served.client() as api:
            answer = api.post("/", content=picture, headers=PNG)
    assert answer.status_code == 503
    assert "trained on other features" in answer.json()["Message"]
