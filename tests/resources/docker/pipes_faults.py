"""A module that misbehaves on demand; run in containers and child processes by the tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dagster_pipes import PipesContext, open_dagster_pipes


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def large_message(pipes: PipesContext) -> None:
    pipes.report_custom_message({"text": "ä\n" * pipes.get_extra("characters")})


def interleaved(pipes: PipesContext) -> None:
    """Messages larger than a log entry, while long lines go to the other stream."""
    for number in range(20):
        sys.stdout.write("x" * 40_000 + "\n")
        sys.stdout.flush()
        pipes.report_custom_message({"number": number, "text": "y" * 40_000})


def extras(pipes: PipesContext) -> None:
    pipes.report_custom_message(dict(pipes.extras))


def environment(pipes: PipesContext) -> None:
    import boto3

    credentials = boto3.Session().get_credentials()
    frozen = credentials.get_frozen_credentials() if credentials else None
    pipes.report_custom_message(
        {
            "environment": dict(os.environ),
            "initial": Path("/proc/self/environ").read_bytes().decode().split("\0"),
            "command": Path("/proc/self/cmdline").read_bytes().decode().split("\0"),
            "credentials": list(frozen)[:3] if frozen else None,
            "user": os.getuid(),
        }
    )


def renewal(pipes: PipesContext) -> None:
    """The credentials that come by while the module lives on, until there are three.

    And which variables have changed meanwhile.
    """
    import boto3

    before = dict(os.environ)
    credentials = boto3.Session().get_credentials()
    sets: list[list[str | None]] = []
    while len(sets) < 3:
        frozen = credentials.get_frozen_credentials() if credentials else None
        current = [frozen.access_key, frozen.secret_key, frozen.token] if frozen else []
        if current not in sets:
            sets.append(current)
        time.sleep(0.05)
    changed = [name for name, value in os.environ.items() if before.get(name) != value]
    pipes.report_custom_message({"sets": sets, "changed": changed})


def trust(pipes: PipesContext) -> None:
    pipes.report_custom_message({"bundle": Path(os.environ["AWS_CA_BUNDLE"]).read_text()})


def walls(pipes: PipesContext) -> None:
    """What a container lets its module do."""
    try:
        Path("/app/written").write_text("x")
        writable = True
    except OSError:
        writable = False
    Path("/tmp/scratch").write_text("x")
    status = Path("/proc/self/status").read_text()
    pipes.report_custom_message({"writable": writable, "status": status})


def crash(pipes: PipesContext) -> None:
    pipes.report_custom_message({"before": "the crash"})
    say("about to crash")
    os._exit(3)


def killed(pipes: PipesContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(pipes: PipesContext) -> None:
    pipes.report_custom_message({"before": "memory ran out"})
    say("taking memory")
    held = []
    while True:
        held.append(bytearray(8 << 20))
        time.sleep(0.01)


def hang(pipes: PipesContext) -> None:
    pipes.report_custom_message({"pid": os.getpid()})
    say("hanging")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def leave_something_behind(pipes: PipesContext) -> None:
    child = subprocess.Popen(["sleep", "600"])
    pipes.report_custom_message({"pid": child.pid})


def garbage(pipes: PipesContext) -> None:
    """Lines that look like messages and are none, and bytes that are no text."""
    say('{"__dagster_pipes_version": "0.1", "method": "')
    say('{"__dagster_pipes_version": "0.1"}')
    say("{}")
    sys.stdout.buffer.write(b"\xff\xfe\n")
    sys.stdout.flush()
    pipes.report_custom_message({"after": "garbage"})


if __name__ == "__main__":
    with open_dagster_pipes() as context:
        globals()[sys.argv[1]](context)
