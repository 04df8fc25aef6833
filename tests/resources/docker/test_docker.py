"""Modules in containers and child processes: the same messages, the same errors, nothing left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from botocore.exceptions import ProfileNotFound
from docker.models.images import ImageCollection

from resources.docker import (
    ContainerRefusedError,
    DockerResource,
    EngineLostError,
    EngineUnavailableError,
    ImageMissingError,
    ModuleFailedError,
    ModuleMemoryError,
    ModuleRunError,
    ModuleTimeoutError,
)
from tests.containers import (
    ENGINE_SOCKET,
    EngineProxy,
    containers_left,
    engine,
    image_with_module,
    make_certificate,
    run_in_dagster,
)

HERE = Path(__file__).parent
FAULTS = "pipes_faults"
FAULTS_IMAGE = f"numbercruncher-test-faults:{uuid.uuid4().hex[:12]}"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "a-very-secret-key"}


@pytest.fixture(scope="session")
def faults_image() -> Iterator[str]:
    client = engine()
    yield image_with_module(client, HERE / f"{FAULTS}.py", FAULTS_IMAGE)
    client.images.remove(FAULTS_IMAGE, force=True)


@pytest.fixture(params=[pytest.param("docker", marks=pytest.mark.docker), "process"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    if request.param == "docker":
        request.getfixturevalue("faults_image")
    return request.param


def resource(mode: str, **fields: Any) -> DockerResource:
    settings: dict[str, Any] = {"mode": mode, "image": FAULTS_IMAGE, "memory_mb": 256, **fields}
    return DockerResource(**settings)


def runs(pid: int) -> bool:
    """True if the process lives; a dead one that nobody has asked about yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run_fault(mode: str, fault: str, extras: dict[str, Any] | None = None, **fields: Any) -> Any:
    try:
        return run_in_dagster(resource(mode, **fields), FAULTS, extras=extras, arguments=[fault])
    finally:
        if mode == "docker":
            assert not containers_left(engine(), FAULTS_IMAGE)


def test_a_message_of_a_megabyte_arrives_whole(mode: str) -> None:
    run = run_fault(mode, "large_message", {"characters": 500_000})
    assert run.messages == ({"text": "ä\n" * 500_000},)


def test_long_messages_and_long_log_lines_are_not_mixed_up(mode: str) -> None:
    run = run_fault(mode, "interleaved")
    assert run.messages == tuple({"number": n, "text": "y" * 40_000} for n in range(20))


def test_extras_of_any_size_reach_the_module(mode: str) -> None:
    # 400 KB that do not compress: more than one environment variable can hold.
    extras = {"values": [os.urandom(16).hex() for _ in range(12_000)]}
    assert run_fault(mode, "extras", extras).messages == (extras,)


def test_lines_that_only_look_like_messages_are_log_lines(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_fault(mode, "garbage").messages == ({"after": "garbage"},)
    assert '{"__dagster_pipes_version": "0.1"}' in capsys.readouterr().err


def test_an_exit_code_is_told_with_the_end_of_the_log_and_the_messages_before(mode: str) -> None:
    with pytest.raises(ModuleFailedError, match="exit code 3") as caught:
        run_fault(mode, "crash")
    assert caught.value.log_tail[-1] == "about to crash"
    assert caught.value.messages == ({"before": "the crash"},)
    assert "about to crash" in str(caught.value)


def test_a_kill_from_outside_is_a_failure_of_its_own(mode: str) -> None:
    with pytest.raises(ModuleFailedError, match="signal 9"):
        run_fault(mode, "killed")


def test_running_out_of_memory_is_told_from_a_crash(mode: str) -> None:
    with pytest.raises(ModuleMemoryError, match="ran out of its 100 MiB") as caught:
        run_fault(mode, "out_of_memory", memory_mb=100)
    assert caught.value.messages == ({"before": "memory ran out"},)


def test_a_module_that_hangs_is_stopped_at_its_deadline(mode: str) -> None:
    """It would go on for longer than a test may."""
    with pytest.raises(ModuleTimeoutError, match="still running after 4 s") as caught:
        run_fault(mode, "hang", deadline_seconds=4)
    (message,) = caught.value.messages
    if mode == "process":
        assert not runs(message["pid"])


def test_a_module_that_does_not_exist_is_a_failure_that_names_it(mode: str) -> None:
    with pytest.raises(ModuleFailedError, match="no_such_module"):
        run_in_dagster(resource(mode), "no_such_module")


def test_credentials_reach_the_module_and_nobody_else(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://192.0.2.1:9000")
    (seen,) = run_fault(mode, "environment").messages
    assert seen["credentials"] == [*KEYS.values(), None]
    secret = KEYS["AWS_SECRET_ACCESS_KEY"]
    assert not [line for line in seen["initial"] + seen["command"] if secret in line]
    assert seen["environment"]["AWS_ENDPOINT_URL_S3"] == "http://192.0.2.1:9000"


def test_the_region_of_a_profile_reaches_the_module(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[profile abroad]\nregion = ap-southeast-2\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "abroad")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    (seen,) = run_fault(mode, "environment", forward_credentials=False).messages
    assert seen["environment"]["AWS_DEFAULT_REGION"] == "ap-southeast-2"


def test_a_child_gets_none_of_its_parents_secrets(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_POSTGRES_DSN", "postgresql://user:pw@127.0.0.1/db")
    (seen,) = run_fault(mode, "environment", forward_credentials=False).messages
    assert "PLATFORM_POSTGRES_DSN" not in seen["environment"]
    assert seen["credentials"] is None


@pytest.mark.docker
def test_secrets_do_not_show_in_docker_inspect(
    faults_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    client = engine()
    inspected: list[str] = []

    def look() -> None:
        while not inspected:
            for name in containers_left(client, FAULTS_IMAGE):
                container = client.containers.get(name)
                if container.status == "running":
                    inspected.append(json.dumps(container.attrs))
            time.sleep(0.1)

    watcher = threading.Thread(target=look)
    watcher.start()
    with pytest.raises(ModuleTimeoutError):
        run_fault("docker", "hang", {"parameter": "of-the-run"}, deadline_seconds=4)
    watcher.join()
    for value in (*KEYS.values(), "of-the-run"):
        assert value not in inspected[0]
    assert "data-platform.run-id" in inspected[0]
    # The clock inside, for where nobody outside is left: the deadline and half a minute.
    assert json.loads(inspected[0])["Config"]["Entrypoint"][-1] == "34"


@pytest.mark.docker
def test_a_container_has_walls(faults_image: str) -> None:
    (seen,) = run_fault("docker", "walls").messages
    assert not seen["writable"]
    status = dict(line.split(":\t", 1) for line in seen["status"].splitlines())
    assert status["Uid"].split()[0] == "10001"
    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"


@pytest.mark.docker
def test_metadata_say_which_image_ran(faults_image: str) -> None:
    run = run_fault("docker", "extras")
    image = engine().images.get(FAULTS_IMAGE)
    assert run.metadata["mode"] == "docker"
    assert run.metadata["image_id"] == run.metadata["image_digest"] == image.id


def test_what_a_module_leaves_behind_is_ended_with_it(mode: str) -> None:
    """It would go on for longer than a test may."""
    (message,) = run_fault(mode, "leave_something_behind").messages
    if mode == "process":
        assert not runs(message["pid"])


@pytest.mark.parametrize("mode", ["auto", "docker"])
def test_without_an_engine(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto takes a child process and says why; docker says that no engine answers."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    if mode == "auto":
        run = run_in_dagster(resource("auto"), FAULTS, arguments=["extras"])
        assert run.metadata["mode"] == "process"
        assert "No Docker Engine answers" in str(run.metadata["mode_reason"])
        assert resource("auto").sweep(lambda _: True) == []
    else:
        with pytest.raises(EngineUnavailableError, match="No Docker Engine answers"):
            run_in_dagster(resource("docker"), FAULTS, arguments=["extras"])


@pytest.mark.docker
def test_without_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """auto takes a child process and says why; docker says how to build the image."""
    engine().close()
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    run = run_in_dagster(resource("auto", image="no-such-image"), FAULTS, arguments=["extras"])
    assert run.metadata["mode"] == "process"
    with pytest.raises(ImageMissingError, match="docker pull no-such-image"):
        run_in_dagster(resource("docker", image="no-such-image"), FAULTS, arguments=["extras"])


@pytest.mark.docker
def test_an_interrupt_while_the_image_is_looked_up_closes_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close, closed = docker.DockerClient.close, list[docker.DockerClient]()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def close_and_note(client: docker.DockerClient) -> None:
        closed.append(client)
        close(client)

    monkeypatch.setattr(ImageCollection, "get", interrupt)
    monkeypatch.setattr(docker.DockerClient, "close", close_and_note)
    with pytest.raises(KeyboardInterrupt):
        run_in_dagster(resource("docker"), FAULTS)
    assert len(closed) == 1


@pytest.mark.docker
def test_auto_takes_the_container_where_engine_and_image_are_there(faults_image: str) -> None:
    assert run_fault("auto", "extras").metadata["mode"] == "docker"


@pytest.mark.docker
def test_a_container_the_engine_refuses_is_a_sentence_and_leaves_nothing(
    faults_image: str,
) -> None:
    with pytest.raises(ContainerRefusedError, match="no-such-network"):
        run_fault("docker", "extras", network="no-such-network")


@pytest.mark.docker
def test_a_container_removed_by_somebody_else_is_an_error_and_no_success(
    faults_image: str,
) -> None:
    client = engine()
    removed: list[str] = []

    def remove() -> None:
        while not removed:
            for name in containers_left(client, FAULTS_IMAGE):
                container = client.containers.get(name)
                if container.status == "running":
                    removed.append(name)
                    container.remove(force=True)
            time.sleep(0.1)

    threading.Thread(target=remove, daemon=True).start()
    with pytest.raises(ModuleRunError):
        run_fault("docker", "hang", deadline_seconds=60)
    assert removed, "the module ended before its container was removed"
    # The engine has volumes of other tests' containers, too.
    assert removed[0] not in {volume.name for volume in client.volumes.list()}


def start_worker(mode: str) -> tuple[subprocess.Popen[str], str]:
    """Starts a run of its own that hangs in its module; returns it and the run's id."""
    worker = subprocess.Popen(
        [sys.executable, str(HERE / "docker_run_worker.py"), mode, FAULTS_IMAGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert worker.stdout is not None
    assert worker.stderr is not None
    run_id = worker.stdout.readline().strip()
    for line in worker.stderr:
        if line.strip() == "hanging":
            break
    else:
        raise AssertionError("the run ended before its module began")
    threading.Thread(target=worker.stderr.read, daemon=True).start()
    return worker, run_id


def children(worker: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 60
    while any(runs(process.pid) for process in processes):
        assert time.monotonic() < deadline, f"{processes} are still there"
        time.sleep(0.1)


def test_an_interrupted_run_takes_its_module_with_it(mode: str) -> None:
    worker, _ = start_worker(mode)
    started = children(worker)
    worker.send_signal(signal.SIGINT)
    worker.wait(timeout=120)
    if mode == "docker":
        assert not containers_left(engine(), FAULTS_IMAGE)
    else:
        assert started
        assert_gone(started)


def test_a_run_that_is_cancelled_in_dagster_takes_its_module_with_it(mode: str) -> None:
    """By its status alone, since Python may lose the signal."""
    worker, _ = start_worker(mode)
    started = children(worker)
    assert worker.stdin is not None
    worker.stdin.write("cancel\n")
    worker.stdin.close()
    worker.wait(timeout=60)
    if mode == "docker":
        assert not containers_left(engine(), FAULTS_IMAGE)
    else:
        assert started
        assert_gone(started)


def test_a_killed_run_leaves_no_process_and_no_container_after_the_sweep(mode: str) -> None:
    worker, run_id = start_worker(mode)
    started = children(worker)
    worker.kill()
    worker.wait(timeout=60)
    if mode == "process":
        assert started
        assert_gone(started)
        return
    runner = resource("docker")
    (name,) = containers_left(engine(), FAULTS_IMAGE)
    assert runner.sweep(lambda _: False) == []
    assert containers_left(engine(), FAULTS_IMAGE) == [name]
    assert runner.sweep(lambda run: run == run_id) == [name]
    assert not containers_left(engine(), FAULTS_IMAGE)


@pytest.mark.docker
def test_a_container_whose_run_was_killed_ends_by_its_own_clock(
    faults_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock inside is the last resort: looked at here without anybody outside."""
    client = engine()
    container = client.containers.run(
        FAULTS_IMAGE,
        entrypoint=["timeout", "--kill-after=1", "2"],
        command=["sleep", "600"],
        init=True,
        detach=True,
    )
    try:
        assert container.wait(timeout=120)["StatusCode"] == 124
    finally:
        container.remove(force=True)


@pytest.mark.docker
def test_the_volume_of_the_credentials_is_gone_with_its_container(faults_image: str) -> None:
    client = engine()
    volumes: set[str] = set()

    def look() -> None:
        while not volumes:
            for name in containers_left(client, FAULTS_IMAGE):
                for mount in client.containers.get(name).attrs["Mounts"]:
                    volumes.add(mount["Name"])
            time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    with pytest.raises(ModuleTimeoutError):
        run_fault("docker", "hang", deadline_seconds=4)
    watcher.join()
    assert volumes
    assert not volumes & {str(volume.name) for volume in client.volumes.list()}


@pytest.mark.docker
def test_an_engine_that_is_lost_while_a_container_runs_is_worth_another_try(
    faults_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EngineProxy() as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{proxy.port}")

        def lose() -> None:
            client = docker.DockerClient(base_url=ENGINE_SOCKET)
            while not client.containers.list(filters={"ancestor": FAULTS_IMAGE}):
                time.sleep(0.1)
            time.sleep(1)
            proxy.close()

        loser = threading.Thread(target=lose)
        loser.start()
        with pytest.raises(EngineLostError, match="was lost on its way") as caught:
            run_in_dagster(resource("docker", deadline_seconds=60), FAULTS, arguments=["hang"])
        loser.join()
    assert caught.value.transient
    monkeypatch.delenv("DOCKER_HOST")
    (left,) = containers_left(engine(), FAULTS_IMAGE)
    run = engine().containers.get(left).labels["data-platform.run-id"]
    assert resource("docker").sweep(lambda run_id: run_id == run) == [left]
    assert not containers_left(engine(), FAULTS_IMAGE)


@pytest.mark.docker
def test_a_remote_engine_is_reached_by_tls_with_everything_a_module_needs(
    faults_image: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with EngineProxy(tls=make_certificate(tmp_path)) as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they would win over the path below
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
        (seen,) = run_in_dagster(resource("docker"), FAULTS, arguments=["environment"]).messages
        assert seen["credentials"] == [*KEYS.values(), None]
        assert proxy.connections > 0


@pytest.mark.docker
@pytest.mark.parametrize("mode", ["docker", "auto"])
def test_no_engine_is_asked_before_it_is_known_how_aws_is_reached(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client would stay open."""
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with EngineProxy() as proxy:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{proxy.port}")
        with pytest.raises(ProfileNotFound):
            run_in_dagster(resource(mode), FAULTS)
        assert proxy.connections == 0
