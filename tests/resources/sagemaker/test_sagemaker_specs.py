"""Specs, names and images: the requests they make, checked against AWS's own service model."""

from contextlib import nullcontext
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from resources.sagemaker import (
    EndpointSpec,
    Instances,
    ModelContainer,
    S3Channel,
    Security,
    SpecError,
    Spot,
    TrainingCompute,
    TrainingJobSpec,
    Variant,
    builtin_image_uri,
    deterministic_name,
)
from resources.sagemaker.names import to_tags
from tests.resources.sagemaker.request_checks import KEY, ROLE, SECURITY, VPC, complaints, leaves


def full_training_spec() -> TrainingJobSpec:
    return TrainingJobSpec(
        name="job",
        image="image",
        output_s3_uri="s3://b/models",
        channels=[
            S3Channel(
                name="train",
                s3_uri="s3://b/train",
                content_type="text/csv",
                s3_data_type="AugmentedManifestFile",
                extra_request={
                    "InputMode": "Pipe",
                    "CompressionType": "Gzip",
                    "RecordWrapperType": "RecordIO",
                    "ShuffleConfig": {"Seed": 7},
                    "DataSource": {
                        "S3DataSource": {
                            "S3DataDistributionType": "ShardedByS3Key",
                            "AttributeNames": ["source"],
                        }
                    },
                },
            )
        ],
        hyperparameters={"k": "10"},
        environment={"SEED": "1"},
        input_mode="FastFile",
        compute=TrainingCompute(
            instance_type="ml.m5.xlarge",
            instance_count=2,
            volume_gb=50,
            max_runtime_seconds=7200,
            spot=Spot(max_wait_seconds=9000),
            network_isolation=True,
        ),
        tags={"team": "data"},
        extra_request={
            "AlgorithmSpecification": {
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}]
            },
            "CheckpointConfig": {"S3Uri": "s3://b/checkpoints", "LocalPath": "/opt/checkpoints"},
            "DebugHookConfig": {"S3OutputPath": "s3://b/debug"},
            "EnableInterContainerTrafficEncryption": True,
            "OutputDataConfig": {"KmsKeyId": KEY},
            "ResourceConfig": {"VolumeKmsKeyId": KEY, "KeepAlivePeriodInSeconds": 600},
            "RetryStrategy": {"MaximumRetryAttempts": 3},
            "StoppingCondition": {"MaxPendingTimeInSeconds": 7200},
            "VpcConfig": VPC,
        },
    )


def test_all_that_can_be_set_of_a_training_job_arrives_in_a_valid_request() -> None:
    request = full_training_spec().to_request("job-2", ROLE, {"run": "1"})

    assert complaints("CreateTrainingJob", request) == ""
    result = leaves(request)
    assert {
        ".TrainingJobName": "job-2",
        ".RoleArn": ROLE,
        ".AlgorithmSpecification.TrainingImage": "image",
        ".AlgorithmSpecification.TrainingInputMode": "FastFile",
        ".AlgorithmSpecification.MetricDefinitions[].Regex": "loss=(.*)",
        ".InputDataConfig[].InputMode": "Pipe",
        ".InputDataConfig[].ShuffleConfig.Seed": 7,
        ".InputDataConfig[].DataSource.S3DataSource.S3DataType": "AugmentedManifestFile",
        ".InputDataConfig[].DataSource.S3DataSource.AttributeNames[]": "source",
        ".OutputDataConfig.KmsKeyId": KEY,
        ".ResourceConfig.InstanceCount": 2,
        ".ResourceConfig.VolumeSizeInGB": 50,
        ".ResourceConfig.VolumeKmsKeyId": KEY,
        ".ResourceConfig.KeepAlivePeriodInSeconds": 600,
        ".StoppingCondition.MaxRuntimeInSeconds": 7200,
        ".StoppingCondition.MaxWaitTimeInSeconds": 9000,
        ".StoppingCondition.MaxPendingTimeInSeconds": 7200,
        ".EnableManagedSpotTraining": True,
        ".EnableNetworkIsolation": True,
        ".EnableInterContainerTrafficEncryption": True,
        ".CheckpointConfig.LocalPath": "/opt/checkpoints",
        ".VpcConfig.Subnets[]": "subnet-1",
        ".RetryStrategy.MaximumRetryAttempts": 3,
        ".Environment.SEED": "1",
        ".DebugHookConfig.S3OutputPath": "s3://b/debug",
    }.items() <= result.items()
    assert request["Tags"] == [{"Key": "run", "Value": "1"}, {"Key": "team", "Value": "data"}]


def test_all_that_can_be_set_of_an_endpoint_arrives_in_valid_requests() -> None:
    spec = EndpointSpec(
        endpoint_name="digits",
        version="2026-11-22",
        container=ModelContainer(
            image="image",
            model_data_url="s3://b/model.tar.gz",
            environment={"A": "1"},
            network_isolation=True,
            extra_request={"VpcConfig": VPC, "PrimaryContainer": {"Mode": "MultiModel"}},
        ),
        variants=[
            Variant(
                name="blue",
                weight=3,
                instances=Instances(
                    instance_type="ml.m5.large",
                    instance_count=2,
                ),
                extra_request={
                    "VolumeSizeInGB": 20,
                    "ContainerStartupHealthCheckTimeoutInSeconds": 120,
                    "ModelDataDownloadTimeoutInSeconds": 120,
                },
            ),
            Variant(
                name="green",
                instances=Instances(instance_type="ml.c5.large"),
            ),
        ],
        update={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "LINEAR",
                    "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
                    "WaitIntervalInSeconds": 60,
                }
            }
        },
        extra_request={
            "EnableNetworkIsolation": False,
            "KmsKeyId": KEY,
            "DataCaptureConfig": {
                "EnableCapture": True,
                "InitialSamplingPercentage": 10,
                "DestinationS3Uri": "s3://b/captured",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            },
        },
    )
    plan = spec.plan(ROLE, {})

    model = {"ModelName": plan.model_name, **plan.model}
    assert complaints("CreateModel", model) == ""
    config = {"EndpointConfigName": plan.config_name, **plan.config}
    assert complaints("CreateEndpointConfig", config) == ""
    update = {
        "EndpointName": "digits",
        "EndpointConfigName": plan.config_name,
        "DeploymentConfig": plan.update,
    }
    assert complaints("UpdateEndpoint", update) == ""
    blue, green = plan.config["ProductionVariants"]
    assert (blue["InitialVariantWeight"], blue["InitialInstanceCount"]) == (3, 2)
    assert green["InstanceType"] == "ml.c5.large"
    assert {blue["ModelName"], green["ModelName"]} == {plan.model_name}
    assert plan.model["PrimaryContainer"]["Mode"] == "MultiModel"
    assert plan.config["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    policy = plan.update["BlueGreenUpdatePolicy"] if plan.update else {}
    assert policy["TrafficRoutingConfiguration"]["LinearStepSize"]["Value"] == 25


def serverless_spec(**fields: Any) -> EndpointSpec:
    memory = {"MemorySizeInMB": 4096, "MaxConcurrency": 20, "ProvisionedConcurrency": 2}
    variant = Variant(instances=None, extra_request={"ServerlessConfig": memory})
    base = {"endpoint_name": "digits", "version": "1", "variants": [variant]}
    return EndpointSpec(**{"container": ModelContainer(image="image"), **base, **fields})


def test_a_serverless_variant_arrives_in_a_valid_request() -> None:
    config = serverless_spec().plan(ROLE, {}).config
    assert complaints("CreateEndpointConfig", {"EndpointConfigName": "c", **config}) == ""
    (variant,) = config["ProductionVariants"]
    assert variant["ServerlessConfig"]["ProvisionedConcurrency"] == 2
    assert "InstanceType" not in variant


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"container": ModelContainer(image="i", network_isolation=True)}, "network isolation"),
        ({"container": ModelContainer(image="i", extra_request={"VpcConfig": VPC})}, "a VPC"),
        ({"extra_request": {"DataCaptureConfig": {}}}, "data capture"),
        ({"update": {"RollingUpdatePolicy": {}}}, "an update that shifts traffic"),
        (
            {"variants": [*serverless_spec().variants, Variant(name="second")]},
            "a second variant, instances",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_aws_refuses_with_serverless_variants_is_not_sent(
    fields: dict[str, Any], what: str
) -> None:
    with pytest.raises(SpecError, match=f"does not go with {what}"):
        serverless_spec(**fields).plan(ROLE, {})


def test_an_accounts_security_reaches_jobs_models_and_endpoint_configs() -> None:
    spec = TrainingJobSpec(name="job", image="i", output_s3_uri="s3://b", channels=[CHANNEL])
    job = SECURITY.training_job(spec.to_request("job", ROLE, {}))
    assert complaints("CreateTrainingJob", job) == ""
    assert job["OutputDataConfig"] == {"S3OutputPath": "s3://b", "KmsKeyId": KEY}
    assert job["ResourceConfig"]["VolumeKmsKeyId"] == KEY
    plan = EndpointSpec(
        endpoint_name="digits", version="1", container=ModelContainer(image="i")
    ).plan(ROLE, {}, SECURITY)
    assert complaints("CreateModel", {"ModelName": "m", **plan.model}) == ""
    assert plan.config["KmsKeyId"] == KEY
    for request in (job, plan.model):
        assert (request["VpcConfig"], request["EnableNetworkIsolation"]) == (VPC, True)
    plain = EndpointSpec(
        endpoint_name="digits", version="1", container=ModelContainer(image="i")
    ).plan(ROLE, {})
    assert (plain.model_name, plain.config_name) != (plan.model_name, plan.config_name)


def test_what_a_spec_says_of_security_wins_over_the_accounts() -> None:
    spec = full_training_spec()
    own = {"Subnets": ["subnet-2"], "SecurityGroupIds": ["sg-2"]}
    account = Security(kms_key_id="alias/other", subnets=["x"], security_groups=["y"])
    request = spec.to_request("job", ROLE, {}) | {"VpcConfig": own}
    secured = account.training_job(request)
    assert secured["VpcConfig"] == own
    assert secured["ResourceConfig"]["VolumeKmsKeyId"] == KEY
    assert secured["EnableNetworkIsolation"], "a setting does not undo what a spec asks for"


def test_the_names_of_a_version_follow_its_contents() -> None:
    container = ModelContainer(image="image", model_data_url="s3://b/1")
    spec = EndpointSpec(endpoint_name="digits", version="v1", container=container)
    plan = spec.plan(ROLE, {})

    assert spec.plan(ROLE, {"run": "other"}).config_name == plan.config_name
    other = spec.model_copy(
        update={"container": ModelContainer(image="image", model_data_url="s3://b/2")}
    ).plan(ROLE, {})
    assert other.config_name != plan.config_name
    assert other.model_name != plan.model_name
    long = spec.model_copy(update={"version": "v" * 200}).plan(ROLE, {})
    assert len(long.config_name) <= 63
    with pytest.raises(SpecError, match="too long"):
        spec.model_copy(update={"endpoint_name": "e" * 60}).plan(ROLE, {})


def described(spec: TrainingJobSpec) -> dict[str, Any]:
    return spec.to_request("any", ROLE, {})


CHANNEL = S3Channel(name="train", s3_uri="s3://b/train")


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"compute": TrainingCompute(instance_type="ml.c5.xlarge")}, []),
        ({"compute": TrainingCompute(spot=Spot(max_wait_seconds=3600))}, []),
        ({"tags": {"run": "2"}, "deadline_seconds": 5, "stream_logs": False}, []),
        (
            {
                "extra_request": {
                    "AlgorithmSpecification": {
                        "MetricDefinitions": [{"Name": "loss", "Regex": "x"}]
                    }
                }
            },
            [],
        ),
        ({"output_s3_uri": "s3://b/models/"}, []),
        ({"image": "image:2"}, ["AlgorithmSpecification.TrainingImage"]),
        ({"hyperparameters": {"k": "11", "seed": "1"}}, ["HyperParameters.k"]),
        ({"hyperparameters": {"k": "10"}}, ["HyperParameters.seed"]),
        (
            {"hyperparameters": {"k": "10", "seed": "1", "epochs": "2"}},
            ["HyperParameters.epochs"],
        ),
        ({"environment": {"A": "1"}}, ["Environment.A"]),
        ({"channels": []}, ["InputDataConfig"]),
        ({"channels": [CHANNEL, S3Channel(name="test", s3_uri="s3://b/t")]}, ["InputDataConfig"]),
        (
            {"channels": [S3Channel(name="train", s3_uri="s3://b/other")]},
            ["InputDataConfig[0].DataSource.S3DataSource.S3Uri"],
        ),
        (
            {"extra_request": {"OutputDataConfig": {"KmsKeyId": KEY}}},
            ["OutputDataConfig.KmsKeyId"],
        ),
        ({"compute": TrainingCompute(instance_count=2)}, ["InstanceCount"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_a_job_does_the_same_work_or_not(changes: dict[str, Any], places: list[str]) -> None:
    base: dict[str, Any] = {
        "name": "job",
        "image": "image",
        "output_s3_uri": "s3://b/models",
        "hyperparameters": {"k": "10", "seed": "1"},
        "channels": [CHANNEL],
    }
    spec = TrainingJobSpec(**base)
    other = TrainingJobSpec(**(base | changes))

    assert other.differences(other.to_request("job", ROLE, {}), described(spec)) == places
    assert bool(spec.differences(spec.to_request("job", ROLE, {}), described(other))) == bool(
        places
    )


def test_the_order_of_channels_makes_no_difference() -> None:
    other = S3Channel(name="test", s3_uri="s3://b/test")
    one, two = (
        TrainingJobSpec(name="job", image="i", output_s3_uri="s3://b/m", channels=channels)
        for channels in ([CHANNEL, other], [other, CHANNEL])
    )
    assert one.differences(one.to_request("job", ROLE, {}), described(two)) == []


def test_a_spec_is_config_for_assets() -> None:
    class ModelConfig(dg.Config):
        compute: TrainingCompute = TrainingCompute()

    seen: list[TrainingCompute] = []

    @dg.asset
    def model(config: ModelConfig) -> None:
        seen.append(config.compute)

    compute = {"instance_type": "ml.c5.xlarge", "spot": {"max_wait_seconds": 7200}}
    run_config = {"ops": {"model": {"config": {"compute": compute}}}}
    assert dg.materialize([model], run_config=run_config).success
    expected = TrainingCompute(instance_type="ml.c5.xlarge", spot=Spot(max_wait_seconds=7200))
    assert seen == [expected]


@pytest.mark.parametrize(
    "config",
    [
        TrainingJobSpec,
        TrainingCompute,
        S3Channel,
        Spot,
        EndpointSpec,
        ModelContainer,
        Variant,
        Instances,
    ],
)
def test_every_field_is_described(config: Any) -> None:
    assert [name for name, field in config.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TrainingCompute(spot=Spot(max_wait_seconds=10)), "max_wait_seconds"),
        (lambda: TrainingJobSpec(name="a_b", image="i", output_s3_uri="s3://b"), "name"),
        (lambda: TrainingJobSpec(name="a" * 60, image="i", output_s3_uri="s3://b"), "name"),
        (
            lambda: EndpointSpec(
                endpoint_name="e",
                version="1",
                container=ModelContainer(image="i"),
                variants=[Variant(), Variant()],
            ),
            "differ in name",
        ),
    ],
    ids=["spot wait below runtime", "underscore", "no room for attempts", "same variant twice"],
)
def test_what_cannot_work_is_refused_as_it_is_written(make: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": [CHANNEL, CHANNEL]}, "differ in name: train"),
        ({"channels": [S3Channel(name="a", s3_uri="/data")]}, "'/data' is not an S3 URI"),
        ({"output_s3_uri": "models"}, "'models' is not an S3 URI"),
    ],
)
def test_what_sagemaker_would_refuse_late_is_found_before_it_is_sent(
    changes: dict[str, Any], words: str
) -> None:
    base: dict[str, Any] = {"name": "job", "image": "i", "output_s3_uri": "s3://b"}
    with pytest.raises(SpecError, match=words):
        TrainingJobSpec(**(base | changes)).check()


@pytest.mark.parametrize(
    ("image", "seconds", "fine"),
    [
        (builtin_image_uri("kmeans", "eu-west-1"), 3600, True),
        (builtin_image_uri("kmeans", "eu-west-1"), 3601, False),
        # An image of one's own may write checkpoints.
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/mine:1", 9000, True),
    ],
)
def test_built_in_algorithms_wait_an_hour_for_spot_capacity_at_most(
    image: str, seconds: int, fine: bool
) -> None:
    """By https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html."""
    compute = TrainingCompute(spot=Spot(max_wait_seconds=seconds))
    spec = TrainingJobSpec(name="job", image=image, output_s3_uri="s3://b", compute=compute)
    with nullcontext() if fine else pytest.raises(SpecError, match=r"3,600 s"):
        spec.check()


def test_an_extra_request_may_not_repeat_what_another_field_says() -> None:
    extra = {"ResourceConfig": {"InstanceCount": 3, "VolumeKmsKeyId": KEY}, "RoleArn": ROLE}
    spec = TrainingJobSpec(name="job", image="i", output_s3_uri="s3://b", extra_request=extra)
    with pytest.raises(SpecError, match=r"ResourceConfig\.InstanceCount, RoleArn"):
        spec.to_request("job", ROLE, {})


@pytest.mark.parametrize(
    ("parts", "data", "expected"),
    [
        (("digits", "2026-11-22"), None, "digits-2026-11-22"),
        (("a_b", "c/d.e"), None, "a-b-c-d-e"),
        (("-x-", "--"), None, "x"),
    ],
)
def test_names_are_made_of_readable_parts(parts: Any, data: object, expected: str) -> None:
    assert deterministic_name(*parts, digest_of=data) == expected


def test_names_differ_with_what_is_digested_and_not_with_its_order() -> None:
    one = deterministic_name("digits", digest_of={"k": 10, "data": "e1"})
    assert one == deterministic_name("digits", digest_of={"data": "e1", "k": 10})
    assert one != deterministic_name("digits", digest_of={"k": 11, "data": "e1"})


def test_long_names_are_cut_and_still_differ() -> None:
    names = {deterministic_name("x" * 80 + end) for end in "abc"}
    names |= {deterministic_name("x" * 80 + end, digest_of=1) for end in "abc"}
    assert len(names) == 6
    assert {len(name) for name in names} == {59}


def test_a_name_of_nothing_readable_is_refused() -> None:
    with pytest.raises(SpecError, match="at least one letter or digit"):
        deterministic_name("--", "_")


def test_tags_are_made_to_fit_and_later_ones_win() -> None:
    tags = to_tags({"run": "1", "note": "a#b\n" + "c" * 300}, {"run": "2"})
    assert tags == [
        {"Key": "run", "Value": "2"},
        {"Key": "note", "Value": "a_b_" + "c" * 252},
    ]
    with pytest.raises(SpecError, match="51 tags"):
        to_tags({str(n): "" for n in range(51)})
    with pytest.raises(SpecError, match="aws:mine"):
        to_tags({"aws:mine": "x"})


@pytest.mark.parametrize(
    ("region", "uri"),
    [
        ("eu-west-1", "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"),
        ("us-west-2", "174872318107.dkr.ecr.us-west-2.amazonaws.com/kmeans:1"),
        ("cn-north-1", "390948362332.dkr.ecr.cn-north-1.amazonaws.com.cn/kmeans:1"),
    ],
)
def test_the_built_in_image_is_that_of_the_region(region: str, uri: str) -> None:
    assert builtin_image_uri("kmeans", region) == uri


@pytest.mark.parametrize(("algorithm", "region"), [("kmeens", "eu-west-1"), ("kmeans", "mars-1")])
def test_an_image_that_is_not_known_is_not_guessed(algorithm: str, region: str) -> None:
    with pytest.raises(SpecError):
        builtin_image_uri(algorithm, region)
