"""Training jobs: their artifacts, how they end, and what DescribeTrainingJob says meanwhile."""

import gzip
import json

import numpy as np
import pytest

from formats import ndarray_file
from tests.sagemaker_local.rig import (
    CLUSTERS,
    DIMENSIONS,
    Server,
    as_csv,
    as_recordio,
    as_sparse_recordio,
    blobs,
    channel,
    job,
    unique,
)


def centroids(server: Server, uri: str) -> np.ndarray:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return ndarray_file.unpack_model(server.s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def mean_squared(points: np.ndarray, centres: np.ndarray) -> float:
    """The expected loss: every distance, in float64, without any library."""
    gaps = points[:, None, :].astype(np.float64) - centres[None, :, :].astype(np.float64)
    return float((gaps**2).sum(axis=2).min(axis=1).mean())


def test_a_job_finds_the_clusters_and_describes_its_progress(server: Server, store: str) -> None:
    """Status history, metrics, times and artifact."""
    test_points, _ = blobs(100, seed=2)
    server.s3.put_object(Bucket=store, Key="test/data.rec", Body=as_recordio(test_points))
    name = unique("job")
    channels = [channel("train", f"s3://{store}/train/"), channel("test", f"s3://{store}/test/")]
    parameters = job(name, store)["HyperParameters"] | {"eval_metrics": '["msd","ssd"]'}
    server.sagemaker.create_training_job(
        **job(name, store, InputDataConfig=channels, HyperParameters=parameters)
    )
    description = server.finished(name)

    assert (description["TrainingJobStatus"], description["SecondaryStatus"]) == (
        "Completed",
        "Completed",
    )
    history = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    assert history == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert all(
        transition["EndTime"] >= transition["StartTime"]
        for transition in description["SecondaryStatusTransitions"]
    )
    assert description["TrainingTimeInSeconds"] == description["BillableTimeInSeconds"] >= 1
    uri = description["ModelArtifacts"]["S3ModelArtifacts"]
    assert uri == f"s3://{store}/models/{name}/output/model.tar.gz"

    centres = centroids(server, uri)
    assert centres.shape == (CLUSTERS, DIMENSIONS)
    points, cluster = blobs()
    truth = np.stack([points[cluster == number].mean(axis=0) for number in range(CLUSTERS)])
    assert mean_squared(truth, centres) < 1e-6

    metrics = {
        metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]
    }
    assert metrics["train:progress"] == 100.0
    assert metrics["train:throughput"] > 0
    assert metrics["train:msd"] == pytest.approx(mean_squared(points, centres), rel=1e-4)
    assert metrics["test:msd"] == pytest.approx(mean_squared(test_points, centres), rel=1e-4)
    assert metrics["test:ssd"] == pytest.approx(metrics["test:msd"] * 100, rel=1e-4)


def test_the_same_job_twice_makes_the_same_bytes(server: Server, store: str, trained: str) -> None:
    name = unique("again")
    server.sagemaker.create_training_job(**job(name, store))
    again = server.finished(name)["ModelArtifacts"]["S3ModelArtifacts"]
    assert np.array_equal(centroids(server, again), centroids(server, trained))


@pytest.mark.parametrize(
    ("content_type", "form", "more"),
    [
        ("text/csv;label_size=0", "csv", {}),
        ("text/csv", "labelled-csv", {}),
        ("application/x-recordio-protobuf", "manifest", {}),
        ("application/x-recordio-protobuf", "gzip", {"CompressionType": "Gzip"}),
        ("application/x-recordio-protobuf", "sharded", {}),
    ],
    ids=["csv", "csv-with-label", "manifest-file", "gzip", "two-instances-sharded"],
)
def test_all_forms_of_the_same_data_give_the_same_clusters(
    server: Server, store: str, content_type: str, form: str, more: dict[str, str]
) -> None:
    points, cluster = blobs()
    half = len(points) // 2
    prefix, kind, source = f"{form}/", "S3Prefix", {}
    bodies = {"a": as_recordio(points[:half]), "b": as_recordio(points[half:])}
    if form == "csv":
        bodies = {"a": as_csv(points[:half]) + b"\n", "b": as_csv(points[half:])}
    elif form == "labelled-csv":
        bodies = {"a": as_csv(np.column_stack([cluster.astype(np.float32), points]))}
    elif form == "gzip":
        bodies = {key: gzip.compress(body) for key, body in bodies.items()}
    elif form == "manifest":
        bodies["c"] = b"not named in the manifest, so never read"
        names = [{"prefix": f"s3://{store}/{prefix}"}, "a", "b"]
        server.s3.put_object(Bucket=store, Key="manifest.json", Body=json.dumps(names))
        kind = "ManifestFile"
    elif form == "sharded":
        source = {"S3DataDistributionType": "ShardedByS3Key"}
    for key, body in bodies.items():
        server.s3.put_object(Bucket=store, Key=prefix + key, Body=body)
    uri = f"s3://{store}/manifest.json" if kind == "ManifestFile" else f"s3://{store}/{prefix}"
    resources = job("x", store)["ResourceConfig"] | {"InstanceCount": 2 if source else 1}
    name = unique(form)
    train = channel("train", uri, kind, ContentType=content_type, source=source, **more)
    server.sagemaker.create_training_job(
        **job(name, store, InputDataConfig=[train], ResourceConfig=resources)
    )
    description = server.finished(name)
    assert description["TrainingJobStatus"] == "Completed", description.get("FailureReason")
    centres = centroids(server, description["ModelArtifacts"]["S3ModelArtifacts"])
    truth = np.stack([points[cluster == number].mean(axis=0) for number in range(CLUSTERS)])
    assert mean_squared(truth, centres) < 1e-6
    if source:
        streams = server.logs.describe_log_streams(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
        )["logStreams"]
        hosts = [stream["logStreamName"].split("/")[1].rsplit("-", 1)[0] for stream in streams]
        assert hosts == ["algo-1", "algo-2"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"k": None}, "'k' is a required property"),
        ({"k": "0"}, "less than the minimum of 1"),
        ({"k": "many"}, "not of type 'integer'"),
        ({"k": "1_0"}, "'1_0' is not of type 'integer'"),
        ({"local_lloyd_tol": "0.000_1"}, "'0.000_1' is not of type 'number'"),
        ({"kk": "3"}, "Additional hyperparameters are not allowed ('kk' was unexpected)"),
        ({"eval_metrics": '["rmse"]'}, "eval_metrics"),
        ({"init_method": "best"}, "'best' is not one of"),
        ({"local_lloyd_tol": "2"}, "not between 0 and 1"),
        ({"feature_dim": "17"}, "feature_dim is 17"),
        ({"k": "10000"}, "only 600 distinct points"),
    ],
)
def test_bad_hyperparameters_fail_the_job_with_the_reason(
    server: Server, store: str, parameters: dict[str, str | None], words: str
) -> None:
    """AWS's k-means checks them in its container: the job fails, not CreateTrainingJob."""
    merged = job("x", store)["HyperParameters"] | parameters
    name = unique("bad")
    given = {key: value for key, value in merged.items() if value is not None}
    server.sagemaker.create_training_job(**job(name, store, HyperParameters=given))
    description = server.until(name, "Failed", "Completed")
    assert description["TrainingJobStatus"] == "Failed"
    assert description["FailureReason"].startswith("ClientError: ")
    assert words in description["FailureReason"]
    assert "ModelArtifacts" not in description


def test_damaged_data_fail_the_job_with_the_object_and_the_reason(
    server: Server, store: str
) -> None:
    """By its address in S3, not by the local file that it was copied to."""
    points, _ = blobs(20)
    server.s3.put_object(Bucket=store, Key="cut/a whole one", Body=as_recordio(points))
    server.s3.put_object(Bucket=store, Key="cut/b/cut short", Body=as_recordio(points)[:-5])
    name = unique("cut")
    server.sagemaker.create_training_job(
        **job(name, store, InputDataConfig=[channel("train", f"s3://{store}/cut/")])
    )
    description = server.until(name, "Failed", "Completed")
    assert description["FailureReason"] == (
        "ClientError: Unable to read data channel 'train'. Requested content-type is "
        "'application/x-recordio-protobuf'. Please verify the data matches the requested "
        f"content-type. Caused by: s3://{store}/cut/b/cut short: the file ends within a record "
        "(feature_dim is 16)"
    )


def test_an_object_that_cannot_be_downloaded_is_named(server: Server, store: str) -> None:
    names = [{"prefix": f"s3://{store}/train/"}, "data.rec", "lost.rec"]
    server.s3.put_object(Bucket=store, Key="lost.json", Body=json.dumps(names))
    name = unique("lost")
    train = channel("train", f"s3://{store}/lost.json", "ManifestFile")
    server.sagemaker.create_training_job(**job(name, store, InputDataConfig=[train]))
    reason = server.until(name, "Failed", "Completed")["FailureReason"]
    expected = "ClientError: Data download failed:Unable to download object "
    assert reason.startswith(f"{expected}s3://{store}/train/lost.rec (")


@pytest.mark.parametrize("force_dense", ["true", "false"])
def test_sparse_records_train_the_same_model_as_dense_ones(
    server: Server, store: str, force_dense: str
) -> None:
    """Also as a test channel, and in files that have both kinds of records."""
    points, _ = blobs()
    points[:, ::3] = 0
    points[7] = 0
    test_points, _ = blobs(50, seed=4)
    names = unique("dense"), unique("sparse")
    for name, write in zip(names, (as_recordio, as_sparse_recordio), strict=True):
        for key, body in (
            ("train/a", write(points[:250])),
            ("train/b", as_recordio(points[250:300]) + write(points[300:])),
            ("test/a", write(test_points)),
        ):
            server.s3.put_object(Bucket=store, Key=f"{name}/{key}", Body=body)
        channels = [channel(kind, f"s3://{store}/{name}/{kind}/") for kind in ("train", "test")]
        parameters = job(name, store)["HyperParameters"] | {"force_dense": force_dense}
        server.sagemaker.create_training_job(
            **job(name, store, InputDataConfig=channels, HyperParameters=parameters)
        )
    dense, sparse = (server.finished(name) for name in names)
    centres = [
        centroids(server, job["ModelArtifacts"]["S3ModelArtifacts"]) for job in (dense, sparse)
    ]
    np.testing.assert_array_equal(centres[1], centres[0])
    losses = [
        {metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]}
        for description in (dense, sparse)
    ]
    assert losses[0]["test:msd"] == losses[1]["test:msd"]
    assert losses[1]["test:msd"] == pytest.approx(mean_squared(test_points, centres[0]), rel=1e-4)


def test_a_missing_output_bucket_fails_the_job_after_training(server: Server, store: str) -> None:
    name = unique("lost")
    nowhere = {"S3OutputPath": "s3://there-is-no-such-bucket/models"}
    server.sagemaker.create_training_job(**job(name, store, OutputDataConfig=nowhere))
    description = server.until(name, "Failed", "Completed")
    artifact = f"{nowhere['S3OutputPath']}/{name}/output/model.tar.gz"
    assert description["FailureReason"].startswith(
        f"ClientError: Artifact upload failed:{artifact}: "
    )


def long_job(name: str, store: str, **changes: object) -> dict[str, object]:
    """A job that would run for minutes: an epoch takes milliseconds, and there are many."""
    parameters = job(name, store)["HyperParameters"] | {"epochs": "1000000"}
    return job(name, store, HyperParameters=parameters, **changes)


def test_stop_ends_a_job_that_would_run_for_minutes(server: Server, store: str) -> None:
    name = unique("stop")
    server.sagemaker.create_training_job(**long_job(name, store))
    server.until(name, "Training")
    server.sagemaker.stop_training_job(TrainingJobName=name)
    stopping = server.sagemaker.describe_training_job(TrainingJobName=name)
    assert stopping["TrainingJobStatus"] in ("Stopping", "Stopped")
    description = server.until(name, "Stopped")
    history = [transition["Status"] for transition in description["SecondaryStatusTransitions"]]
    assert history[-2:] == ["Stopping", "Stopped"]
    assert "FailureReason" not in description


def test_jobs_run_in_parallel_and_one_beyond_the_limit_waits(
    own_server: Server, store: str
) -> None:
    own_server.extra = {**own_server.extra, "EMBEDDED_SAGEMAKER_PARALLEL_JOBS": "2"}
    own_server.start()
    for name in ("one", "two"):
        own_server.sagemaker.create_training_job(**long_job(name, store))
    for name in ("one", "two"):
        own_server.until(name, "Training")
    own_server.sagemaker.create_training_job(**long_job("three", store))
    for name, status in (("one", "Training"), ("two", "Training"), ("three", "Starting")):
        assert own_server.until(name, "InProgress")["SecondaryStatus"] == status
    own_server.sagemaker.stop_training_job(TrainingJobName="one")
    own_server.until("three", "Training")


def test_a_job_beyond_its_time_limit_is_stopped(server: Server, store: str) -> None:
    name = unique("slow")
    limit = {"MaxRuntimeInSeconds": 1}
    server.sagemaker.create_training_job(**long_job(name, store, StoppingCondition=limit))
    description = server.until(name, "Stopped", "Failed")
    assert (description["TrainingJobStatus"], description["SecondaryStatus"]) == (
        "Stopped",
        "MaxRuntimeExceeded",
    )


def test_spot_training_bills_less_than_it_runs(server: Server, store: str) -> None:
    name = unique("spot")
    condition = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    server.sagemaker.create_training_job(
        **job(name, store, EnableManagedSpotTraining=True, StoppingCondition=condition)
    )
    description = server.finished(name)
    assert description["EnableManagedSpotTraining"] is True
    assert 1 <= description["BillableTimeInSeconds"] <= description["TrainingTimeInSeconds"]


def test_log_lines_can_be_followed_as_they_come(server: Server, trained: str) -> None:
    """The forward and backward tokens behave as on AWS."""
    group = "/aws/sagemaker/TrainingJobs"
    name = trained.split("/")[-3]
    (stream,) = server.logs.describe_log_streams(
        logGroupName=group, logStreamNamePrefix=f"{name}/algo-1"
    )["logStreams"]
    at = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
    lines: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = server.logs.get_log_events(**at, startFromHead=True, limit=2, **token)
        lines += [event["message"] for event in page["events"]]
        if token.get("nextToken") == page["nextForwardToken"]:
            break
        token = {"nextToken": page["nextForwardToken"]}
    whole = server.logs.get_log_events(**at, startFromHead=True)
    assert lines == [event["message"] for event in whole["events"]]
    assert any("#quality_metric: host=algo-1, train msd <loss>=" in line for line in lines)
    back = server.logs.get_log_events(**at, nextToken=whole["nextForwardToken"].replace("f/", "b/"))
    assert [event["message"] for event in back["events"]] == lines[:-1]
    matches = server.logs.filter_log_events(
        logGroupName=group, logStreamNamePrefix=name, filterPattern="#throughput_metric"
    )["events"]
    assert len(matches) == 1
    groups = server.logs.describe_log_groups(logGroupNamePrefix="/aws/sage")["logGroups"]
    assert group in [log_group["logGroupName"] for log_group in groups]


@pytest.mark.parametrize("odd", ["a#b?c=d", "a%41+b c größe~"])
def test_objects_with_any_characters_in_their_keys_are_read_and_written(
    server: Server, store: str, odd: str
) -> None:
    points, _ = blobs()
    half = len(points) // 2
    for name, part in (("x", points[:half]), (f"y {odd}", points[half:])):
        server.s3.put_object(Bucket=store, Key=f"in {odd}/{name}", Body=as_recordio(part))
    names = [{"prefix": f"s3://{store}/in {odd}/"}, "x", f"y {odd}"]
    server.s3.put_object(Bucket=store, Key=f"list {odd}", Body=json.dumps(names))
    models: list[bytes] = []
    for kind, uri in (("S3Prefix", f"in {odd}/"), ("ManifestFile", f"list {odd}")):
        name = unique("odd")
        train = channel("train", f"s3://{store}/{uri}", kind)
        output = {"S3OutputPath": f"s3://{store}/out {odd}"}
        server.sagemaker.create_training_job(
            **job(name, store, InputDataConfig=[train], OutputDataConfig=output)
        )
        description = server.finished(name)
        assert description["TrainingJobStatus"] == "Completed", description.get("FailureReason")
        key = f"out {odd}/{name}/output/model.tar.gz"
        assert description["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{store}/{key}"
        models.append(server.s3.get_object(Bucket=store, Key=key)["Body"].read())
    assert models[0] == models[1]
    assert len(ndarray_file.unpack_model(models[0])) == CLUSTERS
