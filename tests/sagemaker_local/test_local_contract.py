"""Training with any image, run as a process under AWS's contract with containers."""

import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from sagemaker_local.images import ImageTableError, read
from tests.sagemaker_local.rig import Server, channel, job, refusal, unique, wait_until_ended

GROUP = "/aws/sagemaker/TrainingJobs"


def registry(repository: str) -> str:
    return f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/{repository}"


def own_job(name: str, bucket: str, do: str, **changes: Any) -> dict[str, Any]:
    """A job of training_image.py."""
    algorithm = {
        "TrainingImage": registry("contract:2"),
        "TrainingInputMode": "File",
        "MetricDefinitions": [
            {"Name": "loss", "Regex": "loss=(.*?);"},
            {"Name": "accuracy", "Regex": "accuracy=(.*?);"},
        ],
    }
    defaults = {
        "AlgorithmSpecification": algorithm,
        "HyperParameters": {"do": do},
        "InputDataConfig": None,
    }
    return job(name, bucket, **(defaults | changes))


def artifact(server: Server, bucket: str, name: str, file: str = "model") -> dict[str, str]:
    """Name and text of each file in an artifact."""
    key = f"models/{name}/output/{file}.tar.gz"
    body = server.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read().decode() for name, file in files.items() if file}


def log(server: Server, name: str, host: str = "algo-1") -> list[str]:
    """The lines of an instance's log so far."""
    streams = server.logs.filter_log_events
    try:
        events = streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/{host}-")["events"]
    except server.logs.exceptions.ResourceNotFoundException:
        return []
    return [event["message"] for event in events]


def until_logged(server: Server, name: str, line: str) -> list[str]:
    while line not in (lines := log(server, name)):
        assert server.sagemaker.describe_training_job(TrainingJobName=name)[
            "TrainingJobStatus"
        ] in ("InProgress", "Stopping")
    return lines


def test_the_code_gets_the_folders_files_and_variables_that_aws_gives(
    image_server: Server, store: str
) -> None:
    """On two instances, among which one channel is sharded."""
    for key in ("a/one.txt", "a/deep/two.txt", "b/three.txt"):
        image_server.s3.put_object(Bucket=store, Key=f"own/{key}", Body=key.encode())
    name = unique("own")
    channels = [
        channel("all", f"s3://{store}/own/a", ContentType="text/plain"),
        channel(
            "shared", f"s3://{store}/own/", source={"S3DataDistributionType": "ShardedByS3Key"}
        ),
    ]
    image_server.sagemaker.create_training_job(
        **own_job(
            name,
            store,
            "describe",
            InputDataConfig=channels,
            Environment={"MINE": "1", "SAGEMAKER_BASE_DIR": "/elsewhere"},
            ResourceConfig=job("x", store)["ResourceConfig"] | {"InstanceCount": 2},
        )
    )
    described = image_server.finished(name)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    assert [one["Status"] for one in described["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert [(m["MetricName"], m["Value"]) for m in described["FinalMetricDataList"]] == [
        ("loss", 0.5),
        ("accuracy", 0.75),
    ]
    assert log(image_server, name, "algo-2") == [
        "to standard output",
        "loss=0.5; accuracy=0.75;",
        "to standard error",
    ]

    model = artifact(image_server, store, name)
    assert model.keys() == {"algo-1.json", "algo-2.json", "same.txt"}
    assert model["same.txt"] == "algo-1"
    assert artifact(image_server, store, name, "output").keys() == {"algo-1.txt", "algo-2.txt"}
    first, second = (json.loads(model[f"algo-{number}.json"]) for number in (1, 2))
    assert first["arguments"] == ["train"]
    everywhere = {"all/one.txt": "a/one.txt", "all/deep/two.txt": "a/deep/two.txt"}
    assert first["data"] == everywhere | {
        "shared/a/deep/two.txt": "a/deep/two.txt",
        "shared/b/three.txt": "b/three.txt",
    }
    assert second["data"] == everywhere | {"shared/a/one.txt": "a/one.txt"}
    assert second["config"] == {
        "hyperparameters": {"do": "describe"},
        "inputdataconfig": {
            "all": {
                "ContentType": "text/plain",
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            },
            "shared": {
                "TrainingInputMode": "File",
                "S3DistributionType": "ShardedByS3Key",
                "RecordWrapperType": "None",
            },
        },
        "resourceconfig": {
            "current_host": "algo-2",
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1", "algo-2"],
            "instance_groups": [
                {
                    "instance_group_name": "homogeneousCluster",
                    "instance_type": "ml.m5.large",
                    "hosts": ["algo-1", "algo-2"],
                }
            ],
            "network_interface_name": "lo",
        },
    }
    bases = [one["environment"]["SAGEMAKER_BASE_DIR"] for one in (first, second)]
    assert bases[0] != bases[1]
    assert [one["folder"] for one in (first, second)] == bases
    assert not Path(bases[0]).exists()


@pytest.mark.parametrize("isolated", [False, True])
def test_the_code_has_the_keys_of_its_role_and_no_other_secret(
    image_server: Server, store: str, isolated: bool
) -> None:
    """boto3 can use S3 with them. With network isolation there are none, as on AWS."""
    name = unique("env")
    image_server.sagemaker.create_training_job(
        **own_job(name, store, "describe", EnableNetworkIsolation=isolated)
    )
    image_server.finished(name)
    seen = json.loads(artifact(image_server, store, name)["algo-1.json"])["environment"]
    own = {"LC_CTYPE", "PWD", "SHLVL", "_"}
    shell = {"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PLATFORM_STACK_ID"}
    given = {name: value for name, value in seen.items() if name not in own | shell}
    arn = image_server.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobArn"]
    env = image_server.env
    role = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3")
    assert given == {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "TRAINING_JOB_NAME": name,
        "TRAINING_JOB_ARN": arn,
        "SAGEMAKER_BASE_DIR": seen["HOME"],
        "HOME": seen["HOME"],
        "PYTHONUNBUFFERED": "1",
        **({} if isolated else {variable: env[variable] for variable in role}),
    }


def test_any_command_that_follows_the_contract_can_train(image_server: Server, store: str) -> None:
    """Here a shell script of ten lines."""
    image_server.s3.put_object(Bucket=store, Key="numbers/x", Body=b"10\n9\n")
    name = unique("shell")
    algorithm = {
        "TrainingImage": registry("any-image:latest"),
        "TrainingInputMode": "FastFile",
        "MetricDefinitions": [{"Name": "rows", "Regex": r"rows=\s*(\d+);"}],
    }
    image_server.sagemaker.create_training_job(
        **job(
            name,
            store,
            AlgorithmSpecification=algorithm,
            HyperParameters=None,
            InputDataConfig=[channel("train", f"s3://{store}/numbers/x")],
        )
    )
    described = image_server.finished(name)
    assert described["FinalMetricDataList"][0]["Value"] == 2.0
    assert artifact(image_server, store, name) == {"sorted.txt": "9\n10\n"}


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("fail", "AlgorithmError: the moon is full, the moon is full, "),
        ("leave", "AlgorithmError: , exit code: 4"),
        ("link", "ClientError: Unable to pack /opt/ml/model: passwd is neither a file"),
        ("nothing-of-that-name", "AlgorithmError: , exit code: 1"),
    ],
)
def test_the_failure_reason_is_the_codes_own_or_its_exit_code(
    image_server: Server, store: str, do: str, reason: str
) -> None:
    name = unique("bad")
    image_server.sagemaker.create_training_job(**own_job(name, store, do))
    described = image_server.until(name, "Failed", "Completed")
    assert described["FailureReason"].startswith(reason)
    if do == "fail":
        assert described["FailureReason"].endswith(", exit code: 3")


def test_a_link_to_a_folder_of_the_model_is_left_out(image_server: Server, store: str) -> None:
    name = unique("latest")
    image_server.sagemaker.create_training_job(**own_job(name, store, "link_inside"))
    image_server.finished(name)
    assert artifact(image_server, store, name) == {"checkpoint-3/weights.txt": "3"}


def test_the_log_names_a_command_that_does_not_exist(image_server: Server, store: str) -> None:
    name = unique("lost")
    algorithm = {"TrainingImage": registry("lost:1"), "TrainingInputMode": "File"}
    image_server.sagemaker.create_training_job(
        **own_job(name, store, "describe", AlgorithmSpecification=algorithm)
    )
    described = image_server.until(name, "Failed", "Completed")
    assert described["FailureReason"] == "AlgorithmError: , exit code: 127"
    assert log(image_server, name) == [
        "The image's command cannot be started: /no/such/program: No such file or directory"
    ]


def test_a_job_that_is_stopped_may_save_its_model(image_server: Server, store: str) -> None:
    name = unique("save")
    image_server.sagemaker.create_training_job(**own_job(name, store, "save"))
    until_logged(image_server, name, "ready")
    image_server.sagemaker.stop_training_job(TrainingJobName=name)
    described = image_server.until(name, "Stopped")
    assert described["ModelArtifacts"]["S3ModelArtifacts"].endswith(f"{name}/output/model.tar.gz")
    assert artifact(image_server, store, name) == {"half.txt": "half a model"}


def test_a_job_beyond_its_time_limit_may_save_its_model(image_server: Server, store: str) -> None:
    name = unique("late")
    limit = {"MaxRuntimeInSeconds": 10}  # enough for the code to reach its wait
    image_server.sagemaker.create_training_job(
        **own_job(name, store, "save", StoppingCondition=limit)
    )
    described = image_server.until(name, "Stopped", "Failed")
    assert described["SecondaryStatus"] == "MaxRuntimeExceeded"
    assert described["ModelArtifacts"]["S3ModelArtifacts"].endswith("/output/model.tar.gz")


def started(server: Server, name: str, count: int) -> list[psutil.Process]:
    """The processes that training_image.py has logged as its children."""
    lines = [line for line in log(server, name) if line.startswith("child=")]
    while len(lines) < count:
        lines = [line for line in log(server, name) if line.startswith("child=")]
    return [psutil.Process(int(line[len("child=") : -1])) for line in lines]


def test_a_job_that_does_not_stop_is_killed_with_all_that_it_started(
    own_image_server: Server, store: str
) -> None:
    own_image_server.extra = {
        **own_image_server.extra,
        "EMBEDDED_SAGEMAKER_GRACE_SECONDS": "0.5",
    }
    own_image_server.start()
    own_image_server.sagemaker.create_training_job(**own_job("j", store, "stubborn"))
    processes = started(own_image_server, "j", 2)
    until_logged(own_image_server, "j", "ready")
    own_image_server.sagemaker.stop_training_job(TrainingJobName="j")
    described = own_image_server.until("j", "Stopped")
    assert wait_until_ended(processes)
    assert "S3ModelArtifacts" not in described.get("ModelArtifacts", {})
    assert not list((own_image_server.data_dir / "jobs").iterdir())


def test_a_killed_server_leaves_nothing_that_a_job_started(
    own_image_server: Server, store: str
) -> None:
    own_image_server.start()
    own_image_server.sagemaker.create_training_job(**own_job("j", store, "stubborn"))
    processes = started(own_image_server, "j", 2)
    processes += own_image_server.kill()
    assert wait_until_ended(processes)
    own_image_server.start()
    described = own_image_server.sagemaker.describe_training_job(TrainingJobName="j")
    assert "restarted" in described["FailureReason"]


def test_processes_that_outlive_their_job_are_ended(image_server: Server, store: str) -> None:
    name = unique("orphans")
    image_server.sagemaker.create_training_job(**own_job(name, store, "orphans"))
    described = image_server.finished(name)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    (line,) = log(image_server, name)
    assert not psutil.pid_exists(int(line[len("child=") : -1]))


def test_100_megabytes_of_log_block_neither_the_job_nor_the_server(
    image_server: Server, store: str
) -> None:
    """Only 20 MB are kept, and the metric of the last line counts although the line is not kept."""
    name = unique("talk")
    image_server.sagemaker.create_training_job(**own_job(name, store, "talk"))
    described = image_server.finished(name)
    assert described["TrainingJobStatus"] == "Completed", described.get("FailureReason")
    assert described["FinalMetricDataList"][0]["Value"] == 0.25
    assert image_server.process is not None
    assert psutil.Process(image_server.process.pid).memory_info().rss < 400_000_000
    lines = log(image_server, name)
    assert lines[-1].startswith("The embedded SageMaker keeps 20 MB")
    assert 19_000_000 < sum(map(len, lines)) < 21_000_000


def test_the_memory_limit_counts_child_processes(own_image_server: Server, store: str) -> None:
    own_image_server.extra = {
        **own_image_server.extra,
        "EMBEDDED_SAGEMAKER_TRAINING_MEMORY_MB": "150",
    }
    own_image_server.start()
    own_image_server.sagemaker.create_training_job(**own_job("fat", store, "eat"))
    described = own_image_server.until("fat", "Failed", "Completed")
    assert "use an instance type with more memory" in described["FailureReason"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"AlgorithmSpecification": {"ContainerEntrypoint": ["sh"]}},
            "ContainerEntrypoint is not supported for images that run as processes",
        ),
        (
            {
                "AlgorithmSpecification": {
                    "TrainingImage": registry("sagemaker-scikit-learn:1.2-1"),
                    "ContainerArguments": ["-c", "exit"],
                }
            },
            "ContainerArguments need a ContainerEntrypoint where an image runs as a process",
        ),
        ({"AlgorithmSpecification": {"TrainingInputMode": "Pipe"}}, "Pipe is not supported"),
        ({"InputDataConfig": [channel("..", "s3://{store}/train/")]}, "Invalid channel name .."),
        (
            {"OutputDataConfig": {"CompressionType": "NONE", "S3OutputPath": "s3://b/c"}},
            "CompressionType NONE is not supported",
        ),
    ],
    ids=["entry point", "arguments alone", "pipe", "channel outside", "no archive"],
)
def test_options_that_are_not_supported_are_refused(
    image_server: Server, store: str, changes: dict[str, Any], words: str
) -> None:
    request = own_job("x", store, "describe")
    for member, value in json.loads(json.dumps(changes).replace("{store}", store)).items():
        request[member] = request[member] | value if isinstance(value, dict) else value
    error = refusal(lambda: image_server.sagemaker.create_training_job(**request))["Error"]
    assert words in error["Message"]


def test_a_key_that_would_lie_outside_of_its_channel_fails_the_job(
    image_server: Server, store: str
) -> None:
    names = [{"prefix": f"s3://{store}/train/"}, "../../../model/own"]
    image_server.s3.put_object(Bucket=store, Key="outside.json", Body=json.dumps(names))
    name = unique("outside")
    train = channel("train", f"s3://{store}/outside.json", "ManifestFile")
    image_server.sagemaker.create_training_job(
        **own_job(name, store, "describe", InputDataConfig=[train])
    )
    described = image_server.until(name, "Failed", "Completed")
    assert "would lie outside of the channel's folder" in described["FailureReason"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not TOML"),
        ('"*" = 1', "it is no table"),
        ('["*"]', "it needs one of command and script_mode"),
        ('["*"]\ncommand = "sh"', "command must be a list of strings"),
        ('["*"]\ncommand = ["sh", 1]', "command must be a list of strings"),
        ('["*"]\nscript_mode = true\ncommands = []', "commands is not known"),
        ('["*"]\ncommand = ["sh"]\npython = "p"', "python is for script_mode alone"),
        ('["*"]\nscript_mode = "yes"', 'script_mode must be true or "xgboost"'),
    ],
)
def test_an_error_in_the_table_of_images_names_the_place_and_the_fault(
    text: str, words: str, tmp_path: Path
) -> None:
    table = tmp_path / "images.toml"
    table.write_text(text)
    with pytest.raises(ImageTableError, match=words) as caught:
        read(table)
    assert str(table) in str(caught.value)


def test_the_server_does_not_start_with_a_table_that_does_not_exist(
    own_server: Server, tmp_path: Path
) -> None:
    own_server.extra = {"EMBEDDED_SAGEMAKER_IMAGES": str(tmp_path / "lost.toml")}
    with pytest.raises(AssertionError, match="error: EMBEDDED_SAGEMAKER_IMAGES: the table of"):
        own_server.start()


def test_script_mode_takes_the_servers_python_unless_another_is_named(tmp_path: Path) -> None:
    table = tmp_path / "images.toml"
    table.write_text('["a"]\nscript_mode = true\n["b"]\nscript_mode = true\npython = "/b"\n')
    first, second = read(table)
    assert (first.train[0], second.train[0]) == (sys.executable, "/b")
