"""ARNs and the other names that AWS gives to things."""

from sagemaker_local.config import Config

TRAINING_JOB = "training-job"
TRANSFORM_JOB = "transform-job"
PROCESSING_JOB = "processing-job"
MODEL = "model"
MODEL_PACKAGE = "model-package"
MODEL_PACKAGE_GROUP = "model-package-group"
ENDPOINT_CONFIG = "endpoint-config"
ENDPOINT = "endpoint"
ALARM = "alarm"
TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS = "/aws/sagemaker/TransformJobs"
PROCESSING_LOGS = "/aws/sagemaker/ProcessingJobs"


def arn(config: Config, kind: str, name: str) -> str:
    """A resource's ARN; SageMaker writes names in lower case there."""
    return f"arn:aws:sagemaker:{config.region}:{config.account}:{kind}/{name.lower()}"


def address(config: Config, kind: str, name_or_arn: str) -> str:
    """The ARN of what a request names by its name or its ARN."""
    is_arn = name_or_arn.startswith("arn:")
    return name_or_arn.lower() if is_arn else arn(config, kind, name_or_arn)


def key(config: Config, kind: str, name_or_arn: str) -> str:
    """The last part of a resource's ARN; another account's or kind's ARN stays whole."""
    return address(config, kind, name_or_arn).removeprefix(arn(config, kind, ""))


def alarm_arn(config: Config, name: str) -> str:
    """ARN of an alarm."""
    return f"arn:aws:cloudwatch:{config.region}:{config.account}:alarm:{name}"


def log_stream_arn(config: Config, group: str, stream: str = "") -> str:
    """ARN of a log group, or of a stream in it."""
    base = f"arn:aws:logs:{config.region}:{config.account}:log-group:{group}"
    return f"{base}:log-stream:{stream}" if stream else f"{base}:*"


def endpoint_logs(name: str) -> str:
    """The log group of an endpoint."""
    return f"/aws/sagemaker/Endpoints/{name}"
