"""Keeping programs running by supervisord: its configuration, its start and its answers.

supervisord is one maintained process of pure Python that restarts with backoff, rotates logs, stops
whole process groups and answers over a private Unix socket. `programs` and `dagster_parts` define
the programs, `stack` starts them.
"""

import hashlib
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

from embedded.environments import from_shell, not_for
from embedded.errors import ServiceFailedError
from embedded.home import CODE_SERVER_SOCKET, CONTROL_SOCKET, Credentials, Home, write_private
from embedded.plan import Plan
from embedded.processes import MARK

_LOG_BYTES = 10 << 20
_LOG_COPIES = 2


@dataclass(frozen=True)
class Program:
    """One program to keep running.

    Attributes:
        name: In the supervisor, of its log file and in `environments.NEEDS`.
        command: Program and arguments; no secrets, since every user may read them.
        environment: Beyond what `environments.NEEDS` gives it.
        stop_signal: What asks it to end; after `stop_seconds` it is killed with its group.
        stop_group: Whether its children get that signal from the supervisor, too.
        priority: Lower ones are stopped later.
    """

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_signal: str = "TERM"
    stop_seconds: int = 8
    stop_group: bool = False
    priority: int = 500


@dataclass(frozen=True)
class State:
    """How a program is.

    Attributes:
        status: As the supervisor names it, such as RUNNING.
        pid: Its process, 0 where there is none.
        since: When it was started last, in seconds of the epoch.
        detail: Why it could not be started, if so.
    """

    status: str
    pid: int
    since: int
    detail: str

    @property
    def is_alive(self) -> bool:
        """Whether it has a process."""
        return self.status in {"STOPPING", "RUNNING", "STARTING"}

    @property
    def given_up(self) -> bool:
        """Whether the supervisor will not start it again by itself."""
        return self.status in {"FATAL", "EXITED", "UNKNOWN"}


def fingerprint(plan: Plan, programs: Iterable[Program]) -> str:
    """Changes with anything that a running stack would have to be restarted for."""
    environment = _environment(plan)
    content = [_configuration(plan, programs, environment), *sorted(environment.items())]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def start_supervisor(plan: Plan, programs: Iterable[Program]) -> None:
    """Start supervisord in the background with all programs known and none running.

    Raises:
        ServiceFailedError: It did not start; in its own words.
    """
    programs = list(programs)
    configuration = _configuration_file(plan)
    environment = from_shell(os.environ) | _environment(plan)
    plan.home.sockets(plan.credentials.stack_id).mkdir(mode=0o700, exist_ok=True)
    write_private(configuration, _configuration(plan, programs, environment))
    # It leaves for the background once its socket is open, so returning means that it answers.
    started = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        env=environment,
        cwd=plan.home.run,
        umask=0o077,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode:
        words = (started.stderr or started.stdout).strip().splitlines() or ["it said nothing"]
        raise ServiceFailedError(f"The supervisor did not start: {words[0]}")
    write_private(plan.home.run / "fingerprint", fingerprint(plan, programs))


def runs_as_planned(plan: Plan, programs: Iterable[Program]) -> bool:
    """Whether the supervisor answers and was started with just this plan."""
    try:
        kept = (plan.home.run / "fingerprint").read_text()
    except OSError:
        return False
    return kept == fingerprint(plan, programs) and Control(plan.home, plan.credentials).answers()


def forget(home: Home, credentials: Credentials) -> None:
    """Remove what a supervisor that is gone may have left."""
    for name in ("supervisord.pid", "fingerprint"):
        (home.run / name).unlink(missing_ok=True)
    sockets = home.sockets(credentials.stack_id)
    for name in (CONTROL_SOCKET, CODE_SERVER_SOCKET):
        (sockets / name).unlink(missing_ok=True)
    if sockets != home.run and sockets.exists():
        sockets.rmdir()


class Control:
    """The running supervisor, asked over its socket."""

    def __init__(self, home: Home, credentials: Credentials) -> None:
        """Nothing is asked yet. Not for more than one thread."""
        address = f"unix://{home.sockets(credentials.stack_id) / CONTROL_SOCKET}"
        transport = SupervisorTransport("platform", credentials.control_password, address)
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        self._supervisor: Any = proxy.supervisor

    def answers(self) -> bool:
        """Whether a supervisor is there and takes our password."""
        return self._ask("getState") is not None

    def states(self) -> dict[str, State]:
        """The state of each program; empty where no supervisor answers."""
        answer = cast("list[dict[str, Any]] | None", self._ask("getAllProcessInfo")) or []
        return {
            str(info["name"]): State(
                str(info["statename"]), int(info["pid"]), int(info["start"]), str(info["spawnerr"])
            )
            for info in answer
        }

    def start(self, name: str) -> None:
        """Start a program unless it is starting or running; does not wait for it."""
        self._ask("startProcess", name, False)

    def stop(self, names: Sequence[str]) -> None:
        """Stop programs, all at once, and wait until they are gone or were killed."""
        for name in names:
            self._ask("stopProcess", name, False)
        while any(state.is_alive for name, state in self.states().items() if name in names):
            time.sleep(0.1)

    def shut_down(self) -> None:
        """End the supervisor itself and wait until it is gone."""
        self._ask("shutdown")
        while self.answers():  # each question also wakes it from its sleep of a second
            time.sleep(0.05)

    def _ask(self, method: str, *arguments: object) -> object | None:
        try:
            return getattr(self._supervisor, method)(*arguments)
        except (OSError, HTTPException, xmlrpc.client.Error):
            return None


def _environment(plan: Plan) -> dict[str, str]:
    """What there is beyond the user's own environment."""
    return {
        **plan.environment,
        MARK: plan.credentials.stack_id,
        # Threads of short lives otherwise keep an arena each: a third of Dagster's memory.
        "MALLOC_ARENA_MAX": "2",
        "PYTHONUNBUFFERED": "1",
    }


def _configuration_file(plan: Plan) -> Path:
    return plan.home.run / "supervisord.conf"


def _configuration(plan: Plan, programs: Iterable[Program], environment: Mapping[str, str]) -> str:
    # Paths are relative to the folder `run`: supervisord expands a per cent sign in a path twice.
    sections = {
        "unix_http_server": {
            "file": plan.home.sockets(plan.credentials.stack_id) / CONTROL_SOCKET,
            "chmod": "0600",
            "username": "platform",
            "password": plan.credentials.control_password,
        },
        "supervisord": {
            "pidfile": "supervisord.pid",
            "logfile": "../logs/supervisord.log",
            "logfile_maxbytes": _LOG_BYTES,
            "logfile_backups": _LOG_COPIES,
            "umask": "077",
            "nocleanup": "true",
            # Said aloud, or it warns.
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    } | {f"program:{program.name}": _program_section(program, environment) for program in programs}
    return "\n".join(
        f"[{title}]\n" + "".join(f"{name} = {_escaped(value)}\n" for name, value in section.items())
        for title, section in sections.items()
    )


def _program_section(program: Program, environment: Mapping[str, str]) -> dict[str, object]:
    own = ",".join(f'{name}="{value}"' for name, value in program.environment.items())
    # The supervisor passes on all that it has. Names are no secrets: they may stand in a command.
    without = [part for name in not_for(program.name, environment) for part in ("-u", name)]
    return {
        "command": shlex.join(["env", *without, *(str(part) for part in program.command)]),
        "environment": own,
        "priority": program.priority,
        "autostart": "false",
        "autorestart": "true",
        "startsecs": 1,
        # The pause grows by a second each time.
        "startretries": 3,
        "stopsignal": program.stop_signal,
        "stopwaitsecs": program.stop_seconds,
        # A run under way is told too, so that it can end in good order.
        "stopasgroup": str(program.stop_group).lower(),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": f"../logs/{program.name}.log",
        "stdout_logfile_maxbytes": _LOG_BYTES,
        "stdout_logfile_backups": _LOG_COPIES,
    }


def _escaped(value: object) -> str:
    """A per cent sign starts an expansion in supervisor's files."""
    return str(value).replace("%", "%%")
