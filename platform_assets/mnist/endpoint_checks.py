"""Dagster's checks of the digits' endpoint as it is now: they ask it, and change nothing.

A version is proved before it counts as deployed, too, in `endpoint.py`; these see what has become
of it since.
"""

from functools import partial

import dagster as dg
import numpy as np

from platform_assets.checks import Verdict, check_now
from platform_assets.mnist import deployed
from platform_assets.mnist.digit_sheets import answer_sheet
from platform_assets.mnist.endpoint import Proof, WrongAnswersError, mnist_endpoint, serve
from platform_assets.models.endpoint import Endpoint
from platform_assets.models.version_check import judge_version
from resources.s3 import ObjectStore
from resources.sagemaker import SageMakerResource


@dg.asset_check(
    asset=mnist_endpoint,
    name="answers_test_digits",
    description="It reads test digits as the classifier does that it is said to serve.",
)
def answers_test_digits(
    endpoint: Endpoint, digits_store: ObjectStore, sagemaker: SageMakerResource
) -> dg.AssetCheckResult:
    return check_now(lambda: judge_answers(endpoint, digits_store, sagemaker))


@dg.asset_check(
    asset=mnist_endpoint,
    name="is_the_wanted_one",
    description=(
        "In service is the newest classifier that passes its gate, was approved where that is "
        "asked for and was not rolled back, and its version was proved."
    ),
)
def is_the_wanted_one(
    context: dg.AssetCheckExecutionContext,
    endpoint: Endpoint,
    digits_store: ObjectStore,
    sagemaker: SageMakerResource,
) -> dg.AssetCheckResult:
    serving = serve(endpoint, digits_store, sagemaker, context.log)
    return check_now(lambda: judge_version(serving))


def judge_answers(endpoint: Endpoint, store: ObjectStore, sagemaker: SageMakerResource) -> Verdict:
    """Asks the endpoint for test digits, and shows what it answered."""
    live = deployed.find_live(store, sagemaker, endpoint.name)
    if live is None:
        return Verdict(False, f"Endpoint {endpoint.name} serves nothing: run the job digits.")
    proof = Proof.read(live)
    try:
        answers = proof.answers(partial(sagemaker.invoke, endpoint.name))
    except WrongAnswersError as error:
        return Verdict(False, str(error), {"classifier_date": live.date})
    wrong = int(np.count_nonzero(answers != proof.digits))
    return Verdict(
        not wrong,
        f"{len(answers) - wrong} of {len(answers)} test digits are read as by the classifier of "
        f"{live.date}.",
        {
            "classifier_date": live.date,
            "test_digits": len(answers),
            "read_otherwise": wrong,
            "answers": answer_sheet(proof.images, answers, proof.digits),
        },
    )
