"""Amazon SageMaker for Dagster: training, transform and processing jobs, and endpoints.

What is exported here is the public interface; the modules beside it are not. Their imports are
relative, since the folder is also a part of the distribution in `dagster_sagemaker/`.
"""

from .calls import Log
from .deploy import Deployment, SmokeTest
from .endpoint_spec import EndpointSpec, Instances, ModelContainer, Variant
from .endpoints import EndpointState, EndpointVersion, Invocation, Invoke
from .errors import (
    DeployConflictError,
    DeployDeadlineError,
    EndpointError,
    JobError,
    NotFoundError,
    ProcessingError,
    RefusedError,
    SageMakerError,
    SmokeTestError,
    SpecError,
    TrainingError,
    TransformError,
    UnavailableError,
)
from .job_kind import FinishedJob
from .names import builtin_image_uri, deterministic_name
from .processing_job import ProcessedData, ProcessingInput, ProcessingJobSpec, ProcessingOutput
from .resource import SageMakerResource
from .retention import Pruned
from .security import Security
from .training_job import (
    S3Channel,
    Spot,
    TrainedJob,
    TrainingCompute,
    TrainingJobSpec,
)
from .transform_job import TransformedData, TransformInput, TransformJobSpec

__all__ = [
    "DeployConflictError",
    "DeployDeadlineError",
    "Deployment",
    "EndpointError",
    "EndpointSpec",
    "EndpointState",
    "EndpointVersion",
    "FinishedJob",
    "Instances",
    "Invocation",
    "Invoke",
    "JobError",
    "Log",
    "ModelContainer",
    "NotFoundError",
    "ProcessedData",
    "ProcessingError",
    "ProcessingInput",
    "ProcessingJobSpec",
    "ProcessingOutput",
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
    "TransformError",
    "TransformInput",
    "TransformJobSpec",
    "TransformedData",
    "UnavailableError",
    "Variant",
    "builtin_image_uri",
    "deterministic_name",
]
