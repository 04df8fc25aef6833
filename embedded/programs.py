"""The programs of the stack, but for Dagster's: their command lines and when each is ready.

A new one is written here, and added to the list in `stack.py`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from embedded import postgres, s3, s3_security
from embedded.aws import aws_client
from embedded.plan import Plan
from embedded.ports import require_listener
from embedded.supervision import Program

SERVICES = ("s3", "postgres", "sagemaker")


class NeverReadyError(Exception):
    """A program runs, but will not become ready by waiting; the message says why."""


@dataclass(frozen=True)
class Part:
    """A program, and how the stack prepares it and sees that it is ready.

    Attributes:
        ready: Returns once the program does its work; raises any exception before.
        after: Names of the parts without which it cannot be ready; all start at once.
        prepare: Creates what it needs, before it starts.
        settle: Repairs what an earlier crash left, once all of the stack is ready.
    """

    program: Program
    title: str
    ports: dict[str, int]
    ready: Callable[[], None]
    after: tuple[str, ...] = ()
    prepare: Callable[[], None] = lambda: None
    settle: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name


def s3_part(plan: Plan) -> Part:
    """SeaweedFS."""
    data = plan.home.data / "s3"

    def prepare() -> None:
        data.mkdir(mode=0o700, exist_ok=True)
        s3_security.write(plan.home.run)

    def ready() -> None:
        require_listener(plan.ports.s3)
        s3.check(plan.environment)

    return Part(
        program=Program(
            name="s3",
            command=s3.command(data, plan.ports),
            environment=s3.ENVIRONMENT,
            stop_seconds=5,  # acknowledged writes survive a kill
            priority=100,
        ),
        title="S3 (SeaweedFS)",
        ports=dict.fromkeys(["S3"], plan.ports.s3)
        | {f"S3's inner port {port}": port for port in plan.ports.of_s3()},
        ready=ready,
        prepare=prepare,
    )


def postgres_part(plan: Plan) -> Part:
    """The embedded Postgres."""
    data = plan.home.postgres_data

    def prepare() -> None:
        postgres.initialise(data, plan.credentials.postgres_admin_password)
        postgres.forget_stale_pid(data)

    def ready() -> None:
        postgres.check(plan.admin_dsn)
        postgres.ensure_database(plan.admin_dsn, plan.credentials.postgres_password)
        postgres.check(plan.environment["PLATFORM_POSTGRES_DSN"])

    return Part(
        program=Program(
            name="postgres",
            command=postgres.command(data, plan.ports.postgres),
            stop_signal="INT",
            priority=100,
        ),
        title="Postgres",
        ports={"Postgres": plan.ports.postgres},
        ready=ready,
        prepare=prepare,
    )


def sagemaker_part(plan: Plan) -> Part:
    """The embedded SageMaker: control plane, runtime and logs on one port."""

    def ready() -> None:
        require_listener(plan.ports.sagemaker)
        sagemaker = aws_client(plan.environment, "sagemaker", quick=True)
        sagemaker.list_training_jobs(MaxResults=1)

    data = plan.home.data / "sagemaker"
    return Part(
        program=Program(
            name="sagemaker",
            command=[
                *(sys.executable, "-m", "sagemaker_local"),
                *("--port", str(plan.ports.sagemaker), "--data-dir", data),
            ],
            priority=200,
        ),
        title="SageMaker",
        ports={"SageMaker": plan.ports.sagemaker},
        ready=ready,
    )


def services(plan: Plan) -> list[Part]:
    """The services that stand in for the cloud, without those that the user has already."""
    makers = {"s3": s3_part, "postgres": postgres_part, "sagemaker": sagemaker_part}
    return [make(plan) for name, make in makers.items() if name in plan.embedded]


def api_part(plan: Plan) -> Part:
    """The digit page."""

    def ready() -> None:
        require_listener(plan.ports.api)
        httpx.get(f"{page_url(plan)}/healthz", timeout=5, trust_env=False).raise_for_status()

    return Part(
        program=Program(
            name="api",
            command=[sys.executable, "-m", "api", "--port", str(plan.ports.api)],
            priority=400,
        ),
        title="The digit page",
        ports={"the digit page": plan.ports.api},
        ready=ready,
    )


def metrics_part(plan: Plan) -> Part:
    """Numbers for Prometheus; it loads the platform when it is first asked for them."""
    return Part(
        program=Program(
            name="metrics",
            command=[sys.executable, "-m", "metrics", "--port", str(plan.ports.metrics)],
            priority=400,
        ),
        title="Metrics for Prometheus",
        ports={"metrics for Prometheus": plan.ports.metrics},
        ready=lambda: require_listener(plan.ports.metrics),
    )


def page_url(plan: Plan) -> str:
    """Where a browser finds the digit page."""
    return plan.environment["PLATFORM_PAGE_URL"]
