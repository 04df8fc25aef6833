"""The server's settings, read from its environment: values, their defaults and their limits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_local import images
from sagemaker_local.images import Image

_PREFIX = "EMBEDDED_SAGEMAKER_"


class ConfigError(ValueError):
    """The environment lacks a value the server needs, or something it names cannot be used."""


@dataclass(frozen=True)
class Config:
    """Everything the server was started with.

    Attributes:
        data_dir: Where state, logs and working files live.
        access_key, secret_key: The only credentials that are accepted, and those used for S3.
        region: The region that the server says it is in.
        s3_endpoint: Base URL of the S3 service; None means AWS's own.
        account: The twelve-digit account id in every ARN.
        starting_seconds: How long a job takes to start at least.
        stopping_seconds: How long a job stays in `Stopping` at least.
        endpoint_seconds: How long an endpoint stays in `Creating` or `Updating` at least.
        wait_scale: What the waits of blue/green deployments, and the periods of alarms, are
            multiplied by.
        parallel_jobs: How many jobs run at once; the others wait before they start.
        job_limit: How many jobs of a kind may be in progress before `ResourceLimitExceeded`.
        training_memory_mb, serving_memory_mb: Memory limit of one child process.
        grace_seconds: How long a training or processing job that is stopped gets to end.
        images: Images that run as processes, see images.py.
        containers: Whether other images may run as containers, where a Docker Engine answers.
        invoke_seconds: After this long an invocation is given up and its child replaced.
        faults: Faults on demand, see faults.py.
    """

    data_dir: Path
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    s3_endpoint: str | None = None
    account: str = "123456789012"
    starting_seconds: float = 0.2
    stopping_seconds: float = 0.1
    endpoint_seconds: float = 0.2
    wait_scale: float = 0.01
    parallel_jobs: int = 2
    job_limit: int = 100
    training_memory_mb: int = 2048
    serving_memory_mb: int = 512
    invoke_seconds: float = 60.0
    grace_seconds: float = 120.0
    images: tuple[Image, ...] = ()
    containers: bool = True
    faults: str = ""

    @property
    def work_dir(self) -> Path:
        """Input and output of jobs while they run."""
        return self.data_dir / "jobs"

    @property
    def instances_dir(self) -> Path:
        """The base folders of containers that serve."""
        return self.data_dir / "instances"

    @property
    def models_dir(self) -> Path:
        """Model artifacts as downloaded for the endpoints that serve them."""
        return self.data_dir / "endpoints"

    @property
    def containers_mark(self) -> Path:
        """A file that is there once containers and networks may be in a Docker Engine."""
        return self.data_dir / "containers"


def from_environment(data_dir: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Reads the configuration.

    Args:
        data_dir: Where state lives.
        environ: The environment; the process's own if None.

    Raises:
        ConfigError: A needed variable is missing or a value cannot be used; the message names it.
    """
    env = os.environ if environ is None else environ

    def needed(name: str) -> str:
        value = env.get(name, "")
        if not value:
            raise ConfigError(f"{name} is not set: this SageMaker accepts one key pair only.")
        return value

    def number(name: str, default: float, low: float = 0.0) -> float:
        text = env.get(_PREFIX + name, "")
        try:
            value = float(text) if text else default
        except ValueError:
            raise ConfigError(f"{_PREFIX}{name} must be a number, not {text!r}.") from None
        if not low <= value < float("inf"):
            raise ConfigError(
                f"{_PREFIX}{name} must be a finite number of at least {low:g}, not {text!r}."
            )
        return value

    account = env.get(_PREFIX + "ACCOUNT_ID", Config.account)
    if len(account) != 12 or not account.isdigit():
        raise ConfigError(f"{_PREFIX}ACCOUNT_ID must be twelve digits, not {account!r}.")
    containers = env.get(_PREFIX + "CONTAINERS", "") or "auto"
    if containers not in ("auto", "off"):
        raise ConfigError(f"{_PREFIX}CONTAINERS must be auto or off, not {containers!r}.")
    cores = os.cpu_count() or 1
    return Config(
        data_dir=data_dir.resolve(),
        access_key=needed("AWS_ACCESS_KEY_ID"),
        secret_key=needed("AWS_SECRET_ACCESS_KEY"),
        region=env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or Config.region,
        s3_endpoint=env.get("AWS_ENDPOINT_URL_S3") or None,
        account=account,
        starting_seconds=number("STARTING_SECONDS", Config.starting_seconds),
        stopping_seconds=number("STOPPING_SECONDS", Config.stopping_seconds),
        endpoint_seconds=number("ENDPOINT_SECONDS", Config.endpoint_seconds),
        wait_scale=number("WAIT_SCALE", Config.wait_scale),
        parallel_jobs=int(number("PARALLEL_JOBS", cores, 1)),
        job_limit=int(number("JOB_LIMIT", Config.job_limit, 1)),
        training_memory_mb=int(number("TRAINING_MEMORY_MB", Config.training_memory_mb, 64)),
        # Python and NumPy take nearly 70 MB before the first request.
        serving_memory_mb=int(number("SERVING_MEMORY_MB", Config.serving_memory_mb, 128)),
        invoke_seconds=number("INVOKE_SECONDS", Config.invoke_seconds, 0.1),
        grace_seconds=number("GRACE_SECONDS", Config.grace_seconds),
        images=_images(env.get(_PREFIX + "IMAGES", "")),
        containers=containers == "auto",
        faults=env.get(_PREFIX + "FAULTS", ""),
    )


def _images(path: str) -> tuple[Image, ...]:
    try:
        # The whole path, since the server may have been started in another folder than the user's.
        return images.read(Path(path).absolute()) if path else ()
    except images.ImageTableError as error:
        raise ConfigError(f"{_PREFIX}IMAGES: {error}") from error
