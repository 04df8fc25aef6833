"""Which function runs which operation of the control plane, CloudWatch Logs and CloudWatch.

What the operations do is in the modules named here; IAM and STS have their own table in identity.
"""

from sagemaker_local import (
    hosting,
    job_kinds,
    metric_requests,
    model_groups,
    model_packages,
    names,
    processing,
    service_model,
    tags,
    training,
    transform,
)
from sagemaker_local.context import Operation
from sagemaker_local.listing import listing

_CONTROL: dict[str, Operation] = {
    **job_kinds.operations(training.KIND, training.create, training.list_jobs),
    **job_kinds.operations(
        processing.KIND,
        processing.create,
        listing(names.PROCESSING_JOB, "ProcessingJobSummaries", descending=False),
    ),
    **job_kinds.operations(
        transform.KIND, transform.create, listing(names.TRANSFORM_JOB, "TransformJobSummaries")
    ),
    "CreateModelPackageGroup": model_groups.create,
    "DescribeModelPackageGroup": model_groups.describe,
    "ListModelPackageGroups": model_groups.list_groups,
    "DeleteModelPackageGroup": model_groups.delete,
    "CreateModelPackage": model_packages.create,
    "DescribeModelPackage": model_packages.describe,
    "ListModelPackages": model_packages.list_packages,
    "UpdateModelPackage": model_packages.update,
    "DeleteModelPackage": model_packages.delete,
    "CreateModel": hosting.create_model,
    "DescribeModel": hosting.describing(names.MODEL, "ModelName"),
    "ListModels": listing(names.MODEL, "Models"),
    "DeleteModel": hosting.deleting(names.MODEL, "ModelName"),
    "CreateEndpointConfig": hosting.create_config,
    "DescribeEndpointConfig": hosting.describing(names.ENDPOINT_CONFIG, "EndpointConfigName"),
    "ListEndpointConfigs": listing(names.ENDPOINT_CONFIG, "EndpointConfigs"),
    "DeleteEndpointConfig": hosting.deleting(names.ENDPOINT_CONFIG, "EndpointConfigName"),
    "CreateEndpoint": hosting.create_endpoint,
    "DescribeEndpoint": hosting.describe_endpoint,
    "ListEndpoints": listing(names.ENDPOINT, "Endpoints"),
    "UpdateEndpoint": hosting.update_endpoint,
    "UpdateEndpointWeightsAndCapacities": hosting.update_weights,
    "DeleteEndpoint": hosting.delete_endpoint,
    "AddTags": tags.add,
    "ListTags": tags.list_tags,
    "DeleteTags": tags.delete,
}
_LOGS: dict[str, Operation] = {
    "DescribeLogGroups": lambda context, request: context.logs.describe_log_groups(request),
    "DescribeLogStreams": lambda context, request: context.logs.describe_log_streams(request),
    "GetLogEvents": lambda context, request: context.logs.get_log_events(request),
    "FilterLogEvents": lambda context, request: context.logs.filter_log_events(request),
}
_CLOUDWATCH: dict[str, Operation] = {
    "PutMetricAlarm": lambda context, request: context.alarms.put(request),
    "DescribeAlarms": lambda context, request: context.alarms.describe(request),
    "DeleteAlarms": lambda context, request: context.alarms.delete(request),
    "SetAlarmState": lambda context, request: context.alarms.set_state(request),
    "PutMetricData": metric_requests.put,
    "GetMetricStatistics": metric_requests.get_metric_statistics,
    "GetMetricData": metric_requests.get_metric_data,
    "ListMetrics": metric_requests.list_metrics,
}
TARGETS = {
    service_model.CONTROL_PREFIX: _CONTROL,
    service_model.LOGS_PREFIX: _LOGS,
    service_model.CLOUDWATCH_PREFIX: _CLOUDWATCH,
}
SIGNING_NAMES = {
    service_model.CONTROL_PREFIX: "sagemaker",
    service_model.LOGS_PREFIX: "logs",
    service_model.CLOUDWATCH_PREFIX: "monitoring",
}
