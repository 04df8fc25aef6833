"""The command of an image that trains in tests of AWS's contract: does what `do` says, a parameter.

It imports nothing of the project.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def describe() -> None:
    """Writes its arguments, environment, configuration and data into the model."""
    config = BASE / "input" / "config"
    data = BASE / "input" / "data"
    seen = {
        "arguments": sys.argv[1:],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "config": {path.stem: json.loads(path.read_text()) for path in config.iterdir()},
        "data": {
            str(path.relative_to(data)): path.read_text()
            for path in sorted(data.rglob("*"))
            if path.is_file()
        },
    }
    host = seen["config"]["resourceconfig"]["current_host"]
    (BASE / "model" / f"{host}.json").write_text(json.dumps(seen))
    (BASE / "model" / "same.txt").write_text(host)
    (BASE / "output" / "data" / f"{host}.txt").write_text("beside the model")
    print("to standard output\nloss=0.5; accuracy=0.75;")
    print("to standard error", file=sys.stderr)


def fail() -> None:
    """Fails with a reason that is longer than what is shown."""
    (BASE / "output" / "failure").write_text("the moon is full, " * 100)
    sys.exit(3)


def leave() -> None:
    """Fails without a reason."""
    sys.exit(4)


def save() -> None:
    """Saves a model when it is asked to stop."""

    def stopped(*_: object) -> None:
        (BASE / "model" / "half.txt").write_text("half a model")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stopped)
    wait()


def stubborn() -> None:
    """Ignores SIGTERM, and starts two processes, one of them in a session of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for new_session in (False, True):
        child = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE, start_new_session=new_session)
        assert child.stdout is not None
        child.stdout.readline()
        print(f"child={child.pid};", flush=True)
    wait()


def orphans() -> None:
    """Ends, and leaves a process running in a session of its own."""
    # The shell that starts it ends at once, so that it has no parent in the job.
    child = subprocess.run(
        ["sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!"],
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    print(f"child={child.stdout.strip()};", flush=True)


def talk() -> None:
    """Writes 100 MB: one line of 50 MB, then many short ones."""
    sys.stdout.write("x" * 50_000_000 + "\n")
    for _ in range(500):
        sys.stdout.write(("y" * 99 + "\n") * 1000)
    print("loss=0.25;")


def link() -> None:
    """Puts a link to a file outside of the model into it."""
    (BASE / "model" / "passwd").symlink_to("/etc/passwd")


def link_inside() -> None:
    """Puts a link to a folder of the model into it."""
    (BASE / "model" / "checkpoint-3").mkdir()
    (BASE / "model" / "checkpoint-3" / "weights.txt").write_text("3")
    (BASE / "model" / "latest").symlink_to("checkpoint-3")


def eat() -> None:
    """Takes memory in a child process."""
    child = "import time; block = bytearray(300_000_000); time.sleep(600)"
    subprocess.run([sys.executable, "-c", child], check=True)


def reach() -> None:
    """Writes into the model what answers: S3, and a port of the machine at two addresses."""
    port = PARAMETERS["port"]
    s3 = os.environ["AWS_ENDPOINT_URL_S3"]
    outcome = {
        "s3": status(s3),
        "loopback": status(f"http://127.0.0.1:{port}/healthz"),
        "gateway": status(f"http://{urlsplit(s3).hostname}:{port}/healthz"),
        "credentials": Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]).read_text(),
    }
    (BASE / "model" / "reach.json").write_text(json.dumps(outcome))


def status(url: str) -> int | None:
    """The status of the answer; None if there is none."""
    try:
        with urlopen(url, timeout=30) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
    except OSError:
        return None


def alone() -> None:
    """Writes its network interfaces into the model."""
    interfaces = [path.name for path in Path("/sys/class/net").iterdir()]
    (BASE / "model" / "interfaces.json").write_text(json.dumps(interfaces))


def wait() -> None:
    """Waits longer than any test."""
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    PARAMETERS = json.loads((BASE / "input" / "config" / "hyperparameters.json").read_text())
    globals()[PARAMETERS["do"]]()
