"""Amazon SageMaker for Dagster: training jobs and endpoints by reconciliation.

What is exported here is the public interface; the modules beside it are not.
"""

from resources.sagemaker.calls import Log
from resources.sagemaker.deploy import Deployment, SmokeTest
from resources.sagemaker.endpoint_spec import (
    BlueGreen,
    DataCapture,
    EndpointSpec,
    Instances,
    ModelContainer,
    Serverless,
    Variant,
)
from resources.sagemaker.endpoints import EndpointState, Invocation, Invoke
from resources.sagemaker.errors import (
    AlreadyExistsError,
    BusyError,
    DeployConflictError,
    DeployDeadlineError,
    EndpointError,
    EndpointFailedError,
    EndpointMismatchError,
    EndpointMissingError,
    NoEarlierVersionError,
    NotFoundError,
    QuotaError,
    RefusedError,
    SageMakerError,
    SmokeOutageError,
    SmokeTestError,
    SpecError,
    TrainingDeadlineError,
    TrainingError,
    TrainingFailedError,
    TrainingOutageError,
    TrainingStoppedError,
    UnavailableError,
    UpdateFailedError,
)
from resources.sagemaker.images import BUILTIN_ALGORITHMS, builtin_image_uri
from resources.sagemaker.names import deterministic_name
from resources.sagemaker.resource import SageMakerResource
from resources.sagemaker.retention import Pruned
from resources.sagemaker.trained_job import TrainedJob
from resources.sagemaker.training_spec import (
    Checkpoint,
    S3Channel,
    Spot,
    TrainingCompute,
    TrainingJobSpec,
    Vpc,
)
from resources.sagemaker.versions import EndpointVersion

__all__ = [
    "BUILTIN_ALGORITHMS",
    "AlreadyExistsError",
    "BlueGreen",
    "BusyError",
    "Checkpoint",
    "DataCapture",
    "DeployConflictError",
    "DeployDeadlineError",
    "Deployment",
    "EndpointError",
    "EndpointFailedError",
    "EndpointMismatchError",
    "EndpointMissingError",
    "EndpointSpec",
    "EndpointState",
    "EndpointVersion",
    "Instances",
    "Invocation",
    "Invoke",
    "Log",
    "ModelContainer",
    "NoEarlierVersionError",
    "NotFoundError",
    "Pruned",
    "QuotaError",
    "RefusedError",
    "S3Channel",
    "SageMakerError",
    "SageMakerResource",
    "Serverless",
    "SmokeOutageError",
    "SmokeTest",
    "SmokeTestError",
    "SpecError",
    "Spot",
    "TrainedJob",
    "TrainingCompute",
    "TrainingDeadlineError",
    "TrainingError",
    "TrainingFailedError",
    "TrainingJobSpec",
    "TrainingOutageError",
    "TrainingStoppedError",
    "UnavailableError",
    "UpdateFailedError",
    "Variant",
    "Vpc",
    "builtin_image_uri",
    "deterministic_name",
]
