"""The margin to the live classifier: judged by the check and again before a deploy."""

from collections.abc import Callable
from typing import Any

import boto3
import numpy as np
import pytest

from platform_assets.checks import Verdict
from platform_assets.mnist import classifier, deployed
from platform_assets.mnist.endpoint import Proof, WrongAnswersError, ask
from platform_assets.mnist.gate import AccuracyMargin, Gate
from platform_assets.mnist.published_classifier import ARTIFACT
from platform_assets.models.deployed_models import LiveUnknownError
from resources.sagemaker import (
    EndpointSpec,
    Invocation,
    ModelContainer,
    SageMakerResource,
    UnavailableError,
    builtin_image_uri,
)
from tests.platform_assets.conftest import Platform, failed_checks, reason_of
from tests.platform_assets.mnist_rig import (
    EASY,
    live_config,
    put_classifier,
    put_digits,
)

BEFORE, DATE, NEXT, LAST = "2026-01-04", "2026-01-05", "2026-01-06", "2026-01-07"
ENDPOINT = "mnist/endpoint"
REST = ["mnist/model", "mnist/classifier", ENDPOINT]


def with_gate(**gate: float) -> dict[str, Any]:
    """A run's configuration with few clusters, which read fewer digits rightly."""
    model = {"config": {"clusters": 10}}
    return {"ops": {"mnist__model": model, "mnist__classifier": {"config": gate}}}


def resource(platform: Platform, **changes: Any) -> SageMakerResource:
    fields = {"role_arn": platform.env["PLATFORM_SAGEMAKER_ROLE_ARN"], "poll_seconds": 0.1}
    return SageMakerResource(**{**fields, **changes})


def asked(platform: Platform, endpoint: str, **changes: Any) -> Callable[[], AccuracyMargin]:
    """The margin to what is live, as the check asks for it."""
    sagemaker = resource(platform, **changes)
    return lambda: AccuracyMargin(deployed.find_live(platform.store, sagemaker, endpoint))


def judge(platform: Platform, margin: Callable[[], AccuracyMargin]) -> Verdict:
    return classifier.judge_accuracy(classifier.folder(platform.store, DATE), margin)


def test_what_is_worse_than_the_live_one_by_more_than_the_margin_is_never_deployed(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE, NEXT, LAST)
    put_classifier(digits, DATE, 1000)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    live = live_config(endpoint)

    low = with_gate(min_accuracy=0.1)
    scheduled = digits.run("digits", NEXT, assets=REST, config=low)
    said_of_it = failed_checks(scheduled)["accuracy_above_gate"]
    assert said_of_it is not None
    assert f"The live one of {DATE} classifies" in said_of_it
    assert live_config(endpoint) == live

    backfill = digits.run("digits", NEXT, LAST, assets=REST, config=low)
    assert "accuracy_above_gate" in failed_checks(backfill)
    assert live_config(endpoint) == live

    # By itself, where no check stands before it.
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    assert live_config(endpoint) == live

    # The same classifier with a wider margin, which is configuration.
    wide = with_gate(min_accuracy=0.1, max_drop=0.9)
    assert digits.run("digits", NEXT, assets=REST, config=wide).success
    assert live_config(endpoint) != live


def test_a_classifier_is_compared_on_the_test_digits_of_its_own_date(digits: Platform) -> None:
    put_digits(digits, BEFORE, DATE, NEXT)
    live = put_classifier(digits, DATE, 400)
    margin = AccuracyMargin(live)

    assert margin.judge(put_classifier(digits, NEXT, 1000)).passed
    assert margin.judge(put_classifier(digits, NEXT, 400)).description == "It is what is live."
    worse = put_classifier(digits, NEXT, 30)
    assert not margin.judge(worse).passed
    assert AccuracyMargin(None).judge(worse).passed
    wide = put_classifier(digits, NEXT, 30, Gate(min_accuracy=0.1, max_drop=0.8))
    assert margin.judge(wide).passed
    older = put_classifier(digits, BEFORE, 30)
    assert margin.judge(older).passed, "a date that is made again is no candidate"


def test_a_date_that_is_live_passes_when_it_is_made_again(digits: Platform, endpoint: str) -> None:
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 400)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success

    assert judge(digits, asked(digits, endpoint)).passed
    put_classifier(digits, DATE, 30)
    assert not judge(digits, asked(digits, endpoint)).passed
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    put_classifier(digits, DATE, 400)
    assert judge(digits, asked(digits, endpoint)).passed


def test_nothing_older_takes_the_place_of_a_date_that_was_made_again(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE, NEXT)
    put_classifier(digits, DATE, 420)
    put_classifier(digits, NEXT, 400)
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    live = live_config(endpoint)

    put_classifier(digits, NEXT, 30, Gate(min_accuracy=0.99))
    assert digits.run("digits", NEXT, assets=[ENDPOINT]).success
    assert live_config(endpoint) == live


def test_a_sagemaker_that_cannot_be_asked_is_neither_a_pass_nor_a_failure(
    digits: Platform, endpoint: str
) -> None:
    """It is transient, so that the step is tried again."""
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
        unreachable = asked(digits, endpoint, patience_seconds=0, max_attempts=1)
        with pytest.raises(UnavailableError):
            judge(digits, unreachable)


def test_what_nobody_can_compare_with_is_not_replaced(digits: Platform, endpoint: str) -> None:
    put_digits(digits, DATE)
    published = put_classifier(digits, DATE, 400)
    digits.store.copy_from(
        digits.store, published.files.folder.key(ARTIFACT), "elsewhere/model.tar.gz"
    )
    uri = digits.store.uri("elsewhere/model.tar.gz")
    container = ModelContainer(image=builtin_image_uri("kmeans", "eu-west-1"), model_data_url=uri)
    resource(digits).deploy(EndpointSpec(endpoint_name=endpoint, version="1", container=container))
    live = live_config(endpoint)

    with pytest.raises(LiveUnknownError, match=r"elsewhere/model\.tar\.gz"):
        judge(digits, asked(digits, endpoint))
    assert "Nobody can tell" in reason_of(digits.run("digits", DATE, assets=[ENDPOINT]))
    assert live_config(endpoint) == live


def test_what_serves_although_it_was_deleted_is_told_with_what_to_do(
    digits: Platform, endpoint: str
) -> None:
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 400)
    assert digits.run("digits", DATE, assets=[ENDPOINT]).success
    boto3.client("sagemaker").delete_endpoint_config(EndpointConfigName=live_config(endpoint))
    message = reason_of(digits.run("digits", DATE, assets=[ENDPOINT]))
    assert "was deleted while it serves. Nobody can tell" in message
    assert "teardown_endpoint" in message


def test_an_endpoint_that_serves_nothing_has_only_the_floor(
    digits: Platform, endpoint: str
) -> None:
    assert resource(digits).live_artifacts(endpoint) == frozenset()
    put_digits(digits, DATE)
    put_classifier(digits, DATE, 30, EASY)
    assert judge(digits, asked(digits, endpoint)).passed
    put_classifier(digits, DATE, 30, Gate(min_accuracy=0.99))
    assert not judge(digits, asked(digits, endpoint)).passed
    assert not boto3.client("sagemaker").list_endpoints(NameContains=endpoint)["Endpoints"]


def test_a_classifier_of_earlier_features_is_neither_deployed_nor_proved(
    digits: Platform, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes today's features, being as many, and reads nine of ten digits wrongly."""
    put_digits(digits, BEFORE, DATE)
    put_classifier(digits, BEFORE, 500)
    with monkeypatch.context() as earlier:
        earlier.setattr(classifier, "CODE_VERSION", "1")
        outdated = put_classifier(digits, DATE, 1000)

    assert digits.run("digits", DATE, assets=[ENDPOINT]).success

    live = deployed.find_live(digits.store, resource(digits), endpoint)
    assert live is not None
    assert live.date == BEFORE
    with pytest.raises(WrongAnswersError, match="earlier version of the code"):
        Proof.read(outdated)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"predictions": [{"score": 0.5}]}',
        b'{"predictions": [{"closest_cluster": null}]}',
        b'{"predictions": [{"closest_cluster": 1e400}]}',
        b'{"predictions": {"closest_cluster": 1}}',
        b"\xff",
    ],
)
def test_answers_of_another_kind_are_told_as_such(body: bytes) -> None:
    with pytest.raises(WrongAnswersError, match="did not answer as k-means"):
        ask(lambda _body, **_: Invocation(body, "application/json", ""), np.zeros((1, 794), "f4"))
