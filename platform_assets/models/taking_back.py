"""How a version is taken out of service: the one before it comes back, or the endpoint goes."""

from typing import Any

import dagster as dg
from pydantic import Field

from platform_assets.models.deployed_models import M
from platform_assets.models.serving import Serving
from platform_assets.pictures import attempt_to_show
from platform_assets.reports import DATA_VERSION_TAG
from resources.sagemaker import EndpointError, Invoke


class Rollback(dg.Config):
    """Where to roll back to."""

    to: str = Field(
        default="",
        description="A version or endpoint config; the one before the live one if empty.",
    )


def roll_back(context: dg.OpExecutionContext, serving: Serving[M], to: str) -> None:
    """Put an earlier version back and prove it.

    What is newer is not deployed again by itself.

    Raises:
        SageMakerError: It could not be put back.
    """
    name, models = serving.endpoint.name, serving.models

    def smoke(invoke: Invoke) -> None:
        served = serving.find_live()
        if served is None:
            raise EndpointError(f"Endpoint {name} serves nothing.")
        if prove := models.proof(served):
            prove(invoke)

    done = serving.sagemaker.rollback(
        name,
        to=to or None,
        smoke=smoke,
        log=context.log,
        tags={"pipeline": models.pipeline, "run_id": context.run.run_id},
    )
    context.log.info(f"{name} serves {done.version} again.")

    def describe_live() -> dict[str, Any]:
        live = serving.find_live()
        return models.describe(live) if live else {}

    # Or else the asset's page would go on showing the version that was rolled back.
    context.log_event(
        dg.AssetMaterialization(
            models.served,
            metadata={**done.metadata(), **attempt_to_show(describe_live)},
            tags={DATA_VERSION_TAG: done.version},
        )
    )


def tear_down(context: dg.OpExecutionContext, serving: Serving[M]) -> None:
    """Delete the endpoint; its versions stay, so that the next deploy or rollback finds them.

    Raises:
        SageMakerError: It could not be deleted.
    """
    name = serving.endpoint.name
    existed = serving.sagemaker.teardown(name, log=context.log)
    outcome = "is deleted" if existed else "did not exist"
    context.log.info(f"{name} {outcome}.")
    # Or else the asset's page would tell nothing of it.
    context.log_event(
        dg.AssetObservation(
            serving.models.served,
            description=f"{name} {outcome}.",
            metadata={"status": "none"},
        )
    )
