"""Dagster as part of the stack: its instance, one code server, the webserver and the daemon.

The other programs are in `programs`; production's configuration is in `deploy/`.
"""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from embedded.errors import ServiceFailedError
from embedded.graphql import LOCATION, Dagster
from embedded.home import CHECKOUT, CODE_SERVER_SOCKET, write_private
from embedded.plan import Plan
from embedded.ports import HOST, require_listener
from embedded.programs import NeverReadyError, Part
from embedded.supervision import Program

# Dagster's records are in SQLite, in DAGSTER_HOME, and not in the embedded Postgres: a run that
# finds Postgres down can then still be recorded as failed. Measured with 8 writing processes on 2
# cores it did 2.3 times as many runs a second as Postgres, and lost nothing of what was
# acknowledged under kill -9 either.
_INSTANCE = """\
# Written by `make up`; changes are lost.
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
concurrency:
  runs:
    # A run takes some 300 MB.
    max_concurrent_runs: 2
  pools:
    # Of two equal trainings the second finds the first one's model.
    default_limit: 1
run_launcher:
  module: dagster
  class: DefaultRunLauncher
run_monitoring:
  enabled: true
  start_timeout_seconds: 120
  cancel_timeout_seconds: 60
  poll_interval_seconds: 15
  # A run that was started from a shell and killed there is noticed by nothing else.
  max_runtime_seconds: 21600
  # A run whose process is killed keeps its places in the pools; all later runs would wait.
  free_slots_after_run_end_seconds: 5
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days: 7
  auto_materialize:
    purge_after_days: 7
"""

_WORKSPACE = """\
# Written by `make up`; changes are lost.
load_from:
  - grpc_server:
      socket: {socket}
      location_name: {location}
"""

_LOCATION_QUERY = """query { workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError {
    __typename ... on PythonError { className message } } } } } }"""
_UNREACHABLE = "DagsterUserCodeUnreachableError"
_RELOAD = """mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) {
  __typename } }"""
_RUNS_IN_PROGRESS = """query { runsOrError(filter: {statuses: [STARTING, STARTED, CANCELING]}) {
  ... on Runs { results { runId updateTime } } } }"""
_DAEMON_QUERY = """query { instance { daemonHealth {
  daemonStatus(daemonType: "QUEUED_RUN_COORDINATOR") { healthy lastHeartbeatTime } } } }"""


def write_instance(plan: Plan) -> None:
    """Write DAGSTER_HOME's dagster.yaml and the workspace that points to the code server.

    Raises:
        ServiceFailedError: Dagster's records cannot be made.
    """
    write_private(plan.home.dagster / "dagster.yaml", _INSTANCE)
    # As JSON, which YAML takes: any path is a string.
    quoted = json.dumps(str(_socket_file(plan)))
    workspace = _WORKSPACE.format(socket=quoted, location=LOCATION)
    write_private(_workspace_file(plan), workspace)
    # Two processes that create the tables at the same time damage them.
    marker = plan.home.dagster / ".made"
    if not marker.exists():
        _run_dagster_records(plan)
        marker.touch(mode=0o600)


def ui_url(plan: Plan) -> str:
    """Where a browser finds Dagster's UI."""
    return plan.environment["PLATFORM_UI_URL"]


def dagster_parts(plan: Plan) -> list[Part]:
    """Code server, webserver and daemon; they start side by side, since all import for seconds."""
    return [_code_server(plan), _webserver(plan), _daemon(plan)]


def _code_server(plan: Plan) -> Part:
    def ready() -> None:
        # Not whether the file is there: a killed server leaves it behind.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(_socket_file(plan)))

    return Part(
        program=Program(
            name="code-server",
            command=[
                *(sys.executable, "-m", "dagster", "code-server", "start"),
                *("--module-name", LOCATION, "--working-directory", CHECKOUT),
                *("--socket", _socket_file(plan)),
                *("--location-name", LOCATION, "--use-python-environment-entry-point"),
                *("--max-workers", "8", "--log-level", "warning"),
            ],
            stop_group=True,
            priority=300,
        ),
        title="Dagster's code server",
        ports={},
        ready=ready,
        prepare=lambda: write_instance(plan),
    )


def _webserver(plan: Plan) -> Part:
    def ready() -> None:
        require_listener(plan.ports.ui)
        _require_location(plan)

    return Part(
        program=Program(
            name="webserver",
            command=[
                *(sys.executable, "-m", "webserver", "--workspace", _workspace_file(plan)),
                *("--host", HOST, "--port", str(plan.ports.ui)),
            ],
            priority=400,
        ),
        title="Dagster's UI",
        ports={"Dagster's UI": plan.ports.ui},
        ready=ready,
        after=("code-server",),
    )


def _daemon(plan: Plan) -> Part:
    started = time.time()

    def ready() -> None:
        answer = _dagster(plan).query(_DAEMON_QUERY)["instance"]["daemonHealth"]["daemonStatus"]
        if not answer["healthy"] or (answer["lastHeartbeatTime"] or 0) < started - 30:
            raise ConnectionError("it has sent no heartbeat yet")

    return Part(
        program=Program(
            name="daemon",
            command=[
                *(Path(sysconfig.get_path("scripts")) / "dagster-daemon", "run"),
                *("--workspace", _workspace_file(plan)),
            ],
            # Or it gives a backfill up at the sight of a code server that is being started again.
            environment={"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"},
            priority=400,
        ),
        title="Dagster's daemon",
        ports={},
        ready=ready,
        after=("webserver",),
        settle=lambda: _end_lost_runs(plan, started),
    )


def _end_lost_runs(plan: Plan, started: float) -> None:
    """Mark runs as failed that were killed with the stack; they would block the queue."""
    runs = _dagster(plan).query(_RUNS_IN_PROGRESS)["runsOrError"]["results"]
    lost = [run["runId"] for run in runs if (run["updateTime"] or 0) < started]
    if lost:
        _run_dagster_records(plan, *lost)


def _run_dagster_records(plan: Plan, *lost: str) -> None:
    """Run `embedded.dagster_records`, since importing Dagster here takes longer than all else."""
    done = subprocess.run(
        [sys.executable, "-m", "embedded.dagster_records", *lost],
        env=os.environ | {"DAGSTER_HOME": str(plan.home.dagster)},
        cwd=CHECKOUT,
        umask=0o077,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["it said nothing"]
        raise ServiceFailedError(
            f"Dagster's records in {plan.home.dagster} cannot be used: {words[-1]}"
        )


def _require_location(plan: Plan) -> None:
    """Whether the UI answers and shows the platform.

    Raises:
        NeverReadyError: The platform's definitions do not load.
    """
    entry = _location_entry(plan)
    if entry["locationOrLoadError"]["__typename"] != "PythonError":
        return
    # To reload the code would start a second process that imports all of it.
    if entry["locationOrLoadError"]["className"] == _UNREACHABLE:
        raise ConnectionError("it asked before the code server was there, and will ask again")
    # The code may have been mended.
    _dagster(plan).query(_RELOAD, name=LOCATION)
    location = _location_entry(plan)["locationOrLoadError"]
    if location["__typename"] == "PythonError":
        words = location["message"].strip().splitlines() or [""]
        raise NeverReadyError(
            f"the platform's definitions do not load: {words[-1]} "
            f"(all of it is in {plan.home.logs / 'code-server.log'})"
        )


def _location_entry(plan: Plan) -> dict[str, Any]:
    entries = _dagster(plan).query(_LOCATION_QUERY)["workspaceOrError"]["locationEntries"]
    if not entries or entries[0]["loadStatus"] != "LOADED" or not entries[0]["locationOrLoadError"]:
        raise ConnectionError("the code location is still loading")
    return entries[0]


def _dagster(plan: Plan) -> Dagster:
    return Dagster(ui_url(plan))


def _socket_file(plan: Plan) -> Path:
    return plan.home.sockets(plan.credentials.stack_id) / CODE_SERVER_SOCKET


def _workspace_file(plan: Plan) -> Path:
    return plan.home.run / "workspace.yaml"
