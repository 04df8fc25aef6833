"""IAM and STS through boto3: the operations that the SageMaker SDK v3 calls."""

import pytest

from tests.sagemaker_local.rig import ROLE, Server, refusal


def test_the_caller_is_of_the_account_in_every_arn(server: Server) -> None:
    caller = server.client("sts").get_caller_identity()
    assert caller["Account"] == "123456789012"
    assert caller["Arn"].startswith("arn:aws:iam::123456789012:user/")


def test_a_role_is_one_that_sagemaker_may_take(server: Server) -> None:
    role = server.client("iam").get_role(RoleName="training")["Role"]
    assert role["Arn"] == ROLE
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_each_action_is_allowed_on_each_resource(server: Server) -> None:
    actions, resources = ["s3:GetObject", "logs:PutLogEvents"], ["arn:aws:s3:::a", "arn:aws:s3:::b"]
    answer = server.client("iam").simulate_principal_policy(
        PolicySourceArn=ROLE, ActionNames=actions, ResourceArns=resources
    )
    assert [
        (result["EvalActionName"], result["EvalResourceName"], result["EvalDecision"])
        for result in answer["EvaluationResults"]
    ] == [(action, resource, "allowed") for action in actions for resource in resources]
    assert answer["IsTruncated"] is False


@pytest.mark.parametrize(
    ("service", "operation", "request_", "code"),
    [
        ("iam", "get_role", {"RoleName": "not a name"}, "ValidationError"),
        ("iam", "get_role", {}, "ValidationError"),
        (
            "iam",
            "simulate_principal_policy",
            {"PolicySourceArn": "arn:aws:iam::123456789012:root", "ActionNames": ["s3:GetObject"]},
            "InvalidInput",
        ),
        ("iam", "list_roles", {}, "InvalidAction"),
        ("sts", "get_session_token", {}, "InvalidAction"),
    ],
)
def test_wrong_or_unknown_requests_are_refused(
    server: Server, service: str, operation: str, request_: dict[str, object], code: str
) -> None:
    client = server.client(service)
    answer = refusal(lambda: getattr(client, operation)(**request_))
    assert answer["Error"]["Code"] == code


@pytest.mark.parametrize("service", ["iam", "sts"])
def test_a_wrong_secret_is_refused(server: Server, service: str) -> None:
    client = server.client(service, AWS_SECRET_ACCESS_KEY="wrong")
    call = client.get_caller_identity if service == "sts" else lambda: client.get_role(RoleName="r")
    answer = refusal(call)["ResponseMetadata"]
    assert answer["HTTPStatusCode"] == 403
    # Of the body, and of the header.
    assert answer["RequestId"] == answer["HTTPHeaders"]["x-amzn-requestid"]
