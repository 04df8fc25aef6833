"""Notes each kind of request that a process sends to AWS by botocore, and whose code asks for it.

A run of tests links it, and `recorder_sitecustomize.py`, into a folder on the PYTHONPATH of all
that it starts, in which the lines are put, too. `tests/iam_coverage.py` judges them. obstore's
requests do not pass botocore: `tests/deploy/test_requests.py` has them from the wire.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from traceback import walk_stack
from typing import Any

import botocore

HERE = Path(__file__).parent
CHECKOUT = Path(__file__).resolve().parent.parent
# Folder or package → whose code it is.
OWNERS = {
    "platform_assets": "platform",
    "jobs": "platform",
    "monitoring": "platform",
    "metrics": "platform",
    "webserver": "platform",
    "dagster_aws": "platform",
    "api": "api",
    "deploy": "operator",
    "chalice": "operator",
    "tests": "tests",
    "benchmarks": "tests",
    "embedded": "embedded",
    "sagemaker_local": "embedded",
    # Theirs ask for others.
    "resources": "resources",
    "numbercruncher": "resources",
}
# What differs from test to test: dates and digests, numbers of jobs and accounts.
LOOSE = re.compile(r"\d{4}-\d\d-\d\d|[0-9a-f]{8,}|\d{4,}")
SETTINGS = ("BUCKET", "AIRBNB_BUCKET", "ENDPOINT_NAME", "MNIST_SOURCE", "SAGEMAKER_ROLE_ARN")


def record(folder: Path) -> None:
    """Note what sessions of botocore send that are made from now on, in files of the folder."""
    known: set[str] = set()

    def watch(session: Any) -> None:
        with errors_noted(folder):
            session.register("before-parameter-build", partial(_begin, folder, sender()))
            session.register("after-call", partial(_end, folder, known))

    botocore.register_initializer(watch)


@contextmanager
def errors_noted(folder: Path) -> Iterator[None]:
    """Whatever fails is put down in the folder, if it can be: it is no matter of who asks AWS."""
    try:
        yield
    except Exception as error:
        with suppress(OSError), (folder / "errors").open("a") as file:
            file.write(f"A request is not noted: {error!r}\n")


def sender(maker: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """Whose code is being called, and which file and function.

    The nearest owner counts; but what tests ask for by a resource is `resources`, and what the
    platform asks for by a component of pipelines is `pipelines`. It is empty for foreign code.

    Args:
        maker: Counts where no owner is on the stack, as in a thread: who made the session.
    """
    owner = place = through = ""
    for frame, _ in walk_stack(None):
        one, file = _owner(frame.f_code.co_filename)
        if not one:
            continue
        where = f"{file} {frame.f_code.co_name}"
        if one == "resources":
            through = through or where
        elif one == "platform" and "/components/" in file:
            return "pipelines", place or where
        elif not owner:
            owner, place = one, where
            if one != "platform":
                break
    if not owner:
        owner, place = maker[0], f"others' code, in a session of {maker[1] or through}"
    return ("resources" if through and owner in {"", "tests"} else owner), place


@cache
def _owner(file: str) -> tuple[str, str]:
    """Whose file it is, and its path from the folder or the package on; empty for foreign ones."""
    _, _, path = file.partition("/site-packages/")
    if not path and file != __file__ and file.startswith(f"{CHECKOUT}/"):
        path = file.removeprefix(f"{CHECKOUT}/")
    return OWNERS.get(path.split("/")[0], ""), path


def _begin(
    folder: Path, maker: tuple[str, str], params: Any, context: dict[str, Any], **_: object
) -> None:
    with errors_noted(folder):
        context["sent"] = sender(maker), params


def _end(
    folder: Path,
    known: set[str],
    model: Any,
    http_response: Any,
    context: dict[str, Any],
    **_: object,
) -> None:
    with errors_noted(folder):
        if "sent" in context:
            names = model.service_model.service_name, model.name
            _note(folder, known, context["sent"], names, http_response.status_code)


def _note(
    folder: Path,
    known: set[str],
    sent: tuple[tuple[str, str], Any],
    names: tuple[str, str],
    status: int,
) -> None:
    (owner, place), params = sent
    settings = {name: os.environ.get(f"PLATFORM_{name}", "") for name in SETTINGS}
    if names[0] == "s3" and place.startswith("others") and "dagster_aws/" not in place:
        # Stores share their clients with tests, whose large objects threads of boto3 transfer.
        owner = "resources" if owner in {"platform", "pipelines"} else owner
    # Without the contents of objects.
    text = json.dumps([owner, *names, status, params, settings], default=lambda _: "")
    if (kept := LOOSE.sub("", text)) in known:
        return
    known.add(kept)
    line = f"{text[:-1]}, {json.dumps([place, os.environ.get('PYTEST_CURRENT_TEST', '')])[1:]}\n"
    with (folder / f"{os.getpid()}.jsonl").open("ab", buffering=0) as file:
        # At once: no line is half there, whatever becomes of the process.
        file.write(line.encode())
