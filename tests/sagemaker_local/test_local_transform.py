"""Batch transform jobs: what comes out, what is refused, and how they end."""

import gzip
import json
import re
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from botocore.exceptions import WaiterError

from formats import ndarray_file, recordio
from tests.sagemaker_local.rig import (
    PATIENCE_SECONDS,
    ROLE,
    Server,
    as_csv,
    as_recordio,
    blobs,
    refusal,
    transform_job,
    unique,
    wait_until_ended,
)
from tests.sagemaker_local.test_local_contract_serving import own_model
from tests.sagemaker_local.test_local_lists import with_faults
from tests.sagemaker_local.test_local_script_mode import IMAGE as SCRIPT_IMAGE
from tests.sagemaker_local.test_local_script_mode import SCRIPT, archive, script_job

GROUP = "/aws/sagemaker/TransformJobs"
RECORDIO = "application/x-recordio-protobuf"


def started(server: Server, bucket: str, model: str, data: dict[str, bytes], **changes: Any) -> str:
    """The name of a job for these objects, which has begun."""
    name = unique("transform")
    for key, body in data.items():
        server.s3.put_object(Bucket=bucket, Key=f"{name}/in/{key}", Body=body)
    server.sagemaker.create_transform_job(**transform_job(name, bucket, model, **changes))
    return name


def outputs(server: Server, bucket: str, name: str) -> dict[str, bytes]:
    """What a job has left, by the keys below its S3OutputPath."""
    prefix = f"{name}/out/"
    listed = server.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {
        item["Key"].removeprefix(prefix): server.s3.get_object(Bucket=bucket, Key=item["Key"])[
            "Body"
        ].read()
        for item in listed
    }


def completed(server: Server, bucket: str, name: str) -> dict[str, bytes]:
    described = server.transformed(name)
    assert described["TransformJobStatus"] == "Completed", described
    assert described["TransformEndTime"] >= described["TransformStartTime"]
    return outputs(server, bucket, name)


def failed(server: Server, name: str) -> str:
    """The reason."""
    with pytest.raises(WaiterError):
        server.transformed(name)
    described = server.sagemaker.describe_transform_job(TransformJobName=name)
    assert described["TransformJobStatus"] == "Failed"
    return described["FailureReason"]


def log(server: Server, name: str) -> str:
    events = server.logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")
    return "\n".join(event["message"] for event in events["events"])


def until_half_answered(server: Server, name: str, number: int) -> None:
    """Waits until there is an answer for an object: the request behind it is next."""
    answers = server.data_dir / "jobs" / f"transform-job-{name}" / f"{number}.out"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answers.exists() and answers.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("strategy", ["MultiRecord", "SingleRecord"])
@pytest.mark.parametrize(
    ("split", "content_type", "encode"),
    [("Line", "text/csv", as_csv), ("RecordIO", RECORDIO, as_recordio)],
    ids=["csv", "recordio"],
)
def test_kmeans_answers_as_its_endpoint_does_and_as_numpy_has_it(
    server: Server,
    store: str,
    model: str,
    trained: str,
    endpoint: str,
    strategy: str,
    split: str,
    content_type: str,
    encode: Any,
) -> None:
    points = {"a.data": blobs(70, seed=3)[0], "deep/b.data": blobs(50, seed=4)[0]}
    data = {key: encode(rows) for key, rows in points.items()}
    name = started(
        server,
        store,
        model,
        data,
        BatchStrategy=strategy,
        input={"ContentType": content_type, "SplitType": split},
    )
    written = completed(server, store, name)
    assert sorted(written) == ["a.data.out", "deep/b.data.out"]
    key = trained.removeprefix(f"s3://{store}/")
    artifact = server.s3.get_object(Bucket=store, Key=key)["Body"].read()
    centroids = ndarray_file.unpack_model(artifact)
    for key, rows in points.items():
        answer = server.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=data[key], ContentType=content_type, Accept="text/csv"
        )
        answers = written[f"{key}.out"]
        # One request or seventy: a product of matrices may differ in its last digit.
        mine, asked = (
            np.loadtxt(text.decode().splitlines(), delimiter=",")
            for text in (answers, answer["Body"].read())
        )
        np.testing.assert_allclose(mine, asked, rtol=1e-5)
        distances = np.linalg.norm(rows[:, None] - centroids[None], axis=2)
        np.testing.assert_array_equal(mine[:, 0], distances.argmin(axis=1))
        np.testing.assert_allclose(mine[:, 1], distances.min(axis=1), rtol=1e-4)


def test_a_manifest_names_the_objects_and_gzip_is_unpacked(
    server: Server, store: str, model: str
) -> None:
    points, _ = blobs(20)
    folder = unique("manifest")
    for key, body in {
        "x/one.gz": gzip.compress(as_csv(points[:5])),
        "two.gz": gzip.compress(as_csv(points[5:])),
        "not-named.gz": b"no gzip",
        "manifest": json.dumps(
            [{"prefix": f"s3://{store}/{folder}/"}, "x/one.gz", "two.gz"]
        ).encode(),
    }.items():
        server.s3.put_object(Bucket=store, Key=f"{folder}/{key}", Body=body)
    place = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{store}/{folder}/manifest"}
    name = started(
        server,
        store,
        model,
        {},
        input={"DataSource": {"S3DataSource": place}, "CompressionType": "Gzip"},
    )
    written = completed(server, store, name)
    lines = {key: body.count(b"\n") for key, body in written.items()}
    assert lines == {"two.gz.out": 15, "x/one.gz.out": 5}


def test_a_script_that_was_trained_here_transforms(image_server: Server, store: str) -> None:
    sources = archive(train__py=SCRIPT)
    described = script_job(image_server, store, sources, **{"max-depth": 1, "criterion": "gini"})
    job = described["TrainingJobName"]
    container = {
        "Image": SCRIPT_IMAGE,
        "ModelDataUrl": described["ModelArtifacts"]["S3ModelArtifacts"],
        "Environment": {
            "SAGEMAKER_PROGRAM": "train.py",
            "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{store}/{job}/sourcedir.tar.gz",
        },
    }
    image_server.sagemaker.create_model(
        ModelName=job, PrimaryContainer=container, ExecutionRoleArn=ROLE
    )
    rows = {"rows.csv": b"[[0.1]]\n[[0.95]]\n"}
    name = started(
        image_server,
        store,
        job,
        rows,
        BatchStrategy="SingleRecord",
        input={"ContentType": "application/json"},
        output={"Accept": "application/json"},
    )
    assert completed(image_server, store, name) == {"rows.csv.out": b"[0.0]\n[1.0]\n"}


BLOCK = b"x" * 400_000 + b"\n"


@pytest.mark.parametrize(
    ("strategy", "split", "assemble", "written"),
    [
        ("SingleRecord", "Line", "None", b"<a\n><b\n><c>"),
        ("SingleRecord", "Line", "Line", b"<a\n>\n<b\n>\n<c>\n"),
        ("MultiRecord", "Line", "Line", b"<a\nb\nc>\n"),
        ("MultiRecord", "None", "None", b"<a\n\nb\nc>"),
    ],
)
def test_records_become_requests_and_answers_one_object(
    image_server: Server, store: str, strategy: str, split: str, assemble: str, written: bytes
) -> None:
    """In the order of the records, however many requests are under way."""
    name = started(
        image_server,
        store,
        own_model(image_server, store, ECHO="1"),
        {"it": b"a\n\nb\nc"},
        BatchStrategy=strategy,
        MaxConcurrentTransforms=3,
        input={"SplitType": split},
        output={"AssembleWith": assemble},
    )
    assert completed(image_server, store, name) == {"it.out": written}


def test_as_many_records_share_a_request_as_fit_into_the_payload(
    image_server: Server, store: str
) -> None:
    echo = own_model(image_server, store, ECHO="1")
    name = started(image_server, store, echo, {"it": BLOCK * 5}, MaxPayloadInMB=1)
    written = completed(image_server, store, name)["it.out"]
    assert written == b"".join(b"<" + BLOCK * count + b">\n" for count in (2, 2, 1))


def test_a_record_of_recordio_alone_is_bare_of_its_frame(image_server: Server, store: str) -> None:
    """As AWS says of images, which are no RecordIO without it; among others it keeps it."""
    record = struct.pack("<II", recordio.MAGIC, 5) + b"image" + bytes(3)
    echo = own_model(image_server, store, ECHO="1")
    for strategy, body in (("SingleRecord", b"image"), ("MultiRecord", record)):
        name = started(
            image_server,
            store,
            echo,
            {"it": record},
            BatchStrategy=strategy,
            input={"SplitType": "RecordIO"},
            output={"AssembleWith": "None"},
        )
        assert completed(image_server, store, name) == {"it.out": b"<" + body + b">"}


def test_a_container_finds_what_aws_would_give_it(image_server: Server, store: str) -> None:
    wanted = {"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 3}
    model = own_model(
        image_server,
        store,
        archive(model__txt="a model"),
        MINE="model",
        PARAMETERS=json.dumps(wanted),
    )
    # They meet only if both are under way at once.
    data = {"it": b'{"do": "meet"}\n{"do": "meet"}\n{}\n'}
    name = started(image_server, store, model, data, Environment={"MINE": "job"})
    *met, text = completed(image_server, store, name)["it.out"].splitlines()
    assert met == [b"met", b"met"]
    seen = json.loads(text)
    assert seen["model"] == {"model.txt": "a model"}
    assert (seen["headers"]["content-type"], seen["headers"]["accept"]) == ("text/csv", "text/csv")
    environment = seen["environment"]
    assert (environment["MINE"], environment["SAGEMAKER_BATCH"]) == ("job", "true")
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB" not in environment
    lines = log(image_server, name)
    assert "MaxConcurrentTransforms=2, MaxPayloadInMB=3, BatchStrategy=SINGLE_RECORD" in lines
    assert "serving version 0" in lines
    streams = image_server.logs.describe_log_streams(
        logGroupName=GROUP, logStreamNamePrefix=f"{name}/"
    )["logStreams"]
    machine = rf"{name}/i-[0-9a-f]+-\d+"
    for pattern in (machine, f"{machine}/data-log"):
        assert [one for one in streams if re.fullmatch(pattern, one["logStreamName"])]
    assert not psutil.pid_exists(seen["pid"]), "the container outlived its job"

    name = started(
        image_server,
        store,
        model,
        {"it": b"{}"},
        MaxPayloadInMB=5,
        MaxConcurrentTransforms=4,
        BatchStrategy="MultiRecord",
    )
    environment = json.loads(completed(image_server, store, name)["it.out"])["environment"]
    assert environment["SAGEMAKER_MAX_PAYLOAD_IN_MB"] == "5"
    assert environment["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] == "4"
    assert environment["SAGEMAKER_BATCH_STRATEGY"] == "MULTI_RECORD"


def test_a_refused_record_fails_its_object_and_no_other(
    server: Server, store: str, model: str
) -> None:
    """The reason names object, status and row; there is nothing of the object."""
    points, _ = blobs(30)
    good, bad = as_csv(points), as_csv(points[:2]) + b"\n" + b"x," * 15 + b"1\n"
    data = {"a": good, "b": bad, "c": good, "d": b"1,2\n"}
    name = started(server, store, model, data, MaxPayloadInMB=1)
    reason = failed(server, name)
    assert reason.startswith(
        f"ClientError: s3://{store}/{name}/in/b: Bad HTTP status received from algorithm: 400 ("
    )
    assert "row 3, column 1 is no number" in reason
    assert reason.endswith("(1 more failed, see the job's data-log)")
    assert f"{name}/in/d: Bad HTTP status received from algorithm: 400" in log(server, name)
    written = outputs(server, store, name)
    assert sorted(written) == ["a.out", "c.out"]
    assert written["a.out"] == written["c.out"]
    assert written["a.out"].count(b"\n") == 30


@pytest.mark.parametrize(
    ("body", "given", "words"),
    [
        (b"x" * 1_100_000, {}, "a record has more than the 1 MB that MaxPayloadInMB allows"),
        (b"y" * 1_100_000, {"SplitType": "None"}, "a record has more than the 1 MB"),
        (b"1,2\n" * 9, {"SplitType": "RecordIO"}, "no RecordIO: the magic number is 0x"),
        (as_recordio(blobs(2)[0])[:-5], {"SplitType": "RecordIO"}, "ends within a record"),
        (as_recordio(blobs(1)[0])[:5], {"SplitType": "RecordIO"}, "ends within a record"),
        (b"1,2\n", {"CompressionType": "Gzip"}, "Not a gzipped file"),
        (gzip.compress(b"1,2\n")[:-9], {"CompressionType": "Gzip"}, "end-of-stream marker"),
    ],
    ids=["line", "whole", "no recordio", "cut short", "cut in head", "no gzip", "cut gzip"],
)
def test_an_object_that_cannot_be_read_says_why(
    image_server: Server, store: str, body: bytes, given: dict[str, str], words: str
) -> None:
    echo = own_model(image_server, store, ECHO="1")
    name = started(image_server, store, echo, {"it": body}, MaxPayloadInMB=1, input=given)
    reason = failed(image_server, name)
    assert reason.startswith(f"ClientError: s3://{store}/{name}/in/it: ")
    assert words in reason
    assert outputs(image_server, store, name) == {}


def test_what_is_not_the_records_fault_is_tried_again(image_server: Server, store: str) -> None:
    model = own_model(image_server, store)
    once = json.dumps({"do": "fail_once", "text": unique()}).encode()
    name = started(image_server, store, model, {"it": once})
    completed(image_server, store, name)

    teapot = b'{"do": "status", "status": 418, "text": "a teapot"}'
    for body, words, limits in (
        (once, "Bad HTTP status received from algorithm: 503", {}),
        (b'{"do": "die"}', "Unable to get response from algorithm", {}),
        (b'{"do": "hang"}', "Your invocation timed out", {"InvocationsTimeoutInSeconds": 2}),
        (teapot, "algorithm: 418 (a teapot)", {}),
    ):
        client = {"InvocationsMaxRetries": 0, **limits}
        name = started(image_server, store, model, {"it": body}, ModelClientConfig=client)
        reason = failed(image_server, name)
        assert f"s3://{store}/{name}/in/it: " in reason
        assert words in reason


def test_a_container_that_does_not_come_up_fails_the_job(image_server: Server, store: str) -> None:
    model = own_model(image_server, store, LEAVE="1")
    name = started(image_server, store, model, {"it": b"{}"})
    reason = failed(image_server, name)
    assert "did not pass the ping health check" in reason
    assert "exit code 5" in reason
    assert "endpoint" not in reason
    assert "serving version 0" in log(image_server, name)


@pytest.mark.parametrize(
    ("plan", "words"), [("capacity-error", "CapacityError: "), ("job-failure", "on demand")]
)
def test_a_job_fails_on_demand(
    server: Server, store: str, model: str, plan: str, words: str
) -> None:
    name = unique("transform")
    server.s3.put_object(Bucket=store, Key=f"{name}/in/it", Body=as_csv(blobs(3)[0]))
    with_faults(server, plan).create_transform_job(**transform_job(name, store, model))
    assert words in failed(server, name)
    assert outputs(server, store, name) == {}


def test_a_stopped_job_ends_with_all_its_processes(image_server: Server, store: str) -> None:
    model = own_model(image_server, store)
    data = {"first": b'{"do": "fork"}', "second": b'{}\n{"do": "hang"}\n'}
    name = started(image_server, store, model, data, BatchStrategy="SingleRecord")
    until_half_answered(image_server, name, 1)
    child = psutil.Process(int(outputs(image_server, store, name)["first.out"]))
    image_server.sagemaker.stop_transform_job(TransformJobName=name)
    described = image_server.transformed(name)
    assert described["TransformJobStatus"] == "Stopped"
    assert "FailureReason" not in described
    assert wait_until_ended([child])
    assert list(outputs(image_server, store, name)) == ["first.out"]
    answer = refusal(lambda: image_server.sagemaker.stop_transform_job(TransformJobName=name))
    words = "The request was rejected because the transform job is in status Stopped."
    assert answer["Error"]["Message"] == words
    assert not (image_server.data_dir / "jobs" / f"transform-job-{name}").exists()


def test_a_job_that_is_stopped_while_its_instances_start_leaves_none(
    image_server: Server, store: str, tmp_path: Path
) -> None:
    ready = tmp_path / "pid of the only one that is ready"
    model = own_model(image_server, store, READY=str(ready))
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    name = started(image_server, store, model, {"it": b"{}"}, TransformResources=resources)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (ready.exists() and ready.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    instance = psutil.Process(int(ready.read_text()))
    image_server.sagemaker.stop_transform_job(TransformJobName=name)
    assert image_server.transformed(name)["TransformJobStatus"] == "Stopped"
    assert wait_until_ended([instance])


def test_a_containers_wish_keeps_what_is_under_way_below_awss_limit(
    image_server: Server, store: str
) -> None:
    wanted = json.dumps({"MaxPayloadInMB": 100})
    model = own_model(image_server, store, PARAMETERS=wanted)
    name = started(image_server, store, model, {"it": b"{}"}, MaxConcurrentTransforms=16)
    completed(image_server, store, name)
    assert "MaxConcurrentTransforms=16, MaxPayloadInMB=6" in log(image_server, name)


def test_a_killed_server_fails_the_job_and_leaves_neither_process_nor_half_an_object(
    own_image_server: Server, store: str
) -> None:
    own_image_server.start()
    model = own_model(own_image_server, store)
    data = {"first": b'{"do": "fork"}', "second": b'{}\n{"do": "hang"}\n'}
    name = started(own_image_server, store, model, data, BatchStrategy="SingleRecord")
    until_half_answered(own_image_server, name, 1)
    children = [psutil.Process(int(outputs(own_image_server, store, name)["first.out"]))]
    children += own_image_server.kill()
    assert len(children) >= 3
    assert wait_until_ended(children)
    own_image_server.start()
    assert "restarted" in failed(own_image_server, name)
    assert list(outputs(own_image_server, store, name)) == ["first.out"]
    again = started(own_image_server, store, model, {"it": b"{}"})
    assert list(completed(own_image_server, store, again)) == ["it.out"]


def test_the_memory_does_not_grow_with_the_object(own_image_server: Server, store: str) -> None:
    """64 MB through requests of 1 MB: neither input nor output is ever whole in the server."""
    own_image_server.start()
    assert own_image_server.process is not None
    status = Path(f"/proc/{own_image_server.process.pid}/status")

    def peak_mb() -> float:
        (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(kilobytes) / 1024

    echo = own_model(own_image_server, store, ECHO="1")
    small = started(own_image_server, store, echo, {"it": BLOCK * 3}, MaxPayloadInMB=1)
    completed(own_image_server, store, small)
    before = peak_mb()
    name = started(own_image_server, store, echo, {"it": BLOCK * 160}, MaxPayloadInMB=1)
    written = completed(own_image_server, store, name)["it.out"]
    assert len(written) == 160 * len(BLOCK) + 80 * 3
    assert peak_mb() - before < 40


def test_jobs_are_listed_and_tagged(server: Server, store: str, model: str) -> None:
    client = server.sagemaker
    tags = [{"Key": "a", "Value": "b"}]
    name = started(server, store, model, {"it": as_csv(blobs(3)[0])}, Tags=tags)
    completed(server, store, name)
    arn = client.describe_transform_job(TransformJobName=name)["TransformJobArn"]
    assert client.list_tags(ResourceArn=arn)["Tags"] == tags
    pages = client.get_paginator("list_transform_jobs").paginate(
        NameContains=name, StatusEquals="Completed"
    )
    (only,) = [job for page in pages for job in page["TransformJobSummaries"]]
    assert (only["TransformJobName"], only["TransformJobArn"]) == (name, arn)
    taken = refusal(lambda: client.create_transform_job(**transform_job(name, store, model)))
    assert taken["Error"]["Code"] == "ResourceInUse"
    assert taken["Error"]["Message"] == (
        "Transform job names must be unique within an AWS account and region, and a transform job "
        f"with this name already exists ({arn})"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ModelName": "none"}, 'Could not find model "arn:aws:sagemaker:'),
        ({"MaxPayloadInMB": 0}, "MaxPayloadInMB 0, which sends objects of any size"),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB cannot be greater than 100"),
        ({"MaxPayloadInMB": 30, "MaxConcurrentTransforms": 4}, "cannot exceed 100 MB: 4 * 30"),
        ({"MaxConcurrentTransforms": 17}, "cannot exceed 100 MB: 17 * 6"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "DataProcessing is not supported"),
        ({"input": {"SplitType": "TFRecord"}}, "SplitType TFRecord is not supported"),
        ({"input": {"CompressionType": "Zip"}}, "Member must satisfy enum value set: [None, Gzip]"),
        ({"output": {"S3OutputPath": "https://host/x"}}, "Invalid S3OutputPath"),
        ({}, 'No S3 objects found under S3 URL "s3://'),
    ],
)
def test_what_aws_or_this_server_cannot_do_is_refused(
    server: Server, store: str, model: str, changes: dict[str, Any], words: str
) -> None:
    request = transform_job(unique(), store, model, **changes)
    error = refusal(lambda: server.sagemaker.create_transform_job(**request))["Error"]
    assert error["Code"] == "ValidationException"
    assert words in error["Message"]


def test_a_job_that_never_was_is_not_found(server: Server) -> None:
    for call in (server.sagemaker.describe_transform_job, server.sagemaker.stop_transform_job):
        error = refusal(lambda call=call: call(TransformJobName="none"))["Error"]
        assert (error["Code"], error["Message"]) == (
            "ValidationException",
            "Requested resource not found.",
        )
