"""Shadow variants: who gets copies of requests, and that the answers are the others'."""

import json
import time
from typing import Any

from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    Server,
    refusal,
    unique,
    variant,
)
from tests.sagemaker_local.test_local_contract_serving import own_model

SHADOW = "Shadow"


def deploy(
    server: Server, model: str, shadow: str, *, weight: float = 1.0, answering: float = 1.0
) -> str:
    """An endpoint in service whose requests are copied."""
    name = unique("shadowed")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant(model, weight=answering)],
        ShadowProductionVariants=[variant(shadow, SHADOW, weight)],
    )
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    server.in_service(name)
    return name


def say(server: Server, endpoint: str, text: str) -> dict[str, Any]:
    """A request that its container writes into its log; the answer, and who gave it."""
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=json.dumps({"do": "say", "text": text})
    )
    return {"variant": answer["InvokedProductionVariant"], "text": answer["Body"].read().decode()}


def lines(server: Server, endpoint: str, of: str) -> list[str]:
    """What the containers of a variant were told to say."""
    events = server.logs.filter_log_events(
        logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}", logStreamNamePrefix=f"{of}/"
    )["events"]
    return [event["message"] for event in events if event["message"].startswith("said ")]


def until_said(server: Server, endpoint: str, of: str, text: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while f"said {text}" not in (now := lines(server, endpoint, of)):
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    return now


def until_gone(server: Server, endpoint: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while server.sagemaker.list_endpoints(NameContains=endpoint)["Endpoints"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_shadow_gets_each_request_and_the_other_answers(image_server: Server, store: str) -> None:
    models = own_model(image_server, store, NAME="one"), own_model(image_server, store)
    endpoint = deploy(image_server, *models)
    described = image_server.sagemaker.describe_endpoint(EndpointName=endpoint)
    (shadow,) = described["ShadowProductionVariants"]
    assert (shadow["VariantName"], shadow["CurrentInstanceCount"]) == (SHADOW, 1)
    (answering,) = described["ProductionVariants"]
    assert answering["VariantName"] == "AllTraffic"

    texts = [f"request {number}" for number in range(5)]
    for text in texts:
        assert say(image_server, endpoint, text) == {"variant": "AllTraffic", "text": "one"}
    for of in (SHADOW, "AllTraffic"):
        for text in texts:
            until_said(image_server, endpoint, of, text)
        assert sorted(lines(image_server, endpoint, of)) == [f"said {text}" for text in texts]


def test_a_shadow_of_no_weight_gets_nothing_and_one_of_half_about_half(
    image_server: Server, store: str
) -> None:
    model = own_model(image_server, store)
    none = deploy(image_server, model, model, weight=0.0)
    # Beside a weight of 2, one of 1 is a half.
    half = deploy(image_server, model, model, weight=1.0, answering=2.0)
    for number in range(60):
        say(image_server, half, str(number))
        say(image_server, none, str(number))
    until_said(image_server, half, "AllTraffic", "59")
    until_said(image_server, none, "AllTraffic", "59")
    # Fewer than 5 or more than 55 of 60 come once in 10^11 times.
    assert 5 <= len(lines(image_server, half, SHADOW)) <= 55
    assert lines(image_server, none, SHADOW) == []


def test_a_shadow_that_dies_or_hangs_disturbs_no_answer(image_server: Server, store: str) -> None:
    well = own_model(image_server, store, NAME="well")
    for trouble in ("die", "hang"):
        endpoint = deploy(image_server, well, own_model(image_server, store, TROUBLE=trouble))
        # More than may wait for it.
        for number in range(12):
            answer = say(image_server, endpoint, f"{trouble} {number}")
            assert answer == {"variant": "AllTraffic", "text": "well"}
        until_said(image_server, endpoint, SHADOW, f"{trouble} 0")
        # Which does not wait for those that hang.
        image_server.sagemaker.delete_endpoint(EndpointName=endpoint)
        until_gone(image_server, endpoint)


def test_a_shadow_is_not_addressed_and_there_is_one_at_most(
    image_server: Server, store: str
) -> None:
    model = own_model(image_server, store)
    endpoint = deploy(image_server, model, model)
    answer = refusal(
        lambda: image_server.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=b"{}", TargetVariant=SHADOW
        )
    )
    assert answer["Error"]["Code"] == "ValidationError"
    answer = refusal(
        lambda: image_server.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("c"),
            ProductionVariants=[variant(model), variant(model, "other")],
            ShadowProductionVariants=[variant(model, SHADOW)],
        )
    )
    assert "only one variant for ProductionVariants" in answer["Error"]["Message"]
