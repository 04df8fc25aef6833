"""A cluster of Spark for tests: a master and two workers of one core, on the loopback."""

import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

SPARK = Path(os.environ.get("SPARK_PACKAGES", Path(__file__).parents[1] / ".cache" / "spark"))
HERE = "127.0.0.1"
# Of machines that start and end all the time: no optimising compiler, no threads for the heap.
FRUGAL = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:CICompilerCount=1 -Xshare:auto"


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        master: its URL.
        web: the master's own pages.
        workers: their processes.
        folder: holds `conf`, `events` (the event log) and the logs of all that runs.
        environment: what whoever starts an application needs.
    """

    master: str
    web: str
    workers: list[subprocess.Popen[bytes]]
    folder: Path
    environment: Mapping[str, str]

    def active(self) -> list[str]:
        """Names of the applications that run or wait."""
        state = requests.get(f"{self.web}/json/", timeout=10).json()
        return [application["name"] for application in state["activeapps"]]

    def executors(self) -> list[int]:
        """Process ids of what runs tasks."""
        running: list[int] = []
        for process in self.processes():
            with suppress(psutil.Error):
                if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline()):
                    running.append(process.pid)
        return running

    def processes(self) -> list[psutil.Process]:
        """All processes of the workers, and of what they have started."""
        running: list[psutil.Process] = []
        for worker in self.workers:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(worker.pid)
                running += [process, *process.children(recursive=True)]
        return running


@contextmanager
def spark_cluster(folder: Path, workers: int = 2, memory: str = "1g") -> Iterator[Cluster]:
    """Starts one; everybody who speaks to it needs its random secret."""
    if not (SPARK / "pyspark").is_dir():
        pytest.skip(f"pyspark is not in {SPARK}; .ci/run installs it")
    for name in ("conf", "events", "work"):
        (folder / name).mkdir()
    defaults = {
        "spark.authenticate": "true",
        "spark.authenticate.secret": secrets.token_hex(16),
        "spark.network.crypto.enabled": "true",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{folder}/events",
        "spark.driver.extraJavaOptions": FRUGAL,
        "spark.executor.extraJavaOptions": f"{FRUGAL} -Djava.io.tmpdir={folder}/work",
    }
    conf = folder / "conf" / "spark-defaults.conf"
    conf.touch(mode=0o600)
    conf.write_text("".join(f"{name} {value}\n" for name, value in defaults.items()))
    environment = {
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": HERE,
        "PYTHONPATH": os.pathsep.join([str(SPARK), os.environ.get("PYTHONPATH", "")]),
    }
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    daemons = {
        **inherited,
        **environment,
        "SPARK_HOME": str(SPARK / "pyspark"),
        "SPARK_DAEMON_MEMORY": "128m",
        "SPARK_DAEMON_JAVA_OPTS": f"{FRUGAL} -Djava.io.tmpdir={folder}/work",
        "SPARK_LOCAL_DIRS": f"{folder}/work",
        "SPARK_PUBLIC_DNS": HERE,
    }
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> Path:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            running.append(
                subprocess.Popen(
                    [SPARK / "pyspark/bin/spark-class", *arguments],
                    env=daemons,
                    cwd=folder,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )
        return log

    package = "org.apache.spark.deploy"
    ports = ("--host", HERE, "--webui-port", "0")
    try:
        log = start("master", f"{package}.master.Master", "--port", "0", *ports)
        master = _await(log, r"Starting Spark master at (spark://[\d.:]+)")
        web = _await(log, r"started at (http://[\d.:]+)")
        for number in range(workers):
            limits = ("--cores", "1", "--memory", memory, "--work-dir", str(folder / "work"))
            start(f"worker-{number}", f"{package}.worker.Worker", *ports, *limits, master)
        for number in range(workers):
            _await(folder / f"worker-{number}.log", "(Successfully registered)")
        yield Cluster(master, web, running[1:], folder, environment)
    finally:
        left: list[psutil.Process] = []
        for process in running:
            with suppress(psutil.NoSuchProcess):
                left += psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _await(log: Path, pattern: str, seconds: float = 120) -> str:
    """What a line of a log says, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if match := re.search(pattern, log.read_text(errors="replace")):
            return match[1]
        time.sleep(0.1)
    raise AssertionError(f"no {pattern} in {log}:\n{log.read_text(errors='replace')[-2000:]}")
