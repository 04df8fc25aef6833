"""Endpoints: which model answers, in which format; updates, failures and deletions."""

import asyncio
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from botocore.exceptions import ClientError

from formats import ndarray_file, recordio
from sagemaker_local import deployment_policy
from sagemaker_local.aws_errors import AwsError
from sagemaker_local.config import Config
from sagemaker_local.fleet import Invocation, ServingChild
from sagemaker_local.store import Document
from tests.sagemaker_local.rig import (
    DIMENSIONS,
    IMAGE,
    PATIENCE_SECONDS,
    ROLE,
    Server,
    as_csv,
    as_recordio,
    as_sparse_recordio,
    blobs,
    refusal,
    unique,
    variant,
)

RECORDIO = "application/x-recordio-protobuf"
POINTS, CLUSTER = blobs(20, seed=3)


def nearest(server: Server, uri: str) -> tuple[np.ndarray, np.ndarray]:
    """The expected answers: cluster and Euclidean distance from the artifact, in float64."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    centres = ndarray_file.unpack_model(body).astype(np.float64)
    gaps = np.sqrt(((POINTS[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2))
    return gaps.argmin(axis=1), gaps.min(axis=1)


def read_answer(body: bytes, accept: str) -> list[tuple[float, float]]:
    if accept == "text/csv":
        rows = [line.split(",") for line in body.decode().splitlines()]
        return [(float(a), float(b)) for a, b in rows]
    if accept == RECORDIO:
        return [read_record(payload) for payload in frames(body)]
    if accept == "application/jsonlines":
        rows = [json.loads(line) for line in body.decode().splitlines()]
    else:
        rows = json.loads(body)["predictions"]
    return [(row["closest_cluster"], row["distance_to_cluster"]) for row in rows]


def frames(body: bytes) -> list[bytes]:
    payloads, at = [], 0
    while at < len(body):
        magic, length = np.frombuffer(body, "<u4", 2, at)
        assert magic == 0xCED7230A
        payloads.append(body[at + 8 : at + 8 + int(length)])
        at += 8 + int(length) + -int(length) % 4
    return payloads


def read_record(payload: bytes) -> tuple[float, float]:
    """Cluster and distance, read at the keys' positions; the SDK's test reads them by protobuf."""
    values = []
    for key in (b"closest_cluster", b"distance_to_cluster"):
        at = payload.index(key) + len(key)
        assert payload[at : at + 6] == b"\x12\x08\x12\x06\x0a\x04"
        values.append(float(np.frombuffer(payload, "<f4", 1, at + 6)[0]))
    return values[0], values[1]


def sparse(row: np.ndarray) -> dict[str, list[float]]:
    """A sparse tensor in the format that AWS documents, with keys in descending order."""
    keys = range(DIMENSIONS - 1, -1, -1)
    return {"keys": list(keys), "shape": [DIMENSIONS], "values": [float(row[key]) for key in keys]}


def tensor(keys: Any, values: list[float], shape: list[float] | None) -> bytes:
    """A JSON body of one sparse point, without a shape if that is None."""
    whole = {"keys": keys, "values": values, "shape": shape}
    kept = {name: value for name, value in whole.items() if value is not None}
    return json.dumps({"instances": [{"data": {"features": kept}}]}).encode()


def point(features: str) -> bytes:
    """A JSON body of one dense point."""
    return f'{{"instances":[{{"features":{features}}}]}}'.encode()


BODIES: dict[str, tuple[str, bytes]] = {
    "csv": ("text/csv", as_csv(POINTS)),
    "csv-crlf-and-parameters": ("text/csv; charset=utf-8", as_csv(POINTS).replace(b"\n", b"\r\n")),
    "json-features": (
        "application/json",
        json.dumps({"instances": [{"features": row.tolist()} for row in POINTS]}).encode(),
    ),
    "json-values": (
        "application/json",
        json.dumps(
            {"instances": [{"data": {"features": {"values": row.tolist()}}} for row in POINTS]}
        ).encode(),
    ),
    "jsonlines": (
        "application/jsonlines",
        "\n".join(json.dumps({"features": row.tolist()}) for row in POINTS).encode(),
    ),
    "json-sparse": (
        "application/json",
        json.dumps({"instances": [{"data": {"features": sparse(row)}} for row in POINTS]}).encode(),
    ),
    "json-sparse-and-dense": (
        "application/json",
        json.dumps(
            {
                "instances": [
                    {"features": sparse(row) if number % 2 else row.tolist()}
                    for number, row in enumerate(POINTS)
                ]
            }
        ).encode(),
    ),
    "jsonlines-sparse": (
        "application/jsonlines",
        "\n".join(json.dumps({"data": {"features": sparse(row)}}) for row in POINTS).encode(),
    ),
    "recordio": (RECORDIO, as_recordio(POINTS)),
    "recordio-sparse": (RECORDIO, as_sparse_recordio(POINTS)),
    "recordio-labelled": (RECORDIO, as_recordio(POINTS, CLUSTER.astype(np.float32))),
}


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize(
    "accept", ["application/json", "application/jsonlines", "text/csv", RECORDIO]
)
def test_every_content_type_gets_the_nearest_centroid(
    server: Server, endpoint: str, trained: str, form: str, accept: str
) -> None:
    kind, body = BODIES[form]
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType=kind, Accept=accept, Body=body
    )
    assert answer["ContentType"] == accept
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    got = np.array(read_answer(answer["Body"].read(), accept))
    clusters, distances = nearest(server, trained)
    assert got[:, 0].tolist() == clusters.tolist()
    assert got[:, 1] == pytest.approx(distances, rel=1e-5)


def test_the_answer_is_json_without_an_accept_header(server: Server, endpoint: str) -> None:
    one = {"data": {"features": {"values": POINTS[0].tolist()}}}
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint,
        ContentType="application/json",
        Body=json.dumps(one),
        CustomAttributes="trace=1",
    )
    assert answer["ContentType"] == "application/json"
    assert answer["CustomAttributes"] == "trace=1"
    (row,) = json.loads(answer["Body"].read())["predictions"]
    assert set(row) == {"closest_cluster", "distance_to_cluster"}


@pytest.mark.parametrize("kind", ["application/json", "application/jsonlines", RECORDIO])
def test_a_sparse_point_has_zeros_where_it_has_no_key(
    server: Server, store: str, endpoint: str, kind: str
) -> None:
    """One of the points has no key at all: all its values are zero."""
    points = np.zeros((3, DIMENSIONS), np.float32)
    points[0, [2, 9]] = [-4.5, 7]
    points[2, DIMENSIONS - 1] = 1
    rows = [
        {"keys": [9, 2], "shape": [DIMENSIONS], "values": [7, -4.5]},
        {"keys": [], "shape": [DIMENSIONS], "values": []},
        {"keys": [DIMENSIONS - 1], "shape": [4, DIMENSIONS // 4], "values": [1]},
    ]
    instances = [{"data": {"features": row}} for row in rows]
    body = {
        "application/json": json.dumps({"instances": instances}).encode(),
        "application/jsonlines": "\n".join(map(json.dumps, instances)).encode(),
        RECORDIO: as_sparse_recordio(points),
    }[kind]
    answers = [
        server.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType=content_type, Accept="text/csv", Body=content
        )["Body"].read()
        for content_type, content in ((kind, body), ("text/csv", as_csv(points)))
    ]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == 3


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("text/csv", b"", 400, "empty"),
        ("text/csv", b"1,2,3", 400, "takes 16 values a point, not 3"),
        ("text/csv", b"a,b", 400, "not CSV of numbers"),
        ("text/csv", b"1,2\n1,2,3", 400, "row 2 has 3 values"),
        ("text/csv", b",".join([b"nan"] * DIMENSIONS), 400, "not finite"),
        ("application/json", b"{", 400, "unable to parse"),
        ("application/json", b'{"instances":[]}', 400, "not empty"),
        ("application/json", b'{"instances":[{"feature":[1]}]}', 400, "an instance must be"),
        ("application/json", b'{"instances":[{"features":["x"]}]}', 400, "unable to parse"),
        ("application/jsonlines", b"", 400, "empty"),
        (RECORDIO, b"garbage!", 400, "magic number"),
        (RECORDIO, as_recordio(POINTS)[:-4], 400, "ends within"),
        ("text/csv", b"1,2\n3,secret", 400, "row 2, column 2 is no number"),
        ("text/csv", b"1," * 15 + b"1_0", 400, "row 1, column 16 is no number"),
        ("application/json", point("[true]"), 400, "must be a list of numbers"),
        ("application/json", point('["1"]'), 400, "must be a list of numbers"),
        ("application/json", point(f"[{'1e999,' * 15}1]"), 400, "not finite"),
        ("application/json", point("[1]"), 400, "takes 16 values a point, not 1"),
        ("application/json", tensor([0], [1], None), 400, "instance 1: a sparse tensor must have"),
        ("application/json", tensor([0], [1], [17]), 400, "takes 16 values a point, not 17"),
        ("application/json", tensor([16], [1], [16]), 400, "the key 16 is beyond"),
        ("application/json", tensor([2**64], [1], [16]), 400, "instance 1: "),
        ("application/json", tensor([-1], [1], [16]), 400, "negative"),
        ("application/json", tensor([3, 3], [1, 2], [16]), 400, "the key 3 is given twice"),
        ("application/json", tensor([3, 4], [1], [16]), 400, "2 keys are given for 1 values"),
        ("application/json", tensor([3.0], [1], [16]), 400, '"keys" must be a list of whole'),
        ("application/json", tensor([True], [1], [16]), 400, '"keys" must be a list of whole'),
        ("application/json", tensor("3", [1], [16]), 400, '"keys" must be a list of whole'),
        ("application/json", tensor([3], [False], [16]), 400, '"values" must be a list of'),
        ("application/json", tensor([3], [1], [16.0]), 400, '"shape" must be a list of whole'),
        ("application/json", tensor([], [1, 2], [16]), 400, "2 values are given for shape [16]"),
        (RECORDIO, as_sparse_recordio(np.ones((1, 17), np.float32)), 400, "17 features, not 16"),
        (RECORDIO, as_recordio(np.ones((1, 17), np.float32)), 400, "17 features, not 16"),
        ("image/png", b"x", 415, "Content-type image/png not supported"),
    ],
)
def test_a_bad_body_is_the_models_error(
    server: Server, endpoint: str, kind: str, body: bytes, status: int, words: str
) -> None:
    """ModelError has the container's status and message; the endpoint goes on serving."""
    answer = refusal(
        lambda: server.runtime.invoke_endpoint(EndpointName=endpoint, ContentType=kind, Body=body)
    )
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["OriginalStatusCode"] == status
    assert words in answer["OriginalMessage"]
    assert "secret" not in answer["OriginalMessage"]
    assert answer["Error"]["Message"].startswith(f"Received client error ({status}) from primary")
    assert "/aws/sagemaker/Endpoints/" in answer["LogStreamArn"]
    assert len(server.predict(endpoint, POINTS[:1])) == 1


def test_bodies_up_to_the_limit_are_served_and_larger_ones_refused(
    server: Server, endpoint: str
) -> None:
    record = as_recordio(POINTS[:1])
    most = 6_291_456 // len(record)
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType=RECORDIO, Accept="text/csv", Body=record * most
    )
    assert len(answer["Body"].read().splitlines()) == most
    with pytest.raises(ClientError, match="less than or equal to 6291456"):
        server.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType=RECORDIO, Body=record * (most + 1)
        )


def test_weights_share_the_traffic_and_can_be_changed(
    server: Server, model: str, flipped: str
) -> None:
    name = server.deploy(unique("w"), variant(model, "a", 3.0), variant(flipped, "b", 1.0))
    asked = Counter(invoked(server, name) for _ in range(200))
    assert 25 <= asked["b"] <= 80, asked
    assert invoked(server, name, TargetVariant="b") == "b"
    with pytest.raises(ClientError, match="Variant c not found"):
        invoked(server, name, TargetVariant="c")

    none = [{"VariantName": "a", "DesiredInstanceCount": 0}]
    with pytest.raises(ClientError, match="DesiredInstanceCount of variant a must be at least 1"):
        server.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=none
        )
    wanted = [{"VariantName": "a", "DesiredWeight": 0.0, "DesiredInstanceCount": 2}]
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=wanted
    )
    description = server.in_service(name)
    assert Counter(invoked(server, name) for _ in range(30)) == {"b": 30}
    (first, _) = description["ProductionVariants"]
    assert (first["CurrentWeight"], first["CurrentInstanceCount"]) == (0.0, 2)
    server.sagemaker.delete_endpoint(EndpointName=name)


def invoked(server: Server, endpoint: str, **more: Any) -> str:
    answer = server.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="text/csv", Body=as_csv(POINTS[:1]), **more
    )
    return answer["InvokedProductionVariant"]


def config(server: Server, model: str) -> str:
    name = unique("c")
    server.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant(model)]
    )
    return name


def origin() -> np.ndarray:
    """A point at which `flipped` answers 1, and which is far from the centroids of `model`."""
    return np.zeros((1, DIMENSIONS), np.float32)


def test_an_update_never_leaves_a_request_unanswered(
    server: Server, model: str, flipped: str
) -> None:
    """While the status is Updating, the old model answers; from InService on, the new one alone."""
    name = server.deploy(unique("before"), variant(flipped))
    after = config(server, model)
    old = server.predict(name, origin())
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=after)
    answers = 0
    while True:
        description = server.sagemaker.describe_endpoint(EndpointName=name)
        server.predict(name, origin())
        answers += 1
        if description["EndpointStatus"] == "InService":
            break
        assert description["PendingDeploymentSummary"]["EndpointConfigName"] == after
    assert answers > 1
    assert description["EndpointConfigName"] == after
    assert old == [1]
    assert server.predict(name, POINTS) == server.predict(name, POINTS)
    assert len(set(server.predict(name, POINTS))) > 2
    server.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize("harm", ["not an archive", "deleted", "other content"])
def test_a_failed_update_leaves_the_old_model_serving_and_says_why(
    server: Server, store: str, flipped: str, harm: str
) -> None:
    name = server.deploy(unique("good"), variant(flipped))
    before = server.sagemaker.describe_endpoint(EndpointName=name)
    key = f"{unique('broken')}/model.tar.gz"
    body = ndarray_file.pack_model(np.zeros((2, DIMENSIONS), np.float32))
    if harm == "not an archive":
        body = b"these bytes are no tar.gz"
    elif harm == "other content":
        body = body[: len(body) // 2]
    server.s3.put_object(Bucket=store, Key=key, Body=body)
    broken = unique("broken")
    server.sagemaker.create_model(
        ModelName=broken,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{store}/{key}"},
        ExecutionRoleArn=ROLE,
    )
    wanted = config(server, broken)
    if harm == "deleted":
        server.s3.delete_object(Bucket=store, Key=key)
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=wanted)
    description = server.in_service(name)
    assert description["EndpointConfigName"] == before["EndpointConfigName"]
    expected = "Failed to download model data" if harm == "deleted" else "ping health check"
    assert expected in description["FailureReason"]
    assert "PendingDeploymentSummary" not in description
    assert server.predict(name, origin()) == [1]
    # A successful update clears the reason.
    server.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config(server, flipped))
    assert "FailureReason" not in server.in_service(name)
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_an_endpoint_that_cannot_start_is_failed_and_can_only_be_deleted(
    server: Server, store: str, flipped: str
) -> None:
    model = unique("gone")
    server.s3.put_object(Bucket=store, Key="gone/model.tar.gz", Body=b"x")
    server.sagemaker.create_model(
        ModelName=model,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{store}/gone/model.tar.gz"},
        ExecutionRoleArn=ROLE,
    )
    name = unique("ep")
    server.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config(server, model))
    description = server.sagemaker.describe_endpoint(EndpointName=name)
    while description["EndpointStatus"] == "Creating":
        time.sleep(0.05)
        description = server.sagemaker.describe_endpoint(EndpointName=name)
    assert description["EndpointStatus"] == "Failed"
    assert "ping health check" in description["FailureReason"]
    with pytest.raises(ClientError, match="not found"):
        server.predict(name, origin())
    with pytest.raises(ClientError, match="DeleteEndpoint is the only operation"):
        server.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=config(server, flipped)
        )
    server.sagemaker.delete_endpoint(EndpointName=name)
    server.sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 10 * PATIENCE_SECONDS}
    )


def test_an_endpoint_outlives_its_model_config_and_artifact(server: Server, store: str) -> None:
    """As on AWS, which serves from its own copy: only the next update needs them."""
    key = f"{unique('mortal')}/model.tar.gz"
    centroids = np.array([[9.0] * DIMENSIONS, [0.0] * DIMENSIONS], np.float32)
    server.s3.put_object(Bucket=store, Key=key, Body=ndarray_file.pack_model(centroids))
    model = unique("mortal")
    server.sagemaker.create_model(
        ModelName=model,
        PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{store}/{key}"},
        ExecutionRoleArn=ROLE,
    )
    wanted = unique("mortal")
    name = server.deploy(wanted, variant(model))
    server.sagemaker.delete_model(ModelName=model)
    server.sagemaker.delete_endpoint_config(EndpointConfigName=wanted)
    server.s3.delete_object(Bucket=store, Key=key)
    assert server.predict(name, origin()) == [1]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_a_canary_gets_its_share_before_all_traffic_moves(
    server: Server, model: str, flipped: str
) -> None:
    name = server.deploy(unique("blue"), variant(flipped))
    policy = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 30},
                "WaitIntervalInSeconds": 300,
            }
        }
    }
    half_and_more = shifting("CANARY", "INSTANCE_COUNT", 1)
    with pytest.raises(ClientError, match="CanarySize must be at most 50%"):
        server.sagemaker.update_endpoint(
            EndpointName=name,
            EndpointConfigName=config(server, model),
            DeploymentConfig=half_and_more,
        )
    server.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=config(server, model), DeploymentConfig=policy
    )
    far = np.full((1, DIMENSIONS), 990.0, np.float32)
    answers: Counter[str] = Counter()
    while server.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating":
        # `flipped` has a centroid near this point and the trained model has none.
        answers[distance_class(server, name, far)] += 1
    assert answers["old"] > answers["new"] > 0, answers
    assert distance_class(server, name, far) == "new"
    assert server.in_service(name)["LastDeploymentConfig"] == policy
    server.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize(
    ("kind", "size", "value", "expected"),
    [
        ("CANARY", "CAPACITY_PERCENT", 30, [30.0]),
        ("CANARY", "INSTANCE_COUNT", 1, [12.5]),
        ("LINEAR", "INSTANCE_COUNT", 2, [25.0, 50.0, 75.0]),
    ],
)
def test_a_number_of_instances_is_its_share_of_the_fleet(
    kind: str, size: str, value: int, expected: list[float]
) -> None:
    deployment, snapshot = shifting(kind, size, value), fleet_of(4, 4)
    deployment_policy.check(deployment, snapshot, snapshot)
    steps = list(deployment_policy.stages(snapshot, deployment))
    assert steps == [(percent, 60.0) for percent in expected]


@pytest.mark.parametrize(
    ("kind", "size", "value", "counts", "variant"),
    [
        ("CANARY", "CAPACITY_PERCENT", 51, (1,), "v0"),
        ("CANARY", "INSTANCE_COUNT", 1, (1,), "v0"),
        ("CANARY", "INSTANCE_COUNT", 2, (4, 3), "v1"),
        ("LINEAR", "CAPACITY_PERCENT", 9, (4,), "v0"),
        ("LINEAR", "INSTANCE_COUNT", 1, (10, 11), "v1"),
        ("LINEAR", "INSTANCE_COUNT", 6, (11,), "v0"),
    ],
)
def test_a_step_of_an_update_is_at_most_half_of_each_variant(
    kind: str, size: str, value: int, counts: tuple[int, ...], variant: str
) -> None:
    """And a linear one at least a tenth, by the documentation of TrafficRoutingConfig."""
    snapshot = fleet_of(*counts)
    with pytest.raises(AwsError, match=f"Size must be .*50%.* variant {variant} with") as caught:
        deployment_policy.check(shifting(kind, size, value), snapshot, snapshot)
    assert caught.value.code == "ValidationException"


def shifting(kind: str, size: str, value: int) -> Document:
    """A DeploymentConfig with a minute for each step."""
    member = "CanarySize" if kind == "CANARY" else "LinearStepSize"
    step = {"Type": size, "Value": value}
    routing = {"Type": kind, member: step, "WaitIntervalInSeconds": 60}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}


def fleet_of(*counts: int) -> Document:
    """A snapshot of variants with so many instances, and of a shadow, which gets no traffic."""
    variants = [
        {"VariantName": f"v{number}", "DesiredInstanceCount": count}
        for number, count in enumerate(counts)
    ]
    return {
        "variants": variants,
        "shadows": [{"VariantName": "shadow", "DesiredInstanceCount": 1}],
    }


def distance_class(server: Server, name: str, point: np.ndarray) -> str:
    answer = server.runtime.invoke_endpoint(
        EndpointName=name, ContentType="text/csv", Accept="text/csv", Body=as_csv(point)
    )
    distance = float(answer["Body"].read().decode().strip().split(",")[1])
    return "old" if distance < 100 else "new"


def test_a_killed_serving_process_is_replaced(server: Server, flipped: str) -> None:
    assert server.process is not None
    before = set(psutil.Process(server.process.pid).children())
    name = server.deploy(unique("victim"), variant(flipped))
    (child,) = set(psutil.Process(server.process.pid).children()) - before
    child.kill()
    assert server.predict(name, origin()) == [1]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_a_cancelled_request_leaves_the_next_one_its_own_answer(tmp_path: Path) -> None:
    """Cancelled while the serving process starts, which a request waits for."""
    model = tmp_path / "model.tar.gz"
    model.write_bytes(ndarray_file.pack_model(np.eye(2, dtype=np.float32)))
    child = ServingChild(Config(tmp_path, "key", "secret"), "one", model)

    async def ask(row: bytes) -> bytes:
        return (await child.invoke(Invocation(row, "text/csv", "text/csv"))).body

    async def talk() -> list[bytes]:
        before = set(psutil.Process().children())
        hasty = asyncio.create_task(ask(b"1,0"))
        # Its process exists by then and is still importing modules.
        while not set(psutil.Process().children()) - before:
            await asyncio.sleep(0.01)
        hasty.cancel()
        await asyncio.wait([hasty])
        try:
            return [await ask(b"1,0"), await ask(b"0,1")]
        finally:
            await child.close()

    assert asyncio.run(talk()) == [b"0.0,0.0\n", b"1.0,0.0\n"]


def test_recordio_answers_are_recordio() -> None:
    """Checks `frames` above: it splits records as the encoder in `formats` joins them."""
    body = as_recordio(POINTS[:2])
    assert len(frames(body)) == 2
    assert recordio.decode(body)[0].shape == (2, DIMENSIONS)


def test_the_memory_stays_flat_over_many_requests(server: Server, endpoint: str) -> None:
    """That of the server and of its serving processes."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    family = [process, *process.children()]

    def held() -> int:
        return sum(member.memory_info().rss for member in family if member.is_running())

    def growth() -> int:
        before = held()
        for _ in range(1000):
            invoked(server, endpoint)
        return held() - before

    for _ in range(300):
        invoked(server, endpoint)
    # What leaks grows every time; what tests before this one have left behind, but once.
    assert any(growth() < 4 * 1024 * 1024 for _ in range(3))
    assert process.memory_info().rss < 150 * 1024 * 1024


def serving(server: Server) -> set[psutil.Process]:
    assert server.process is not None
    children = psutil.Process(server.process.pid).children()
    return {child for child in children if "sagemaker_local.serving" in child.cmdline()}


def test_instances_are_processes_that_answer_side_by_side(server: Server, flipped: str) -> None:
    """As many as the variant has instances, and at most one for each core."""
    cores = os.cpu_count() or 1
    before = serving(server)
    many = {**variant(flipped), "InitialInstanceCount": cores + 1}
    name = server.deploy(unique("many"), many)
    children = serving(server) - before
    assert len(children) == cores
    idle = {child: child.cpu_times().user for child in children}
    body = as_recordio(np.zeros((50_000, DIMENSIONS), np.float32))

    def ask(_: int) -> None:
        server.runtime.invoke_endpoint(
            EndpointName=name, ContentType=RECORDIO, Accept="text/csv", Body=body
        )

    with ThreadPoolExecutor(2 * cores) as pool:
        list(pool.map(ask, range(4 * cores)))
    assert all(child.cpu_times().user > idle[child] for child in children)

    fewer = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
    server.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=fewer
    )
    server.in_service(name)
    assert len(serving(server) - before) == 1
    assert server.predict(name, origin()) == [1]
    server.sagemaker.delete_endpoint(EndpointName=name)


def test_a_serving_process_has_limits_of_time_and_memory(own_server: Server, store: str) -> None:
    """One that hangs is replaced; one that lacks memory for a request says so and goes on."""
    own_server.extra = {
        **own_server.extra,
        "EMBEDDED_SAGEMAKER_INVOKE_SECONDS": "1",
        "EMBEDDED_SAGEMAKER_SERVING_MEMORY_MB": "128",
    }
    own_server.start()
    own_server.s3.put_object(
        Bucket=store,
        Key="limits/model.tar.gz",
        Body=ndarray_file.pack_model(np.eye(1000, DIMENSIONS, dtype=np.float32)),
    )
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{store}/limits/model.tar.gz"}
    own_server.sagemaker.create_model(
        ModelName="m", PrimaryContainer=container, ExecutionRoleArn=ROLE
    )
    name = own_server.deploy("c", variant("m"))
    # Distances of 50,000 points to a thousand centroids are 200 MB.
    body = as_recordio(np.zeros((50_000, DIMENSIONS), np.float32))
    answer = refusal(
        lambda: own_server.runtime.invoke_endpoint(
            EndpointName=name, ContentType=RECORDIO, Body=body
        )
    )
    assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", 500)
    assert "needs more memory" in answer["OriginalMessage"]
    (hung,) = serving(own_server)
    hung.suspend()
    assert own_server.predict(name, np.eye(1, DIMENSIONS, dtype=np.float32)) == [0]
    assert hung not in serving(own_server)
