"""When a person decides over classifiers. The forms are in `platform_assets/models/deciding.py`."""

import dagster as dg

from platform_assets.mnist.deployed import JOBS
from platform_assets.mnist.endpoint import POOL, serve
from platform_assets.mnist.published_classifier import PublishedClassifier
from platform_assets.models.deciding import build_decision_jobs
from platform_assets.models.serving import Serving


def _serve(context: dg.OpExecutionContext) -> Serving[PublishedClassifier]:
    given = context.resources
    return serve(given.endpoint, given.digits_store, given.sagemaker, context.log)


approve_classifier, reject_classifier, override_gate = build_decision_jobs(
    JOBS, _serve, resource_keys={"endpoint", "digits_store", "sagemaker"}, pool=POOL
)
