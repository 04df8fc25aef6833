"""The Dagster resource: its settings, tags of all SageMaker jobs among them, and its calls.

The work is done by the modules beside it.
"""

import logging
import time
from collections.abc import Mapping, Sequence

import dagster as dg
from pydantic import Field, PrivateAttr

from ..cancellation import Cancellation
from .calls import Calls, Clients, Log, make_clients
from .deploy import Deployer, Deployment, SmokeTest
from .endpoint_spec import EndpointSpec
from .endpoints import (
    Endpoints,
    EndpointState,
    EndpointVersion,
    Invocation,
    list_versions,
    live_artifacts,
)
from .errors import SageMakerError
from .jobs import JobRunner, Usable
from .processing_job import ProcessedData, ProcessingJobSpec
from .retention import Pruned, prune
from .security import Security
from .training_job import TrainedJob, TrainingCompute, TrainingJobSpec
from .transform_job import TransformedData, TransformJobSpec, run_transform

LOG = logging.getLogger(__name__)


class SageMakerResource(dg.ConfigurableResource["SageMakerResource"]):
    """Amazon SageMaker: jobs and endpoints that are reconciled, never just fired off.

    Credentials, region and endpoint URLs come from the standard AWS environment, as boto3 reads
    it: any SageMaker, of AWS or of one's own.

    Errors are subclasses of `SageMakerError`, which says whether it is `transient`.

    In a Dagster run, whatever waits here is interrupted within seconds once the run is cancelled.

    Example:
        ```python
        @dg.asset
        def model(context: dg.AssetExecutionContext, sagemaker: SageMakerResource):
            spec = TrainingJobSpec(
                name=deterministic_name("digits", digest_of={"data": etag, "k": 10}),
                image=builtin_image_uri("kmeans", "eu-west-1"),
                hyperparameters={"k": "10", "feature_dim": "784"},
                channels=[S3Channel(name="train", s3_uri="s3://bucket/train/")],
                output_s3_uri="s3://bucket/models/",
            )
            job = sagemaker.train(spec, log=context.log, tags={"run": context.run.run_id})
            return dg.MaterializeResult(metadata=job.metadata())
        ```
    """

    role_arn: str = Field(description="Role that jobs and containers work as.")
    poll_seconds: float = Field(
        default=30, description="Seconds between two looks at a job or an endpoint.", gt=0
    )
    patience_seconds: float = Field(
        default=300,
        description=(
            "How long throttled, failed or unanswered calls are made again, with growing waits, "
            "before the run fails with an error that may be retried."
        ),
        ge=0,
    )
    max_attempts: int = Field(
        default=5, description="How often botocore sends a request before it gives up.", ge=1
    )
    answer_seconds: float = Field(
        default=70, description="How long an answer may take; a model has 60 s for one.", gt=0
    )
    price_per_hour: dict[str, float] = Field(
        default_factory=dict,
        description="On-demand price of an hour by instance type, for estimates in metadata.",
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of everything that is made."
    )
    security: Security = Field(
        default_factory=Security, description="Key, VPC and isolation of everything that is made."
    )
    compute: TrainingCompute = Field(
        default_factory=TrainingCompute,
        description="What training jobs run on where a run's config does not say.",
    )

    _clients: Clients | None = PrivateAttr(default=None)
    _cancellation: Cancellation = PrivateAttr(default_factory=Cancellation)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Dagster's hook: from now on, waits end when the run is cancelled."""
        self._cancellation = Cancellation(context.instance, context.run)

    @property
    def clients(self) -> Clients:
        """The boto3 clients, for what this resource does not do."""
        if self._clients is None:
            self._clients = make_clients(
                attempts=self.max_attempts, answer_seconds=self.answer_seconds
            )
        return self._clients

    def hurried(self, answer_seconds: float) -> "SageMakerResource":
        """The same for a quick look: a call is made twice at most, and an answer not waited for."""
        return SageMakerResource(
            role_arn=self.role_arn,
            patience_seconds=0,
            max_attempts=2,
            answer_seconds=answer_seconds,
            price_per_hour=self.price_per_hour,
        )

    @property
    def region(self) -> str:
        """The region that is talked to."""
        return self.clients.region

    def train(
        self,
        spec: TrainingJobSpec,
        *,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
        usable: Usable[TrainedJob] | None = None,
    ) -> TrainedJob:
        """Train, and wait for it; never twice for the same work.

        A job of the spec's name is attached to while it runs, and reused when it has completed
        with the same image, hyperparameters, inputs, output, environment and instance count. If it
        failed, was stopped, or is another configuration's, the next name is tried: -2, -3, ...

        When the run is interrupted, the job is stopped before the interruption goes on. When the
        process is killed, the next call attaches.

        Args:
            spec: The job. Its name is the identity of the work.
            log: Gets progress, and the job's own log lines.
            tags: Of the run, put on the job if it is started.
            usable: Has the last word on whether a finished job may be reused. Let it look whether
                the artifact is still there, if artifacts are ever removed.

        Raises:
            TrainingError: The job failed, with SageMaker's reason; was stopped, which is never a
                success; or was not done in time and has been stopped. Transient where the
                service was at fault.
            SpecError: The spec cannot work.
            RefusedError: SageMaker refuses a request.
            UnavailableError: SageMaker could not be reached; the job, if any, goes on.
        """
        return self._runner(log, tags).run(spec, usable)

    def train_all(
        self,
        specs: Sequence[TrainingJobSpec],
        *,
        at_once: int = 4,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
        usable: Usable[TrainedJob] | None = None,
    ) -> list[TrainedJob | SageMakerError]:
        """Train many, some at one time, each as `train` does; one that fails, fails alone.

        All are watched from the calling thread, so that an interruption stops all of them.

        Args:
            specs: The jobs. Put what differs between their tags into their own `tags`.
            at_once: How many may run at one time.
            log: Gets progress, and the jobs' own log lines.
            tags: Of the run, put on the jobs that are started.
            usable: As of `train`.

        Returns:
            In the order of the specs, each one's job or the error that it came to.
        """
        return self._runner(log, tags).run_all(specs, at_once=at_once, usable=usable)

    def stop_training(self, name: str, *, log: Log = LOG) -> bool:
        """Ask a job to stop, without waiting for it.

        Returns:
            Whether there was such a job, and it was running.
        """
        return self._runner(log, None).stop(TrainingJobSpec.kind, name)

    def transform(
        self,
        spec: TransformJobSpec,
        *,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
        usable: Usable[TransformedData] | None = None,
    ) -> TransformedData:
        """Let a model answer for all objects under a prefix; never twice for the same work.

        Finds, attaches to, reuses, stops and names the job as `train` does, and takes the same
        arguments; `usable` should look whether the answers are still there, if they are ever
        removed. Its model is made for it, has the same tags, and is deleted with its end.

        Raises:
            TransformError: The job failed, with SageMaker's reason; was stopped; or was not done in
                time and has been stopped.
            SageMakerError: As of `train`.
        """
        return run_transform(self._runner(log, tags), spec, usable)

    def process(
        self,
        spec: ProcessingJobSpec,
        *,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
        usable: Usable[ProcessedData] | None = None,
    ) -> ProcessedData:
        """Run a program in a container, with inputs from S3 and outputs to it.

        Finds, attaches to, reuses, stops and names the job as `train` does, and takes the same
        arguments; `usable` should look whether the outputs are still there, if they are ever
        removed.

        Raises:
            ProcessingError: The job failed, with SageMaker's reason; was stopped; or was not done
                in time and has been stopped.
            SageMakerError: As of `train`.
        """
        return self._runner(log, tags).run(spec, usable)

    def deploy(
        self,
        spec: EndpointSpec,
        *,
        smoke: SmokeTest | None = None,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
    ) -> Deployment:
        """Put a version into service and prove it; where it is in service already, do nothing.

        Makes what is missing of models, endpoint config and endpoint, waits, and compares the live
        endpoint config with the wanted one: an update that SageMaker gave up is a failure here. An
        endpoint that has failed is made anew. A deploy of the same version that is under way, or
        was cut off, is attached to. An interrupted deploy goes on in SageMaker, which offers no way
        to stop it; the next call waits for it and proves it.

        Args:
            smoke: Called with a function that sends requests to the endpoint; raises where an
                answer is wrong. What was live before is put back then; if nothing was, the
                endpoint is deleted.

        Raises:
            DeployConflictError: Somebody else is deploying, or did so meanwhile.
            EndpointError: SageMaker could not create or update the endpoint; what was live before
                is live. Or a model or config of the same name has other contents.
            SmokeTestError: The version failed the smoke request. Transient where it got no answer
                by a fault of the service.
            DeployDeadlineError: SageMaker was not done in time; it goes on.
            RefusedError: SageMaker refuses a request.
            UnavailableError: SageMaker could not be reached.
        """
        plan = spec.plan(self.role_arn, self._tags(tags), self.security)
        return self._deployer(spec.endpoint_name, smoke, spec.deadline_seconds, log).deploy(plan)

    def rollback(
        self,
        endpoint_name: str,
        *,
        to: str | None = None,
        smoke: SmokeTest | None = None,
        deadline_seconds: float = 3600,
        log: Log = LOG,
        tags: Mapping[str, str] | None = None,
    ) -> Deployment:
        """Put an earlier version back into service.

        All versions that are newer than that one count as rolled back from then on, be it live
        already. Where it cannot be put back, they don't.

        Args:
            to: A version or an endpoint config's name; None for the version that last passed
                before the live one and was not itself rolled back.
            smoke: As of `deploy`.
            deadline_seconds: Longest wait for the endpoint to be in service.

        Raises:
            EndpointError: There is no endpoint, or no such version.
            SageMakerError: As of `deploy`.
        """
        deployer = self._deployer(endpoint_name, smoke, deadline_seconds, log)
        return deployer.roll_back(to, self._tags(tags))

    def teardown(
        self,
        endpoint_name: str,
        *,
        versions_too: bool = False,
        deadline_seconds: float = 3600,
        log: Log = LOG,
    ) -> bool:
        """Delete an endpoint, and wait until it is gone.

        Args:
            versions_too: Its endpoint configs and models as well. No rollback is possible then.
            deadline_seconds: Longest wait for it.

        Returns:
            Whether there was such an endpoint.
        """
        endpoints = self._endpoints(log)
        existed = endpoints.delete(endpoint_name, deadline=time.monotonic() + deadline_seconds)
        if versions_too:
            prune(endpoints, endpoint_name, keep=0)
        return existed

    def describe_endpoint(self, endpoint_name: str, *, log: Log = LOG) -> EndpointState | None:
        """The endpoint as it is, None where there is none."""
        return self._endpoints(log).describe(endpoint_name)

    def live_artifacts(self, endpoint_name: str, *, log: Log = LOG) -> frozenset[str]:
        """The S3 URIs of what an endpoint serves now; none where it serves nothing.

        Raises:
            NotFoundError: Its config or a model was deleted, so that nobody can tell.
            UnavailableError: SageMaker could not be reached.
        """
        return live_artifacts(self._endpoints(log), endpoint_name)

    def list_versions(self, endpoint_name: str, *, log: Log = LOG) -> list[EndpointVersion]:
        """The versions of an endpoint that can be deployed or rolled back to, newest first."""
        return list_versions(self._endpoints(log), endpoint_name)

    def invoke(
        self,
        endpoint_name: str,
        body: bytes,
        *,
        content_type: str,
        accept: str = "application/json",
        target_variant: str | None = None,
        log: Log = LOG,
    ) -> Invocation:
        """Send one request to an endpoint.

        Args:
            body: At most 6 MiB (4 MiB where the variant is serverless).
            content_type: Of the body, such as `text/csv`.
            accept: Content type of the answer.
            target_variant: Asks this variant instead of one by weight.

        Raises:
            NotFoundError: There is no such endpoint.
            RefusedError: The model refuses the request, in its own words.
            UnavailableError: The endpoint could not be reached.
        """
        return self._endpoints(log).invoke(
            endpoint_name,
            body,
            content_type=content_type,
            accept=accept,
            target_variant=target_variant,
        )

    def prune(self, endpoint_name: str, *, keep: int = 3, log: Log = LOG) -> Pruned:
        """Remove the endpoint configs and models of old versions.

        Only what wears the tags of this endpoint is looked at. The newest `keep` versions stay, and
        so does what any endpoint serves or a rollback would take.

        Args:
            keep: Versions to keep, the live one included.

        Raises:
            SageMakerError: Something could not be read. Nothing has been removed then.
        """
        return prune(self._endpoints(log), endpoint_name, keep=max(1, keep))

    def _tags(self, tags: Mapping[str, str] | None) -> dict[str, str]:
        return {**self.tags, **(tags or {})}

    def _calls(self, log: Log) -> Calls:
        return Calls(self.patience_seconds, log, sleep=self._cancellation.sleep)

    def _runner(self, log: Log, tags: Mapping[str, str] | None) -> JobRunner:
        return JobRunner(
            clients=self.clients,
            calls=self._calls(log),
            role_arn=self.role_arn,
            tags=self._tags(tags),
            poll_seconds=self.poll_seconds,
            price_per_hour=self.price_per_hour,
            security=self.security,
        )

    def _endpoints(self, log: Log) -> Endpoints:
        return Endpoints(self.clients, self._calls(log), self.poll_seconds)

    def _deployer(
        self, endpoint_name: str, smoke: SmokeTest | None, deadline_seconds: float, log: Log
    ) -> Deployer:
        return Deployer(
            self._endpoints(log), endpoint_name, smoke=smoke, deadline_seconds=deadline_seconds
        )
