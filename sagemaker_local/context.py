"""What an operation works with: configuration, state, S3, logs, metrics, jobs and endpoints.

Created once in app.py; each request gets a copy with its own faults.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sagemaker_local.alarms import Alarms
from sagemaker_local.config import Config
from sagemaker_local.faults import FaultPlan
from sagemaker_local.logs import Logs
from sagemaker_local.metrics import Metrics
from sagemaker_local.s3 import Storage
from sagemaker_local.store import Document, Store


@dataclass(frozen=True)
class Context:
    """The parts that operations share.

    Attributes:
        start_job, stop_job: Start or stop a stored job, named by its resource and its own name.
        wake_endpoint: Says that an endpoint's document has changed.
        request_faults: Faults that this one request asked for.
    """

    config: Config
    store: Store
    storage: Storage
    logs: Logs
    metrics: Metrics
    alarms: Alarms
    faults: FaultPlan
    start_job: Callable[[str, str], None]
    stop_job: Callable[[str, str], None]
    wake_endpoint: Callable[[str], None]
    request_faults: FaultPlan = field(default_factory=FaultPlan)

    def lasting_faults(self, operation: str) -> dict[str, float]:
        """The faults that what this request starts will meet."""
        return self.faults.lasting(operation) | self.request_faults.lasting(operation)


Operation = Callable[[Context, Document], Document]
