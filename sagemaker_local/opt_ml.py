"""The folder that stands for /opt/ml: what AWS puts there before a job, and takes from there.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sagemaker_local.store import Document

_OPT_ML = "/opt/ml"
_GROUP = "homogeneousCluster"
# The channel in which the SDK v3 sends the programs that run a user's script.
_DRIVERS = "sm_drivers"
# As much of the file `failure` as DescribeTrainingJob shows, less what stands around it.
_REASON = 960
# As much of the file `message` as DescribeProcessingJob shows.
_MESSAGE = 1024
# Members of a processing job's document that its containers find in a file.
_SHOWN = (
    "ProcessingJobArn",
    "ProcessingJobName",
    "AppSpecification",
    "Environment",
    "ProcessingInputs",
    "ProcessingOutputConfig",
    "ProcessingResources",
    "NetworkConfig",
    "RoleArn",
    "StoppingCondition",
)


def lay_out(
    base: Path, job: Document, host: str, hosts: Sequence[str], network_interface: str
) -> None:
    """Makes the folders and configuration files of one instance of a training job."""
    for folder in ("model", "output/data", "input/data", "checkpoints", "code"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    config = base / "input" / "config"
    config.mkdir()
    kind = job["ResourceConfig"]["InstanceType"]
    files: dict[str, Any] = {
        "hyperparameters": job.get("HyperParameters", {}),
        "inputdataconfig": {
            channel["ChannelName"]: _channel(channel) for channel in job.get("InputDataConfig", [])
        },
        "resourceconfig": {
            "current_host": host,
            "current_instance_type": kind,
            "current_group_name": _GROUP,
            "hosts": list(hosts),
            "instance_groups": [
                {"instance_group_name": _GROUP, "instance_type": kind, "hosts": list(hosts)}
            ],
            "network_interface_name": network_interface,
        },
    }
    _write(config, files)


def lay_out_processing(base: Path, job: Document, host: str, hosts: Sequence[str]) -> None:
    """Makes the folders and configuration files of one instance of a processing job."""
    for folder in ("config", "output", "processing"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {
        "processingjobconfig": {name: job[name] for name in _SHOWN if name in job},
        "resourceconfig": {"current_host": host, "hosts": list(hosts)},
    }
    _write(base / "config", files)


def relative_to_opt_ml(path: str) -> PurePosixPath:
    """A path in a container, as it is below the base folder."""
    return PurePosixPath(path).relative_to(_OPT_ML)


def replace_opt_ml(words: Iterable[str], base: Path) -> list[str]:
    """A container's command as a process's: the base folder in the place of /opt/ml."""
    return [word.replace(f"{_OPT_ML}/", f"{base}/") for word in words]


def patch_drivers(base: Path) -> None:
    """Has the SDK v3's own programs, which name /opt/ml, name the base folder.

    Source: https://github.com/aws/sagemaker-python-sdk, `sagemaker-train`, `container_drivers`
    """
    for path in channel_folder(base, _DRIVERS).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.write_bytes(content.replace(f"{_OPT_ML}/".encode(), f"{base}/".encode()))


def channel_folder(base: Path, name: str) -> Path:
    """Where a channel's files lie."""
    return base / "input" / "data" / name


def failure(base: Path) -> str:
    """The reason that the code left in output/failure, as far as it is shown; empty if none."""
    return _beginning(base / "output" / "failure", _REASON)


def exit_message(base: Path) -> str:
    """What the code left in output/message, as far as it is shown; empty if nothing."""
    return _beginning(base / "output" / "message", _MESSAGE)


def source_location(parameters: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Where script mode's sources lie: an S3 address, a folder, or nothing.

    The SDKs write hyperparameters as JSON, and a model's as variables.
    """
    given = parameters.get("sagemaker_submit_directory")
    if given is None:
        return environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    try:
        return str(json.loads(given))
    except ValueError:
        return given


def _write(folder: Path, files: Mapping[str, Any]) -> None:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def _beginning(path: Path, characters: int) -> str:
    # In a container a link may name what on this machine is somebody else's.
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(4 * characters).decode(errors="replace").strip()[:characters]


def _channel(channel: Document) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    content_type = {"ContentType": channel["ContentType"]} if "ContentType" in channel else {}
    return {
        **content_type,
        "TrainingInputMode": "File",
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
