"""The command of an image in tests of processing jobs: does what its first argument says.

It imports nothing of the project.
"""

import json
import os
import sys
import time
from pathlib import Path

BASE = Path(os.environ["SAGEMAKER_BASE_DIR"])
OUT = BASE / "processing" / "out"


def describe() -> None:
    """Writes its arguments, environment, configuration and data into its output."""
    data = BASE / "processing" / "in"
    config = BASE / "config"
    seen = {
        "arguments": sys.argv[2:],
        "environment": dict(os.environ),
        "config": {path.stem: json.loads(path.read_text()) for path in config.iterdir()},
        "data": {
            str(path.relative_to(data)): path.read_text()
            for path in sorted(data.rglob("*"))
            if path.is_file()
        },
    }
    host = seen["config"]["resourceconfig"]["current_host"]
    (OUT / "deep").mkdir()
    (OUT / "deep" / f"{host}.json").write_text(json.dumps(seen))
    (BASE / "output" / "message").write_text(f"described {host}")
    print("to standard output")
    print("to standard error", file=sys.stderr)


def fail() -> None:
    """Fails with half an output and a message that is longer than what is shown."""
    (OUT / "half.txt").write_text("half")
    (BASE / "output" / "message").write_text("the moon is full, " * 100)
    sys.exit(3)


def link() -> None:
    """Puts a link to a file outside of the output into it."""
    (OUT / "passwd").symlink_to("/etc/passwd")


def wait() -> None:
    """Waits longer than any test, with half an output."""
    (OUT / "half.txt").write_text("half")
    print(f"pid {os.getpid()}", flush=True)
    time.sleep(600)


def work() -> None:
    """Notes down that it began, where a file for that is named, and copies its input slowly."""
    if len(sys.argv) > 2:
        with Path(sys.argv[2]).open("a") as diary:
            diary.write("began\n")
    for path in sorted((BASE / "processing" / "in").iterdir()):
        time.sleep(0.15)
        (OUT / f"{path.name}.out").write_text(f"<{path.read_text()}>")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
