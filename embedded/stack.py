"""Starts and stops the stack as a whole, and tells how it is; prints nothing.

`cli` calls `up`, `down` and `status` for people, tests call them for themselves. `programs` and
`dagster_parts` say which programs there are, `supervision` keeps them running.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from embedded import plan as planning
from embedded import ports as port_plan
from embedded import postgres, processes, supervision
from embedded.dagster_parts import dagster_parts
from embedded.errors import ConfigurationError, ServiceFailedError
from embedded.home import Credentials, Home
from embedded.plan import Plan
from embedded.programs import SERVICES, NeverReadyError, Part, api_part, metrics_part, services
from embedded.supervision import Control, State
from formats import postgres_dsn

_READY_SECONDS = 120.0  # that one part may take
_LOG_LINES = 15


@dataclass(frozen=True)
class Running:
    """A stack that is up.

    Attributes:
        started: False when all of it ran already.
        seconds: How long `up` took.
    """

    plan: Plan
    started: bool
    seconds: float

    @property
    def env(self) -> dict[str, str]:
        """A copy that the caller may change."""
        return dict(self.plan.environment)


def urls(environment: Mapping[str, str]) -> dict[str, str]:
    """What answers where, by title; passwords left out.

    Args:
        environment: As in the env file, which may be an earlier release's and lack some.
    """
    places = {
        "Dagster's UI": environment.get("PLATFORM_UI_URL"),
        "Digit page": environment.get("PLATFORM_PAGE_URL"),
        "Metrics": environment.get("PLATFORM_METRICS_URL"),
        "S3": environment.get("AWS_ENDPOINT_URL_S3"),
        "SageMaker": environment.get("AWS_ENDPOINT_URL_SAGEMAKER"),
    }
    if dsn := environment.get("PLATFORM_POSTGRES_DSN"):
        places["Postgres"] = shown_dsn(dsn)
    return {title: url for title, url in places.items() if url}


def all_parts(plan: Plan) -> list[Part]:
    """Everything that `make up` starts."""
    return [*services(plan), *dagster_parts(plan), api_part(plan), metrics_part(plan)]


def _silent(_line: str) -> None:
    pass


def up(
    plan: Plan,
    parts: Sequence[Part] | None = None,
    *,
    say: Callable[[str], None] = _silent,
) -> Running:
    """Start what does not run, wait until all of it works, and write the env file.

    Args:
        parts: In the place of all of them.
        say: Gets a line for each step, for people.

    Raises:
        StackError: One sentence about what is in the way and what to do.
    """
    started_at = time.monotonic()
    parts = all_parts(plan) if parts is None else parts
    with plan.home.locked(say):
        started = not supervision.runs_as_planned(plan, [part.program for part in parts])
        if started:
            _settle_ports(plan, say)
            _stop(plan.home, plan.credentials)
            _prepare(plan, parts)
            supervision.start_supervisor(plan, [part.program for part in parts])
        try:
            _bring_up(plan, parts, say)
            for part in parts if started else ():
                part.settle()
        except BaseException:
            if started:
                _stop(plan.home, plan.credentials)
            raise
        planning.write_env_file(plan)
    return Running(plan, started, time.monotonic() - started_at)


def down(home: Home, *, say: Callable[[str], None] = _silent) -> int:
    """Stop everything of this home, whoever started it and in whatever state it is.

    Returns:
        How many processes had to be ended.
    """
    if not home.was_started:
        return 0
    with home.locked(say):
        return _stop(home, home.credentials())


def status(home: Home) -> dict[str, tuple[State, int]]:
    """How each program of a running stack is, and its memory with that of its children.

    Returns:
        By program; empty where no supervisor answers. Memory in bytes, shared pages counted in
        proportion where the system tells.
    """
    if not home.was_started:
        return {}
    states = Control(home, home.credentials()).states()
    return {name: (state, processes.memory(state.pid)) for name, state in states.items()}


def _stop(home: Home, credentials: Credentials) -> int:
    data = home.postgres_data
    alive = processes.of_stack(credentials.stack_id, data)
    control = Control(home, credentials)
    if control.answers():
        # The services last: what ends in good order has something to say to them.
        control.stop([name for name in control.states() if name not in SERVICES])
        control.stop(SERVICES)
        control.shut_down()
    processes.end_all(credentials.stack_id, data)
    postgres.forget_stale_pid(data)
    supervision.forget(home, credentials)
    return len(alive)


def _settle_ports(plan: Plan, say: Callable[[str], None]) -> None:
    """Say that the stack comes up on other ports than last time; refuse while it runs.

    Clients hold the old URLs, and pages in a browser would just stop to answer.
    """
    kept = planning.kept_port_base(plan.home)
    if kept is None or kept == plan.port_base:
        return
    before = port_plan.choose(kept)
    moved = f"Dagster's UI from port {before.ui} to {plan.ports.ui}, and all others with it"
    if Control(plan.home, plan.credentials).answers():
        raise ConfigurationError(
            f"PLATFORM_PORT_BASE={plan.port_base} would move {moved}, while the stack of "
            f"{plan.home.root} runs: unset it to leave the ports as they are, or `make down` "
            f"first, then `PLATFORM_PORT_BASE={plan.port_base} make up`."
        )
    say(f"The ports of {plan.home.root} move: {moved}")


def shown_dsn(dsn: str) -> str:
    """Where a database is, without user and password."""
    try:
        place = postgres_dsn.target(dsn)
    except postgres_dsn.DsnError as error:
        return f"PLATFORM_POSTGRES_DSN is wrong. {error}"
    return place if place.startswith("service ") else f"postgresql://{place}"


def _prepare(plan: Plan, parts: Sequence[Part]) -> None:
    """Everything that can be found out, or has to be there, before programs are started."""
    plan.home.require_space()
    for part in parts:
        port_plan.require_free(part.ports)
    with ThreadPoolExecutor() as pool:
        for prepared in [pool.submit(part.prepare) for part in parts]:
            prepared.result()


def _bring_up(plan: Plan, parts: Sequence[Part], say: Callable[[str], None]) -> None:
    """Start all parts and wait until each is ready."""
    started_at = time.monotonic()
    failed = Event()
    control = Control(plan.home, plan.credentials)
    for part in parts:
        control.start(part.name)

    def bring_up(part: Part, before: Sequence[Future[None]]) -> None:
        try:
            for earlier in before:
                earlier.result()
            _wait_until_ready(plan, part, failed)
        except BaseException:
            failed.set()
            raise
        say(f"{part.title} is ready after {time.monotonic() - started_at:.1f} s")

    futures: dict[str, Future[None]] = {}
    try:
        with ThreadPoolExecutor(len(parts) or 1) as pool:
            for part in parts:
                before = [futures[name] for name in part.after if name in futures]
                futures[part.name] = pool.submit(bring_up, part, before)
    except BaseException:  # Ctrl-C: the others need not go on waiting
        failed.set()
        raise
    failures = [error for future in futures.values() if (error := future.exception())]
    for error in failures:
        if not isinstance(error, _GivenUpError):
            raise error


def _wait_until_ready(plan: Plan, part: Part, failed: Event) -> None:
    control = Control(plan.home, plan.credentials)
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            part.ready()
        except NeverReadyError as error:
            raise ServiceFailedError(f"{part.title} is up, but {error}") from error
        except Exception as error:
            reason = error
        else:
            return
        if failed.is_set():
            raise _GivenUpError
        state = control.states().get(part.name)
        if state is None or state.given_up or time.monotonic() > deadline:
            raise ServiceFailedError(_failure_message(plan, part, state, reason)) from reason
        time.sleep(0.1)


def _failure_message(plan: Plan, part: Part, state: State | None, reason: Exception) -> str:
    log = plan.home.logs / f"{part.name}.log"
    if plan.home.is_full():
        happened = f"the disk of {plan.home.root} is full, so free some space first"
    elif state is None:
        happened = "the supervisor does not answer"
    elif state.given_up:
        happened = state.detail or "it ended again and again"
    else:
        happened = f"it runs, but does not answer ({' '.join(str(reason).split())})"
    return f"{part.title} did not come up: {happened}. The end of {log}:\n{_tail(log)}"


def _tail(log: Path) -> str:
    try:
        with log.open(errors="replace") as file:
            return "".join(deque(file, _LOG_LINES)).rstrip() or "(empty)"
    except OSError:
        return "(there is none)"


class _GivenUpError(Exception):
    """Waiting for this part ended, since another part has failed."""
