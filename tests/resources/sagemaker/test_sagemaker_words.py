"""What SageMaker says where it has no code for it, in the words of AWS and of its imitators.

Beside a message stands the public log, or the code that looks for it, which it is from; accounts
and names are replaced. Where nothing stands, we know of no such place.
"""

import pytest
from botocore.exceptions import ClientError

from resources.sagemaker import NotFoundError, RefusedError, SageMakerError
from resources.sagemaker.calls import translate
from resources.sagemaker.errors import AlreadyExistsError, BusyError

ARN = "arn:aws:sagemaker:us-west-2:123456789012"
EXAMPLES = "https://github.com/aws/amazon-sagemaker-examples/issues"
MOTO = "https://github.com/getmoto/moto/blob/master/moto/sagemaker/models.py"
TERRAFORM = (
    "https://github.com/hashicorp/terraform-provider-aws/blob/main/internal/service/sagemaker/"
    "endpoint_configuration.go"
)
MISSING = {
    "Requested resource not found.": "https://github.com/aws/sagemaker-python-sdk/issues/326",
    f'Could not find endpoint "{ARN}:endpoint/e".': f"{EXAMPLES}/2402",
    f"Could not find endpoint '{ARN}:endpoint/e'.": MOTO,
    f'Could not find endpoint configuration "{ARN}:endpoint-config/c".': f"{EXAMPLES}/2339",
    f"Could not find endpoint configuration '{ARN}:endpoint-config/c'.": MOTO,
    f'Could not find model "{ARN}:model/m".': "https://github.com/boto/boto3/issues/2886",
    f"Could not find model '{ARN}:model/m'.": MOTO,
    "Could not find endpoint configuration": TERRAFORM,
    # Of StopTrainingJob and StopTransformJob where the job was never created.
    "Could not find job to update with name job": "",
    "Endpoint e of account 123456789012 not found.": f"{EXAMPLES}/559",
}
EXISTING = {
    f'Cannot create already existing model "{ARN}:model/m".': (
        "https://github.com/astronomer/astronomer-providers/issues/1055"
    ),
    f"Cannot create already existing endpoint '{ARN}:endpoint/e'.": "",
}
BUSY = {
    "The request was rejected because the training job is in status Stopped.": (
        "https://github.com/awslabs/benchmark-ai/issues/928"
    ),
    f'Cannot update in-progress endpoint "{ARN}:endpoint/e".': "",
}
# The artifact is missing, not the model: to create that again would not help.
REFUSED = {
    "Could not find model data at s3://bucket/model.tar.gz.": "",
    'No S3 objects found under S3 URL "s3://bucket/x" given in input data source.': "",
    'Variant "v" not found in endpoint "e".': "",
}
CASES = [
    (message, kind)
    for messages, kind in (
        (MISSING, NotFoundError),
        (EXISTING, AlreadyExistsError),
        (BUSY, BusyError),
        (REFUSED, RefusedError),
    )
    for message in messages
]


@pytest.mark.parametrize("code", ["ValidationException", "ValidationError"])
@pytest.mark.parametrize(("message", "kind"), CASES, ids=lambda value: str(value)[:50])
def test_a_validation_error_is_known_by_its_words(
    message: str, kind: type[SageMakerError], code: str
) -> None:
    assert type(translated(code, message)) is kind


@pytest.mark.parametrize(("message", "kind"), CASES, ids=lambda value: str(value)[:50])
def test_the_same_words_under_another_code_say_nothing(
    message: str, kind: type[SageMakerError]
) -> None:
    """Where something else is wrong, nothing is known to be missing."""
    assert type(translated("AccessDeniedException", message)) is RefusedError


@pytest.mark.parametrize("message", ["The specified log group does not exist.", "anything"])
def test_a_code_of_its_own_needs_no_words(message: str) -> None:
    """CloudWatch Logs has one, and some of SageMaker's operations have."""
    for code in ("ResourceNotFoundException", "ResourceNotFound"):
        assert type(translated(code, message)) is NotFoundError
    assert type(translated("ResourceInUse", message)) is AlreadyExistsError


def translated(code: str, message: str) -> SageMakerError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    return translate("operation", ClientError(answer, "Operation"))  # pyright: ignore[reportArgumentType]
