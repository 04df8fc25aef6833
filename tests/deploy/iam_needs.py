"""Which permissions a request needs, by AWS's documents.

Sources, unless another one is named:
- https://docs.aws.amazon.com/service-authorization/latest/reference/
- https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.aws_requests import AwsRequest
from tests.deploy.ecs_rig import secret_and_field
from tests.deploy.iam_policies import Need

# Where operation and action of S3 differ in name.
S3_ACTIONS = {
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
}
SAGEMAKER_RESOURCES = {
    "ProcessingJobName": "processing-job",
    "TransformJobName": "transform-job",
    "TrainingJobName": "training-job",
    "ModelName": "model",
    "EndpointConfigName": "endpoint-config",
    "EndpointName": "endpoint",
}
LIST_ALL = {"ListEndpoints", "ListEndpointConfigs", "ListModels"}
# Statement and action, and the resource where it is not all of them → why no test asks for it.
_LAMBDA = "Lambda itself writes the log, as the function's role"
_APPLICATION = (
    "arn:${partition}:emr-serverless:${region}:${account}:/applications/${spark_application}"
)
NEVER_NEEDED: dict[tuple[str, ...], str] = {
    ("KeepObjectsOfPipelines", "s3:AbortMultipartUpload"): "only after a run that was killed",
    ("WriteRunLogs", "s3:AbortMultipartUpload"): "boto3 ends a large log's upload that fails",
    ("WriteModels", "s3:AbortMultipartUpload"): (
        "SageMaker takes back a large artifact whose upload fails"
    ),
    ("DecryptThem", "kms:Decrypt"): "only where a KMS key encrypts the bucket's objects",
    ("TagJobs", "emr-serverless:TagResource", _APPLICATION): "AWS may ask it there, too",
    ("WriteItsLog", "logs:CreateLogGroup"): _LAMBDA,
    ("WriteItsLog", "logs:CreateLogStream"): _LAMBDA,
    ("WriteItsLog", "logs:PutLogEvents"): _LAMBDA,
}
TRAINING = "/aws/sagemaker/TrainingJobs"
SERVING = "/aws/sagemaker/Endpoints"


def never_needed(sid: str, action: str, resource: str) -> str:
    """Why no test asks for a permission, its placeholders not filled in; empty where one has to."""
    return NEVER_NEEDED.get((sid, action)) or NEVER_NEEDED.get((sid, action, resource), "")


@dataclass(frozen=True)
class Account:
    """Where requests go: what stands in ARNs."""

    partition: str
    region: str
    account: str

    def arn(self, service: str, resource: str) -> str:
        """Of a resource of this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def stream(self, group: str, stream: str = "") -> str:
        """Of a log stream; of its group, as policies name it, where no stream is named.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/iam-access-control-overview-cwl.html
        """
        return self.arn("logs", f"log-group:{group}:log-stream:{stream}")

    def s3(self, bucket: str, key: str = "") -> str:
        """Of a bucket, or of an object in it."""
        return f"arn:{self.partition}:s3:::{bucket}" + (f"/{key}" if key else "")


def needs_of(request: AwsRequest, account: Account) -> list[Need]:
    """What whoever sends a request has to be allowed.

    Raises:
        KeyError: Nothing is known here of the request's service.
    """
    return [*_NEEDS[request.service](request, account)]


def _s3(request: AwsRequest, account: Account) -> Iterator[Need]:
    given = request.parameters
    bucket, key = given["Bucket"], given.get("Key", "")
    action = f"s3:{S3_ACTIONS.get(request.operation, request.operation)}"
    if request.operation == "DeleteObjects":
        for item in given["Delete"]["Objects"]:
            yield Need(action, account.s3(bucket, item["Key"]))
        return
    prefix = {"s3:prefix": given["Prefix"]} if "Prefix" in given else {}
    yield Need(action, account.s3(bucket, key), prefix)
    if source := given.get("CopySource"):
        yield Need("s3:GetObject", account.s3(*unquote(source).lstrip("/").split("/", 1)))
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
    if "IfMatch" in given and action != "s3:GetObject":
        yield Need("s3:GetObject", account.s3(bucket, key))
    # Without it, S3 answers 403 instead of 404.
    if action == "s3:GetObject" and request.status == 404:
        yield Need("s3:ListBucket", account.s3(bucket))


def _sagemaker(request: AwsRequest, account: Account) -> Iterator[Need]:
    given, action = request.parameters, f"sagemaker:{request.operation}"
    resources = [
        # Names are in lower case there.
        account.arn("sagemaker", f"{kind}/{given[name].lower()}")
        for name, kind in SAGEMAKER_RESOURCES.items()
        if name in given and not (name == "ModelName" and "TransformJobName" in given)
    ]
    resources = ["*"] if request.operation in LIST_ALL else resources or [given["ResourceArn"]]
    for resource in resources:
        yield Need(action, resource)
    if "Tags" in given and action != "sagemaker:AddTags":
        # The one that is made: an endpoint is named beside its config.
        yield Need("sagemaker:AddTags", resources[-1])
    if role := given.get("RoleArn") or given.get("ExecutionRoleArn"):
        yield Need("iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"})


def _logs(request: AwsRequest, account: Account) -> Iterator[Need]:
    given = request.parameters
    stream = account.stream(given["logGroupName"], given.get("logStreamName", ""))
    yield Need(f"logs:{request.operation}", stream)


def _ecs(request: AwsRequest, account: Account) -> Iterator[Need]:
    given, action = request.parameters, f"ecs:{request.operation}"
    if request.operation == "DescribeTaskDefinition":
        yield Need(action, "*")
        return
    cluster = given["cluster"].rpartition("/")[2]
    inside = {"ecs:cluster": account.arn("ecs", f"cluster/{cluster}")}
    if request.operation != "RunTask":
        for task in given.get("tasks", [given.get("task")]):
            yield Need(action, task, inside)
        return
    yield Need(action, given["taskDefinition"], inside)
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html
    if given.get("tags"):
        started = account.arn("ecs", f"task/{cluster}/started")
        yield Need("ecs:TagResource", started, {"ecs:CreateAction": "RunTask"})


def needs_to_run(definition: Mapping[str, Any]) -> Iterator[Need]:
    """What whoever runs tasks of a definition has to be allowed beside that.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
    """
    for role in ("taskRoleArn", "executionRoleArn"):
        service = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
        yield Need("iam:PassRole", definition[role], service)


def needs_to_start(definition: Mapping[str, Any], account: Account) -> Iterator[Need]:
    """What ECS does as the execution role of a definition.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    """
    for container in definition["containerDefinitions"]:
        yield from _pull(container["image"], account)
        options = container["logConfiguration"]["options"]
        for action in ("CreateLogStream", "PutLogEvents"):
            stream = f"{options['awslogs-stream-prefix']}/{container['name']}/started"
            yield Need(f"logs:{action}", account.stream(options["awslogs-group"], stream))
        for file in container["environmentFiles"]:
            yield Need("s3:GetObject", file["value"])
            yield Need("s3:GetBucketLocation", file["value"].split("/")[0])
        for secret in container["secrets"]:
            arn, _ = secret_and_field(secret["valueFrom"])
            yield Need("secretsmanager:GetSecretValue", arn)


def _emr_serverless(request: AwsRequest, account: Account) -> Iterator[Need]:
    given, action = request.parameters, f"emr-serverless:{request.operation}"
    application = account.arn("emr-serverless", f"/applications/{given['applicationId']}")
    job_run = f"{application}/jobruns/{given.get('jobRunId', 'started')}"
    yield Need(action, job_run if "jobRunId" in given else application)
    if given.get("tags"):
        yield Need("emr-serverless:TagResource", job_run)
    if role := given.get("executionRoleArn"):
        yield Need("iam:PassRole", role, {"iam:PassedToService": "emr-serverless.amazonaws.com"})


# Of which resources the rest is asked, is left to whoever deploys or looks.


def _by_name(request: AwsRequest, account: Account) -> Iterator[Need]:
    yield Need(f"{request.model.service_model.signing_name}:{request.operation}", "*")
    if "Role" in request.parameters:
        yield Need("iam:PassRole", "*")
    if "Tags" in request.parameters and request.service == "lambda":
        yield Need("lambda:TagResource", "*")


def _apigateway(request: AwsRequest, account: Account) -> Iterator[Need]:
    yield Need(f"apigateway:{request.model.http['method']}", "*")


def _nothing(request: AwsRequest, account: Account) -> Iterator[Need]:
    yield from ()


_NEEDS = {
    "apigateway": _apigateway,
    "ec2": _by_name,
    "ecs": _ecs,
    "emr-serverless": _emr_serverless,
    "iam": _by_name,
    "lambda": _by_name,
    "logs": _logs,
    "s3": _s3,
    "sagemaker": _sagemaker,
    "sagemaker-runtime": _sagemaker,
    "service-quotas": _by_name,
    "sns": _by_name,
    # Everybody may ask who they are.
    "sts": _nothing,
}


def actions_of(requests: Iterable[AwsRequest]) -> set[str]:
    """The actions that requests need, whatever they are asked of."""
    somewhere = Account("aws", "eu-west-1", "123456789012")
    return {need.action for request in requests for need in needs_of(request, somewhere)}


def needs_of_role(request: AwsRequest, account: Account) -> list[Need]:
    """What SageMaker does as the role that a request hands to it.

    https://docs.aws.amazon.com/sagemaker/latest/dg/sagemaker-roles.html: execution role permissions
    of CreateTrainingJob and CreateModel.
    """
    given = request.parameters
    if request.operation == "CreateTrainingJob":
        output = _place(f"{given['OutputDataConfig']['S3OutputPath']}/{given['TrainingJobName']}")
        return [
            *_pull(given["AlgorithmSpecification"]["TrainingImage"], account),
            *_tell(TRAINING, TRAINING, account),
            *(need for channel in given["InputDataConfig"] for need in _read(channel, account)),
            Need("s3:PutObject", account.s3(output[0], f"{output[1]}/output/model.tar.gz")),
        ]
    if request.operation == "CreateModel":
        container = given["PrimaryContainer"]
        return [
            *_pull(container["Image"], account),
            Need("s3:GetObject", account.s3(*_place(container["ModelDataUrl"]))),
        ]
    if request.operation == "CreateEndpoint":
        return [*_tell(f"{SERVING}/{given['EndpointName']}", SERVING, account)]
    return []


def _place(uri: str) -> tuple[str, str]:
    """Bucket and key of an S3 URI."""
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/").replace("//", "/")


def _read(channel: dict[str, Any], account: Account) -> Iterator[Need]:
    bucket, prefix = _place(channel["DataSource"]["S3DataSource"]["S3Uri"])
    yield Need("s3:ListBucket", account.s3(bucket), {"s3:prefix": prefix})
    yield Need("s3:GetObject", account.s3(bucket, f"{prefix}data.rec"))


def _pull(image: str, account: Account) -> Iterator[Need]:
    host, _, name = image.partition("/")
    registry, region = host.split(".")[0], host.split(".")[3]
    repository = Account(account.partition, region, registry).arn(
        "ecr", f"repository/{name.partition(':')[0]}"
    )
    yield Need("ecr:GetAuthorizationToken", "*")
    for action in ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer"):
        yield Need(f"ecr:{action}", repository)


def _tell(group: str, namespace: str, account: Account) -> Iterator[Need]:
    for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents"):
        yield Need(f"logs:{action}", account.stream(group))
    yield Need("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": namespace})
