"""What happens on ECS once the template is there: runs begin, one is lost, one is stopped.

Moto stands in for ECS and starts nothing. Daemon, code server and the runs' workers are real
processes with the environments and commands of the template; whatever they ask of AWS is kept.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import boto3
import dagster as dg
import pytest
import requests
from moto.backends import get_backend

from tests.aws_requests import AwsRequest, Recorder
from tests.conftest import CHECKOUT, clean_environ, point_to
from tests.deploy.conftest import REGION, moto_server
from tests.deploy.ecs_rig import PSEUDO, Template, environment_of
from tests.sagemaker_local.rig import free_port

BUCKET, SETTINGS_FILE = "digits-bucket", "settings/1.env"
SECRETS = {"ListingsSecret": "postgresql://reader:hush-listings@db:5432/market"}
# Of deploy/ecs/dagster.yaml, for a test that waits.
FASTER = {
    "poll_interval_seconds: 30": "poll_interval_seconds: 1",
    "cancel_timeout_seconds: 180": "cancel_timeout_seconds: 1",
}
WAIT = 240


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


@dataclass
class Ecs:
    """The account, and the containers that run in it.

    Attributes:
        url: Of the front.
        clients: Of whoever has set all of it up.
        template: With the values of this account.
        definitions: Container → its task definition.
        folder: Of files.
        asked: Parameters of each RunTask and StopTask, by operation, as they come.
    """

    url: str
    clients: dict[str, Any]
    template: Template
    definitions: dict[str, dict[str, Any]]
    folder: Path
    asked: Queue[tuple[str, dict[str, Any]]]

    def environment(self, container: str) -> dict[str, str]:
        """What Fargate gives a container."""
        (definition,) = self.definitions[container]["containerDefinitions"]
        return environment_of(definition, self.clients["s3"], self.clients["secretsmanager"])

    def here(self, container: str) -> dict[str, str]:
        """The same with this machine's addresses and paths, and keys that name the container."""
        return {
            **self.environment(container),
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": container,
            "AWS_SECRET_ACCESS_KEY": "x",
            "CODE_LOCATION_FILES": str(self.folder),
            "CODE_SERVER_HOST": "127.0.0.1",
            "DAGSTER_HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
        }

    @contextmanager
    def running(self, container: str, command: list[str], **more: str) -> Iterator[Any]:
        """A command in a container's environment, in a process group of its own."""
        with (self.folder / f"{container}.log").open("a") as log:
            process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=clean_environ(**self.here(container), **more),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(WAIT)

    def next(self, operation: str) -> dict[str, Any]:
        """The parameters of the next request, which has to be this one."""
        name, parameters = self.asked.get(timeout=WAIT)
        assert name == operation
        return parameters

    def lose(self, task: str) -> None:
        """ECS has found that a task's host is gone; moto itself says that all has gone well."""
        cluster = self.template.made["Cluster"]
        backend: Any = get_backend("ecs")[PSEUDO["AWS::AccountId"]][REGION]
        backend.tasks[cluster][task].containers[0].exitCode = 137
        reason = "Your Spot Task was interrupted."
        self.clients["ecs"].stop_task(cluster=cluster, task=task, reason=reason)


@contextmanager
def account(folder: Path, records: Mapping[str, str], recorder: Recorder) -> Iterator[Ecs]:
    """All that the template needs and makes, as far as moto has it.

    Args:
        folder: For files.
        records: The database of Dagster's records, by the variables of deploy/.
        recorder: Gets all that is asked.
    """
    asked: Queue[tuple[str, dict[str, Any]]] = Queue()

    def keep(request: BaseHTTPRequestHandler, body: bytes, status: int) -> None:
        recorder.keep(request, body, status)
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation in {"RunTask", "StopTask"}:
            asked.put((operation, json.loads(body)))

    with moto_server() as front:
        front.observe = keep
        # By itself moto has a task go on to its end with each look.
        slow = {"model_name": "ecs::task", "transition": {"progression": "manual", "times": 10**6}}
        path = f"{front.url}/moto-api/state-manager/set-transition"
        requests.post(path, json=slow, timeout=60).raise_for_status()
        session = boto3.session.Session("owner", "x", region_name=REGION)
        names = ("ec2", "ecs", "s3", "secretsmanager")
        # Past the front.
        clients: dict[str, Any] = {
            name: session.client(name, endpoint_url=front.upstream) for name in names
        }
        template = make_template(clients, records)
        definitions: dict[str, dict[str, Any]] = {}
        # Runs first: the daemon is told of their definition.
        for name in ("RunTask", "CodeServerTask", "WebserverTask", "DaemonTask"):
            definition = template.definition(name)
            (container,) = definition["containerDefinitions"]
            # Moto wants to know the memory of each container, too.
            sized = {**definition, "containerDefinitions": [{**container, "memory": 256}]}
            done = clients["ecs"].register_task_definition(**sized)["taskDefinition"]
            template.made[name] = done["taskDefinitionArn"]
            definitions[container["name"]] = definition
        yield Ecs(front.url, clients, template, definitions, folder, asked)


def make_template(clients: Mapping[str, Any], records: Mapping[str, str]) -> Template:
    """The template's parameters, after what they name is made, and its cluster."""
    vpc = clients["ec2"].create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    clients["ec2"].modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = clients["ec2"].create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = clients["ec2"].create_security_group(GroupName="g", Description="g", VpcId=vpc)
    here = {"LocationConstraint": REGION}
    clients["s3"].create_bucket(Bucket=BUCKET, CreateBucketConfiguration=here)
    settings = (CHECKOUT / "deploy" / "env.example").read_text()
    clients["s3"].put_object(Bucket=BUCKET, Key=SETTINGS_FILE, Body=settings.encode())
    user = {"username": records["POSTGRES_USER"], "password": records["POSTGRES_PASSWORD"]}
    secrets = {"RecordsSecret": json.dumps(user), **SECRETS}
    arns = {
        name: clients["secretsmanager"].create_secret(Name=name, SecretString=text)["ARN"]
        for name, text in secrets.items()
    }
    cluster = clients["ecs"].create_cluster(clusterName="platform-Cluster")["cluster"]
    given = {
        "ImageTag": "1",
        "VpcId": vpc,
        "Subnets": [subnet],
        "Bucket": BUCKET,
        "SettingsFile": SETTINGS_FILE,
        "PlatformPolicy": "arn:aws:iam::123456789012:policy/data-platform",
        "RecordsHost": records["DAGSTER_POSTGRES_HOST"],
        "RecordsPort": records["DAGSTER_POSTGRES_PORT"],
        "RecordsDatabase": records["POSTGRES_DB"],
        "UiClients": group["GroupId"],
        **arns,
    }
    made = {
        "Cluster": cluster["clusterName"],
        "SecurityGroup": group["GroupId"],
        "LogGroup": "/ecs/platform",
    }
    return Template(given, made)


@contextmanager
def metadata_of(task: str, cluster: str) -> Iterator[str]:
    """What a container may ask about its own task.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"Cluster": cluster, "TaskARN": task}).encode()
            self.send_response(200 if self.path == "/task" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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
            until(lambda: (ecs.folder / "begun").exists(), "the worker's start")
            os.killpg(worker.pid, signal.SIGKILL)
        ecs.lose(first.tags["ecs/task_arn"])
        again = ecs.next("RunTask")
        started["interrupted"].append(again)
        (ecs.folder / "go").touch()
        second = run_of(instance, "interrupted", not_this=first.run_id)
        with ecs.running("run", command_of(again)) as worker:
            assert worker.wait(WAIT) == 0
        until(lambda: known(instance, stopped).is_finished, "the stopped run's end")
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
    code = str(Path(__file__).with_name("ecs_location.py"))
    server = ["dagster", "api", "grpc", "--python-file", code, "--host", "127.0.0.1"]
    yield ecs.running("code-server", [*server, "--port", str(port)])
    cluster = ecs.template.made["Cluster"]
    own = ecs.clients["ecs"].run_task(
        cluster=cluster,
        taskDefinition=ecs.template.made["DaemonTask"],
        launchType="FARGATE",
        networkConfiguration=network_of(ecs.template),
    )["tasks"][0]["taskArn"]
    url = stack.enter_context(metadata_of(own, cluster))
    (daemon,) = ecs.definitions["daemon"]["containerDefinitions"]
    command = [word.replace("/dagster/ecs", str(ecs.folder)) for word in daemon["command"]]
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

    until(lambda: find() is not None, f"the task of {job}")
    run = find()
    assert run is not None
    return run


def known(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """A run as it is now."""
    now = instance.get_run_by_id(run.run_id)
    assert now is not None
    return now


def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)
