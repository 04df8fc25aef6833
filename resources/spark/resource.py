"""The resource for Apache Spark: where an application runs, and with what.

Which module that is, and what its messages mean, is the caller's business.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter
from pydantic import Field

from formats.proxies import LOOPBACK
from resources.docker import ModuleRun
from resources.docker.aws_access import discover_aws_access
from resources.docker.modules import ModuleSpec, StreamMessageReader, pipes_session
from resources.docker.process import run_in_process
from resources.s3 import ObjectStore
from resources.spark.errors import SparkNotSetUpError
from resources.spark.scratch import PACKED_PYTHON, code_archive, scratch_folder

HERE = "127.0.0.1"
Context = dg.OpExecutionContext | dg.AssetExecutionContext


@dataclass(frozen=True)
class _Application:
    """What is to run on Spark.

    Attributes:
        name: as Spark shows it.
        module: the driver's.
        code: archive of the packages that driver and tasks import.
        scratch: key of a folder of its own.
        extras: what the caller has for the module.
    """

    name: str
    module: str
    code: bytes
    scratch: str
    extras: Mapping[str, Any]

    def pipes_extras(
        self, *, settings: Mapping[str, str], code: str, forward_credentials: bool
    ) -> dict[str, Any]:
        """All that the module finds in its Pipes context; see `SparkResource.run`."""
        spark = {
            "name": self.name,
            "settings": settings,
            "code": code,
            "scratch": self.scratch,
            "forward_credentials": forward_credentials,
        }
        return {**self.extras, "spark": spark}


class SparkResource(dg.ConfigurableResource[Any]):
    """Runs Python modules as drivers of Spark: beside Dagster's run, or on EMR Serverless.

    Settings of the cluster, secrets among them, are Spark's own: `SPARK_CONF_DIR`. `pyspark` of
    the cluster's version has to be installed here, but for EMR.
    """

    always: bool = Field(default=False, description="Whether all is made by Spark.")
    above_bytes: int = Field(
        default=0, ge=0, description="What reads more than this is made by Spark; 0: nothing."
    )
    master: str = Field(default="", description="spark://host:port, or another URL of a master.")
    application_id: str = Field(default="", description="Application of EMR Serverless.")
    role_arn: str = Field(default="", description="Role of its jobs.")
    environment: str = Field(
        default="",
        description="Packed Python environment of the tasks: a path or, for EMR, an S3 address."
        " Empty for the Python that runs this, which all hosts have at the same path.",
    )
    settings: dict[str, str] = Field(
        default={}, description="Spark's settings by their names; no secrets, since all show them."
    )
    forward_credentials: bool = Field(
        default=True,
        description="Give tasks the AWS credentials of this process; else they have those of their"
        " hosts. On EMR they have those of the job's role.",
    )
    driver_memory_mb: int = Field(
        default=4096, ge=512, description="Upper bound of the driver's memory here, in MiB."
    )
    deadline_seconds: float = Field(default=3600.0, gt=0, description="Time limit in seconds.")
    poll_seconds: float = Field(default=10.0, gt=0, description="Time between two looks at EMR.")

    def should_run(self, count_bytes: Callable[[], int]) -> bool:
        """Whether work is for Spark.

        Args:
            count_bytes: how many bytes it reads; called only where that decides.
        """
        return self.always or (self.above_bytes > 0 and count_bytes() > self.above_bytes)

    def run(
        self,
        context: Context,
        module: str,
        *,
        packages: Sequence[str],
        store: ObjectStore,
        scratch: str,
        extras: Mapping[str, Any],
    ) -> ModuleRun:
        """Runs `python -m module` as a driver to its end.

        Args:
            packages: the packages that it and its tasks import; the hosts get their code.
            scratch: folder of all scratch folders there.
            extras: JSON value that the module finds in its Pipes context; it finds beside it, as
                `spark`: `name`, `settings`, `code` (an archive), `scratch` (a folder of its own,
                which is removed) and `forward_credentials`.

        Returns:
            The module's messages, and metadata that say how it was run.

        Raises:
            SparkNotSetUpError: it is not said where Spark is, or pyspark or Java are missing.
            ModuleRunError: the driver failed, ran out of memory or time.
            SparkRunError: the application on EMR Serverless failed, or could not be followed.
        """
        started = time.monotonic()
        self.check_set_up()
        name = f"{module} {context.run.run_id[:8]}"
        code = code_archive(packages)
        with scratch_folder(context, store, scratch) as folder:
            application = _Application(name, module, code, folder, extras)
            if self.master:
                messages, metadata = self._run_here(context, application)
            else:
                messages, metadata = self._run_on_emr(context, application, store)
        metadata["seconds"] = round(time.monotonic() - started, 3)
        return ModuleRun(tuple(messages), metadata)

    def check_set_up(self) -> None:
        """Makes sure that Spark can be asked for something.

        Raises:
            SparkNotSetUpError: what is missing, and what to do.
        """
        if bool(self.master) == bool(self.application_id):
            raise SparkNotSetUpError(
                "Spark is to be used: set PLATFORM_SPARK_MASTER, or PLATFORM_SPARK_APPLICATION_ID"
                " with PLATFORM_SPARK_ROLE_ARN, and not both."
            )
        if self.application_id and not self.role_arn:
            raise SparkNotSetUpError(
                f"The application {self.application_id} needs a role for its jobs: set"
                " PLATFORM_SPARK_ROLE_ARN."
            )
        if self.master and importlib.util.find_spec("pyspark") is None:
            raise SparkNotSetUpError(
                "pyspark is not installed: pip install 'pyspark==…', of the version that"
                f" {self.master} has."
            )
        if self.master and not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise SparkNotSetUpError(
                "There is no Java: install one, 17 or later, or set JAVA_HOME."
            )

    def _run_here(
        self, context: Context, application: _Application
    ) -> tuple[Sequence[Mapping[str, Any]], dict[str, str | int | float]]:
        reader = StreamMessageReader(PipesDefaultMessageWriter.STDOUT)
        injector = dg.PipesTempFileContextInjector()
        aws = discover_aws_access(forward_credentials=True)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "code.zip"
            archive.write_bytes(application.code)
            extras = application.pipes_extras(
                settings={"spark.local.dir": folder, **self._settings_here()},
                code=str(archive),
                forward_credentials=self.forward_credentials,
            )
            with pipes_session(context, injector, reader, extras) as session:
                spec = ModuleSpec(
                    module=application.module,
                    arguments=(),
                    environment={
                        "TZ": "UTC",
                        # What Java leaves when it is killed goes with the folder.
                        "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={folder}",
                        "PYSPARK_PYTHON": PACKED_PYTHON if self.environment else sys.executable,
                        **aws.environment,
                        **session.get_bootstrap_env_vars(),
                    },
                    aws=aws,
                    memory_mb=self.driver_memory_mb,
                    deadline_seconds=self.deadline_seconds,
                )
                peak = run_in_process(context, spec, reader)
        metadata = {"mode": "spark", "master": self.master}
        return session.get_custom_messages(), {**metadata, "driver_peak_mb": round(peak / 1024**2)}

    def _settings_here(self) -> dict[str, str]:
        settings = {
            "spark.master": self.master,
            "spark.ui.enabled": "false",
        }
        if self.environment:
            settings["spark.archives"] = f"{self.environment}#environment"
        if urlsplit(self.master).hostname in LOOPBACK:
            settings |= {"spark.driver.host": HERE, "spark.driver.bindAddress": HERE}
        return {**settings, **self.settings}

    def _run_on_emr(
        self, context: Context, application: _Application, store: ObjectStore
    ) -> tuple[Sequence[Mapping[str, Any]], dict[str, str | int | float]]:
        # dagster-aws takes half as long to load as Dagster, and most runs are not on EMR.
        from resources.spark.emr import DRIVER, run_on_emr

        name, folder = application.name, application.scratch
        store.put_bytes(f"{folder}/code.zip", application.code)
        driver = DRIVER.format(module=application.module)
        store.put_bytes(f"{folder}/driver.py", driver.encode())
        # Of its settings EMR has read those that matter by then.
        extras = application.pipes_extras(settings={}, code="", forward_credentials=False)
        messages = run_on_emr(context, self, name, store, folder, extras)
        return messages, {"mode": "emr-serverless", "application": self.application_id}
