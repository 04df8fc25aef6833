"""Which model is deployed to an endpoint: the newest good one, that nobody keeps out.

A backfill of an old date never puts an old model live. How a version is put into service, proved
and rolled back stands in `resources.sagemaker`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import dagster as dg

from platform_assets.checks import Context
from platform_assets.models import retention
from platform_assets.models.deployed_models import M
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.served_models import ServedModels
from platform_assets.pictures import attempt_to_show
from platform_assets.reports import DATA_VERSION_TAG, expected_errors_as_failures
from platform_assets.retries import retry_call
from resources.s3 import NotPublishedError
from resources.sagemaker import (
    EndpointSpec,
    EndpointState,
    EndpointVersion,
    Instances,
    Log,
    SageMakerResource,
    Variant,
)

# Under this name of their metadata, observations of a model say what is decided over it.
DECISION = "decision"
WAITS = "waits for approval"
NOTHING_WAITS = "nothing waits"


@dataclass(frozen=True)
class Choice(Generic[M]):
    """What an endpoint should serve.

    Attributes:
        wanted: The newest model that may go live, or else what is live; None where neither is.
        waiting: The newest model that would go live if a person approved it; None where none does.
    """

    wanted: M | None
    waiting: M | None


@dataclass(frozen=True)
class Serving(Generic[M]):
    """An endpoint and the models that it may serve."""

    models: ServedModels[M]
    endpoint: Endpoint
    sagemaker: SageMakerResource
    log: Log

    def find_live(self) -> M | None:
        """What it serves now, as `DeployedModels.find_live`."""
        return self.models.deployed.find_live(self.sagemaker, self.endpoint.name)

    def versions(self) -> list[EndpointVersion]:
        """What was deployed and is still there, newest first."""
        return self.sagemaker.list_versions(self.endpoint.name, log=self.log)

    def state(self) -> EndpointState | None:
        """The endpoint as SageMaker has it."""
        return self.sagemaker.describe_endpoint(self.endpoint.name, log=self.log)

    def choose(self, versions: Sequence[EndpointVersion], live: M | None) -> Choice[M]:
        """What it should serve: nothing that was rolled back, rejected, or waits for a person.

        A model that is older than the live one does not replace it.

        Raises:
            NotPublishedError: There is nothing that could ever be served.
        """
        margin = self.models.margin(live)
        waiting: M | None = None
        for candidate in self.models.candidates(log=self.log):
            if live and candidate.date < live.date:
                break
            if self.endpoint.find_rolled_back(candidate.sha256, versions):
                continue
            if waiting is not None and candidate.sha256 == waiting.sha256:
                continue
            decision = self.models.decisions.latest(candidate.sha256)
            outcome = decision.outcome if decision else None
            if outcome == "overridden":
                return Choice(candidate, waiting)
            if outcome == "rejected" or not self.models.passes(candidate):
                continue
            verdict = margin.judge(candidate)
            if not verdict.passed:
                self.log.warning(
                    f"The {self._noun} of {candidate.date} is not deployed. {verdict.description}"
                )
            elif outcome == "approved" or not self._waits(candidate, live):
                return Choice(candidate, waiting)
            else:
                waiting = waiting or candidate
        if live is None and waiting is None:
            raise NotPublishedError(
                f"No {self._noun} under {self.models.store.uri(self.models.dates)} has passed its "
                f"gate: materialise {self.models.judged.to_user_string()} for a recent date, or "
                "look at why its check fails."
            )
        return Choice(live, waiting)

    def materialize(self, context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        """As `reconcile`, for the endpoint's asset: tries again what may pass by itself.

        Raises:
            dagster.Failure: It could not be done.
        """
        with expected_errors_as_failures():
            result = retry_call(f"Endpoint {self.endpoint.name}", lambda: self.reconcile(context))
        if result is not None:
            yield result

    def reconcile(self, context: Context) -> dg.MaterializeResult[Any] | None:
        """Put the model that it should serve into service where it is not there yet, and prove it.

        Returns:
            What to report; None where nothing was ever approved, so that nothing is served.

        Raises:
            NotPublishedError: No model has passed its gate.
            LiveUnknownError: What is live is not ours, so that nothing can be compared with it.
            SageMakerError: It could not be deployed; what was live before still is.
        """
        versions, live = self.versions(), self.find_live()
        try:
            choice = self.choose(versions, live)
        except NotPublishedError:
            self._report_none_waiting(context)
            raise
        if choice.waiting is not None:
            self._report_waiting(context, choice.waiting)
        else:
            self._report_none_waiting(context)
        wanted = choice.wanted
        if wanted is None:
            return None
        outcome = self._put_into_service(context, wanted, versions, live)
        version = self.endpoint.version(wanted.sha256)
        return dg.MaterializeResult(
            metadata={
                "endpoint": self.endpoint.name,
                "version": version,
                **outcome,
                **self.models.describe(wanted),
                **({"waits_for_approval": choice.waiting.date} if choice.waiting else {}),
                **attempt_to_show(lambda: self.models.show(self.endpoint, self.sagemaker, wanted)),
            },
            data_version=dg.DataVersion(version),
        )

    def _put_into_service(
        self, context: Context, wanted: M, versions: Sequence[EndpointVersion], live: M | None
    ) -> dict[str, Any]:
        state = self.state()
        # The same model is in the folder of every date that made it: which one is served is known
        # by its version, not by its folder.
        if state and served_versions(state, versions) == [self.endpoint.version(wanted.sha256)]:
            return {
                "status": state.status,
                "endpoint_config": state.config_name,
                "outcome": "unchanged",
            }
        # The copy that is live is left as it is, down to its manifest.
        copy = live if live and live.sha256 == wanted.sha256 else None
        copy = copy or self.models.deployed.copy(wanted, self.endpoint.name)
        # Read beforehand: a version that could not be proved does not go live in the first place.
        proof = self.models.proof(copy)
        deployment = self.sagemaker.deploy(
            self.describe(copy),
            smoke=proof,
            log=self.log,
            tags={
                "pipeline": self.models.pipeline,
                "partition": wanted.date,
                "run_id": context.run.run_id,
            },
        )
        removed = retention.clean_up(self.models, self.sagemaker, self.endpoint, log=self.log)
        return {**deployment.metadata(), **removed}

    def describe(self, model: M) -> EndpointSpec:
        """The endpoint that serves a model."""
        return EndpointSpec(
            endpoint_name=self.endpoint.name,
            version=self.endpoint.version(model.sha256),
            container=self.models.container(self.sagemaker.region, model),
            variants=[
                Variant(
                    instances=Instances(
                        instance_type=self.endpoint.instance_type,
                        instance_count=self.endpoint.instance_count,
                    )
                )
            ],
        )

    def _waits(self, candidate: M, live: M | None) -> bool:
        """Whether a person has to approve it; what is live already needs nobody."""
        is_live = live is not None and live.sha256 == candidate.sha256
        return self.endpoint.approval == "required" and not is_live

    def _report_waiting(self, context: Context, waiting: M) -> None:
        context.log_event(
            dg.AssetObservation(
                self.models.judged,
                partition=waiting.date,
                description=(
                    f"Version {waiting.sha256} passed its gate and waits for a person: run "
                    f"{self.models.jobs.approve} or {self.models.jobs.reject}."
                ),
                metadata={DECISION: WAITS, "version": waiting.sha256},
            )
        )

    def _report_none_waiting(self, context: Context) -> None:
        """Where it was said that a version waits: its date was made anew, or nobody is asked."""
        newest = context.instance.fetch_observations(self.models.judged, limit=1).records
        latest = newest[0].asset_observation if newest else None
        decision = latest.metadata.get(DECISION) if latest else None
        if decision is not None and decision.value == WAITS:
            context.log_event(
                dg.AssetObservation(
                    self.models.judged,
                    description="No version waits for a person any more.",
                    metadata={DECISION: NOTHING_WAITS},
                )
            )

    @property
    def _noun(self) -> str:
        return self.models.deployed.noun


def served_versions(state: EndpointState, versions: Sequence[EndpointVersion]) -> list[str]:
    """The version that is in service and was proved, if one is."""
    return [
        version.version
        for version in versions
        if state.in_service and version.config_name == state.config_name and version.verified_at
    ]


def as_event(key: dg.AssetKey, result: dg.MaterializeResult[Any]) -> dg.AssetMaterialization:
    """What an op logs of an asset that it has made."""
    tags = {DATA_VERSION_TAG: result.data_version.value} if result.data_version else {}
    return dg.AssetMaterialization(key, metadata=result.metadata, tags=tags)
