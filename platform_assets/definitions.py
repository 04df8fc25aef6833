"""The one place where assets, checks, jobs and resources meet: what Dagster loads."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from jobs import airbnb as airbnb_jobs
from jobs import housekeeping
from jobs import mnist as mnist_jobs
from platform_assets import settings
from platform_assets.airbnb import checks as airbnb_checks
from platform_assets.airbnb.chain import airbnb_chain
from platform_assets.airbnb.limits import Limits
from platform_assets.airbnb.listings import ListingsTable, listings
from platform_assets.interruptions import keep_interruptions
from platform_assets.mnist import classifier, dataset, raw
from platform_assets.mnist.classifier import mnist_classifier
from platform_assets.mnist.dataset import mnist_dataset
from platform_assets.mnist.endpoint import Endpoint, mnist_endpoint
from platform_assets.mnist.model import mnist_model
from platform_assets.mnist.raw import PublicMnist, public_mnist, raw_mnist


def build_defs(*, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything that there is. Nothing outside is reached for it.

    Args:
        resource_overrides: Resources by their keys, in the place of those of the environment.
    """
    settings.keep_loopback_from_proxies()
    return dg.Definitions(
        assets=[
            public_mnist,
            raw_mnist,
            mnist_dataset,
            mnist_model,
            mnist_classifier,
            mnist_endpoint,
            listings,
            airbnb_chain,
        ],
        asset_checks=dg.load_asset_checks_from_modules([raw, dataset, classifier, airbnb_checks]),
        jobs=[
            mnist_jobs.digits_job,
            mnist_jobs.rollback_endpoint,
            mnist_jobs.teardown_endpoint,
            airbnb_jobs.listings_job,
            airbnb_jobs.listings_freshness,
        ],
        schedules=[
            mnist_jobs.digits_daily,
            airbnb_jobs.listings_daily,
            airbnb_jobs.listings_freshness_daily,
        ],
        sensors=[mnist_jobs.public_digits_changed, *housekeeping.SENSORS],
        # A run is a process already; one for each step would cost seconds of imports.
        executor=dg.in_process_executor,
        resources={**_resources(settings.Settings()), **(resource_overrides or {})},
    )


def _resources(env: settings.Settings) -> dict[str, Any]:
    return {
        "digits_store": settings.object_store("PLATFORM_BUCKET"),
        "listings_store": settings.object_store("PLATFORM_AIRBNB_BUCKET"),
        "public": PublicMnist(uri=env.mnist_source),
        "postgres": settings.postgres(env),
        "listings_table": ListingsTable(
            table=env.listings_table,
            query=env.listings_query,
            columns=env.listings_columns,
            id_type=env.listings_id_type,
            date_column=env.listings_date_column,
            format=env.snapshot_format,
            connections=env.listings_connections,
            leave_out=env.leave_out,
            pseudonymise=env.pseudonymise,
            limits=Limits.model_validate(env.snapshot_limits),
        ),
        "sagemaker": settings.sagemaker(env),
        "endpoint": Endpoint(name=env.endpoint_name, instance_type=env.instance_type),
        "docker": settings.docker(env),
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The code location: what every process calls that serves it or executes a run of it."""
    keep_interruptions()
    return build_defs()
