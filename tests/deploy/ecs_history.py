"""What happens on ECS once the template is there: runs begin, one is lost, one is stopped.

Daemon, code server and the runs' workers are real processes, with the environments and commands of
the template; whatever they ask of AWS is kept.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.aws_requests import AwsRequest, Recorder
from tests.conftest import CHECKOUT, point_to
from tests.deploy.ecs_account import WAIT, Ecs, metadata_of
from tests.deploy.ecs_rig import Template
from tests.local_servers import free_port
from tests.waiting import until

# Of deploy/ecs/dagster.yaml, for a test that waits.
FASTER = {
    "poll_interval_seconds: 30": "poll_interval_seconds: 1",
    "cancel_timeout_seconds: 180": "cancel_timeout_seconds: 1",
}


@dataclass
class History:
    """What was asked of ECS, and what became of the runs.

    Attributes:
        template: With the values of this account.
        requests: Sender (`daemon`, `webserver`, `code-server`, `run`) and request.
        environments: Container → what it has in its environment.
        started: Job → parameters of each RunTask.
        interrupted: The run whose task was lost, and the one that took its place.
        stopped: The run that somebody stopped.
        lost: What Dagster's records say of the lost run.
    """

    template: Template
    requests: list[tuple[str, AwsRequest]]
    environments: dict[str, dict[str, str]]
    started: dict[str, list[dict[str, Any]]]
    interrupted: tuple[dg.DagsterRun, dg.DagsterRun]
    stopped: dg.DagsterRun
    lost: str


def happen(ecs: Ecs, recorder: Recorder) -> History:
    """Two runs are started by the daemon: one loses its task and is tried again, one is stopped."""
    with ExitStack() as stack:
        instance = look(ecs, stack)
        for context in services(ecs, stack):
            stack.enter_context(context)
        started: dict[str, list[dict[str, Any]]] = {}
        for _ in range(2):
            task = ecs.next("RunTask")
            started.setdefault(job_of(task), []).append(task)

        stopped = run_of(instance, "stopped")
        assert instance.run_coordinator.cancel_run(stopped.run_id)
        assert ecs.next("StopTask")["task"] == stopped.tags["ecs/task_arn"]

        first = run_of(instance, "interrupted")
        with ecs.running("run", command_of(started["interrupted"][0])) as worker:
            until(lambda: (ecs.folder / "begun").exists(), "the worker has not begun")
            os.killpg(worker.pid, signal.SIGKILL)
        ecs.lose(first.tags["ecs/task_arn"])
        again = ecs.next("RunTask")
        started["interrupted"].append(again)
        (ecs.folder / "go").touch()
        second = run_of(instance, "interrupted", not_this=first.run_id)
        with ecs.running("run", command_of(again)) as worker:
            assert worker.wait(WAIT) == 0
        until(lambda: known(instance, stopped).is_finished, "the stopped run has not ended")
        pair, stopped = (known(instance, first), known(instance, second)), known(instance, stopped)
        events = instance.all_logs(first.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        lost = " ".join(event.message for event in events)
    environments = {name: ecs.environment(name) for name in ecs.definitions}
    kept = recorder.requests()
    return History(ecs.template, kept, environments, started, pair, stopped, lost)


def look(ecs: Ecs, stack: ExitStack) -> dg.DagsterInstance:
    """Dagster's records as the webserver has them, which is this process from now on."""
    text = (CHECKOUT / "deploy" / "ecs" / "dagster.yaml").read_text()
    for slow, fast in FASTER.items():
        assert slow in text
        text = text.replace(slow, fast)
    (ecs.folder / "dagster.yaml").write_text(text)
    point_to(ecs.here("webserver"), stack.enter_context(pytest.MonkeyPatch.context()))
    return stack.enter_context(dg.DagsterInstance.get())


def services(ecs: Ecs, stack: ExitStack) -> Iterator[Any]:
    """Code server and daemon, by the commands of the template with this machine's places."""
    port = free_port()
    workspace = (CHECKOUT / "deploy" / "ecs" / "workspace.yaml").read_text()
    (ecs.folder / "workspace.yaml").write_text(workspace.replace("port: 4000", f"port: {port}"))
    here = {
        "--module-name": "--python-file",
        "platform_assets.definitions": str(Path(__file__).with_name("ecs_location.py")),
        "0.0.0.0": "127.0.0.1",
        "4000": str(port),
    }
    server: list[str] = ecs.container("code-server")["command"]
    yield ecs.running("code-server", [here.get(word, word) for word in server])
    cluster = ecs.template.made["Cluster"]
    own = ecs.clients["ecs"].run_task(
        cluster=cluster,
        taskDefinition=ecs.template.made["DaemonTask"],
        launchType="FARGATE",
        networkConfiguration=network_of(ecs.template),
    )["tasks"][0]["taskArn"]
    url = stack.enter_context(metadata_of(own, cluster))
    daemon = ecs.container("daemon")["command"]
    command = [word.replace("/dagster/ecs", str(ecs.folder)) for word in daemon]
    yield ecs.running("daemon", command, ECS_CONTAINER_METADATA_URI_V4=url)


def network_of(template: Template) -> dict[str, Any]:
    """What the template says of the daemon's network, as ECS has it."""
    given = template.of_type("AWS::ECS::Service")["Daemon"]["NetworkConfiguration"]
    inside = given["AwsvpcConfiguration"].items()
    return {"awsvpcConfiguration": {name[0].lower() + name[1:]: one for name, one in inside}}


def job_of(task: Mapping[str, Any]) -> str:
    """The job of a task that was asked for."""
    return next(tag["value"] for tag in task["tags"] if tag["key"] == "dagster/job_name")


def command_of(task: Mapping[str, Any]) -> list[str]:
    """What a task that was asked for is to do."""
    return task["overrides"]["containerOverrides"][0]["command"]


def run_of(instance: dg.DagsterInstance, job: str, not_this: str = "") -> dg.DagsterRun:
    """The run of a job, once Dagster knows its task."""

    def find() -> dg.DagsterRun | None:
        runs = instance.get_runs(dg.RunsFilter(job_name=job))
        return next(
            (one for one in runs if "ecs/task_arn" in one.tags and one.run_id != not_this), None
        )

    until(lambda: find() is not None, f"{job} has no task")
    run = find()
    assert run is not None
    return run


def known(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """A run as it is now."""
    now = instance.get_run_by_id(run.run_id)
    assert now is not None
    return now
