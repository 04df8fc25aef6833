"""A deployment as deploy/README.md has it made: images, files of secrets, Compose, runs.

AWS and the listings' database are the embedded ones of the tests; containers reach them by a
bridge.
"""

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.conftest import CHECKOUT, Services, clean_environ
from tests.containers import engine, number_cruncher_image
from tests.deploy.bridge import Bridge, bridged
from tests.embedded.dagster_rig import Ui
from tests.local_servers import free_port
from tests.s3_front import Incoming, in_front_of

IMAGE = "data-platform-test"
# Images that .ci/run makes, or names: where no registry answers, these are not the official ones.
IMAGES = ("PLATFORM_BASE_IMAGE", "POSTGRES_IMAGE", "NGINX_IMAGE")


@dataclass
class Witness:
    """Keeps what `docker inspect` says of each container that is made, by its name."""

    client: docker.DockerClient
    seen: dict[str, str] = field(default_factory=dict[str, str])

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look until the end of the block."""
        events = self.client.events(decode=True, filters={"type": "container", "event": "create"})

        def look() -> None:
            with suppress(OSError, ValueError, docker.errors.DockerException):
                for event in events:
                    with suppress(docker.errors.NotFound):
                        said = self.client.api.inspect_container(event["id"])
                        self.seen[said["Name"].strip("/")] = json.dumps(said)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        yield
        events.close()
        thread.join(60)


@dataclass(frozen=True)
class Deployment:
    """A running deployment.

    Attributes:
        checkout: What it is made of: this checkout, and the files in deploy/private.
        environ: Of the commands that are typed there.
        settings: What platform.env says beside its defaults.
        passwords: Of those who may log in.
        port: Of the login.
        client: Of the engine.
        bridge: To the embedded services.
        witness: Of all containers.
    """

    checkout: Path
    environ: Mapping[str, str]
    settings: Mapping[str, str]
    passwords: Mapping[str, str]
    port: int
    client: docker.DockerClient
    bridge: Bridge
    witness: Witness

    def ui(self, name: str) -> Ui:
        """Dagster as somebody who has logged in sees it; as nobody, without a name."""
        login = f"{name}:{self.passwords[name]}@" if name else ""
        return Ui(f"http://{login}127.0.0.1:{self.port}", self.settings["PLATFORM_POSTGRES_DSN"])

    def compose(self, words: str) -> str:
        """What `docker compose …` in deploy/ prints, which has to succeed."""
        return self.type(f"cd deploy && docker compose {words}")

    def type(self, script: str) -> str:
        """What a script, typed in the checkout, prints; it has to succeed."""
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.checkout,
            env=dict(self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def containers(self, label: str) -> list[Any]:
        """Those that run and have a label."""
        return self.client.containers.list(filters={"label": label}, ignore_removed=True)

    def private(self, name: str) -> Path:
        """A file of deploy/private."""
        return self.checkout / "deploy" / "private" / name

    def planted(self) -> dict[str, str]:
        """The secrets that it has, by what they are."""
        names = ("AWS_SECRET_ACCESS_KEY", "PLATFORM_PSEUDONYM_KEY", "PLATFORM_ALERTS")
        dsn = self.settings["PLATFORM_POSTGRES_DSN"]
        return {
            **{name: self.settings[name] for name in names},
            "the listings' password": dsn.split(":")[2].split("@")[0],
            "the records' password": self.private("platform/records_password").read_text().strip(),
            "an editor's password": self.passwords["editor"],
        }


def on_the_host() -> list[str]:
    """The commands that make a deployment, line by line, as README.md has them."""
    readme = (CHECKOUT / "deploy" / "README.md").read_text()
    block = re.search(r"## On the host\n.*?```\n(.*?)```", readme, re.S)
    assert block is not None
    return block[1].splitlines()


@contextmanager
def deployed(services: Services, settings: Mapping[str, str], folder: Path) -> Iterator[Deployment]:
    """A deployment with empty records, on the embedded services.

    Args:
        services: Those of the test run.
        settings: More of platform.env; services at 127.0.0.1 are at the bridge's address there.
        folder: Which is empty.
    """
    unset = [name for name in IMAGES if not os.environ.get(name)]
    if unset:
        pytest.skip(f"{', '.join(unset)} do not name images: .ci/run says how they are made")
    client = engine()
    number_cruncher_image()
    with ExitStack() as opened:
        environment = {**services.env, **opened.enter_context(_sagemaker(services.env)), **settings}
        held, *others = _ports_of(environment)
        bridge = opened.enter_context(bridged(others, held))
        witness = Witness(client)
        opened.enter_context(witness.looking())
        own = {
            name: value.replace("127.0.0.1", bridge.address)
            for name, value in environment.items()
            if name.startswith("AWS_") or name in settings or name.endswith("_ROLE_ARN")
        }
        deployment = Deployment(
            folder / "checkout",
            _environ(folder),
            own,
            {name: secrets.token_urlsafe(12) for name in ("editor", "reader")},
            free_port(),
            client,
            bridge,
            witness,
        )
        try:
            _make(deployment)
            yield deployment
        finally:
            deployment.compose("--profile commands down --volumes --timeout 10")


@contextmanager
def _sagemaker(env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The addresses of the embedded SageMaker, through a front that asks it by a name of its own.

    It answers nobody who calls it by the bridge's address, and signatures hold the address.
    """
    url = env["AWS_ENDPOINT_URL_SAGEMAKER"]
    keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])

    def sign_anew(request: Incoming) -> dict[str, str]:
        scope = re.search(
            r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/", request.headers["Authorization"]
        )
        assert scope is not None
        headers = {
            name: value
            for name, value in request.headers_as_sent().items()
            if name.lower() not in {"host", "authorization", "x-amz-date", "content-length"}
        }
        asked = AWSRequest(request.command, f"{url}{request.path}", headers, request.body)
        SigV4Auth(keys, scope[2], scope[1]).add_auth(asked)
        return dict(asked.headers.items())

    with in_front_of(url) as front:
        front.headers = sign_anew
        yield {name: front.url for name, value in env.items() if value == url}


def _ports_of(environment: Mapping[str, str]) -> list[int]:
    """The ports of S3, and then of the other services."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SAGEMAKER", "PLATFORM_POSTGRES_DSN")
    found = [re.search(r"127\.0\.0\.1:(\d+)", environment[name]) for name in names]
    return [int(match[1]) for match in found if match]


def _environ(folder: Path) -> dict[str, str]:
    """Has `docker compose`, whoever has installed Docker."""
    plugins = folder / "docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(Path(sys.executable).with_name("docker-compose"))
    return clean_environ(DOCKER_CONFIG=str(folder / "docker"))


def _make(deployment: Deployment) -> None:
    """Follow README.md, on this checkout as it is, changes included."""
    tracked = subprocess.check_output(["git", "stash", "create"], cwd=CHECKOUT, text=True).strip()
    archive = f"git -C {shlex.quote(str(CHECKOUT))} archive {tracked or 'HEAD'}"
    deployment.checkout.mkdir()
    deployment.type(f"{archive} | tar -x")
    arguments = {
        "BASE_IMAGE": os.environ["PLATFORM_BASE_IMAGE"],
        # Debian's own, and no certificates of AWS: there is no way to them.
        "POSTGRES_CLIENT": "postgresql-client-15",
        "RDS_CERTIFICATES": "",
    }
    options = " ".join(f"--build-arg {name}={value}" for name, value in arguments.items())
    *commands, up = [line for line in on_the_host() if "numbercruncher" not in line]
    script = "\n".join(["umask 077", *commands])
    script = script.replace("git archive HEAD", archive)
    script = script.replace("-t data-platform", f"--quiet --network host -t {IMAGE} {options}")
    logins = [line for line in commands if "openssl passwd" in line or "editor;" in line]
    assert len(logins) == 2
    for line in logins:
        script = script.replace(line, "")
    users = [
        logins[0]
        .replace("NAME", name)
        .replace("openssl passwd -6", f"openssl passwd -6 {password}")
        for name, password in deployment.passwords.items()
    ]
    # The last line opens the files to the containers' users.
    before, last = script.rstrip().rsplit("\n", 1)
    deployment.type("\n".join([before, *users, logins[1].replace("NAME", "editor"), last]))
    with deployment.private("platform/platform.env").open("a") as file:
        file.write("".join(f"{name}={value}\n" for name, value in deployment.settings.items()))
    names = {
        "COMPOSE_PROJECT_NAME": "data-platform-test",
        "PLATFORM_IMAGE": IMAGE,
        "POSTGRES_IMAGE": os.environ["POSTGRES_IMAGE"],
        "NGINX_IMAGE": os.environ["NGINX_IMAGE"],
        "UI_PORT": deployment.port,
        "METRICS_PORT": free_port(),
    }
    text = "".join(f"{name}={value}\n" for name, value in names.items())
    (deployment.checkout / "deploy" / ".env").write_text(text)
    # What a test run that was killed has left would have another password.
    deployment.compose("--profile commands down --volumes")
    deployment.type(up)
