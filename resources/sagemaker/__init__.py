"""Amazon SageMaker for Dagster: training jobs and endpoints by reconciliation.

What is exported here is the public interface; the modules beside it are not.
"""

from resources.sagemaker.calls import Log
from resources.sagemaker.deploy import Deployment, SmokeTest
from resources.sagemaker.endpoint_spec import EndpointSpec, Instances, ModelContainer, Variant
from resources.sagemaker.endpoints import EndpointState, EndpointVersion, Invocation, Invoke
from resources.sagemaker.errors import (
    DeployConflictError,
    DeployDeadlineError,
    EndpointError,
    NotFoundError,
    RefusedError,
    SageMakerError,
    SmokeTestError,
    SpecError,
    TrainingError,
    UnavailableError,
)
from resources.sagemaker.names import builtin_image_uri, deterministic_name
from resources.sagemaker.resource import SageMakerResource
from resources.sagemaker.retention import Pruned
from resources.sagemaker.security import Security
from resources.sagemaker.training_job import (
    S3Channel,
    Spot,
    TrainedJob,
    TrainingCompute,
    TrainingJobSpec,
)

__all__ = [
    "DeployConflictError",
    "DeployDeadlineError",
    "Deployment",
    "EndpointError",
    "EndpointSpec",
    "EndpointState",
    "EndpointVersion",
    "Instances",
    "Invocation",
    "Invoke",
    "Log",
    "ModelContainer",
    "NotFoundError",
    "Pruned",
    "RefusedError",
    "S3Channel",
    "SageMakerError",
    "SageMakerResource",
    "Security",
    "SmokeTest",
    "SmokeTestError",
    "SpecError",
    "Spot",
    "TrainedJob",
    "TrainingCompute",
    "TrainingError",
    "TrainingJobSpec",
    "UnavailableError",
    "Variant",
    "builtin_image_uri",
    "deterministic_name",
]
