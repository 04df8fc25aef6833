"""Rules of the strict AWS: whoever breaks one is refused. What the platform does is beside it.

Those for keys and Object Lock are broken in `resources/s3/test_s3.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from resources.s3 import ObjectStore, StoreCredentialsError
from tests.role_credentials import Role, metadata_service
from tests.strict_aws import Strict, check_checksums, demand_session, redirect, throttle

ONCE = Config(retries={"total_max_attempts": 1})
WRONG = "AAAAAA=="


@pytest.fixture
def role() -> Iterator[Role]:
    with metadata_service() as role:
        yield role


def outcome(call: Callable[[], object]) -> str:
    """The code of an error, or nothing."""
    try:
        call()
    except ClientError as error:
        return error.response.get("Error", {}).get("Code", "")
    return ""


def s3(**keys: Any) -> Any:
    return boto3.session.Session(**keys).client("s3", config=ONCE)


@pytest.mark.parametrize("checksum", ["ChecksumCRC32", "ChecksumSHA256", "ContentMD5"])
def test_a_wrong_checksum_is_refused(strict: Strict, bucket: str, checksum: str) -> None:
    aws = strict(check_checksums())
    put = {"Bucket": bucket, "Key": "key", "Body": b"x", checksum: WRONG}
    assert outcome(lambda: s3().put_object(**put)) == "BadDigest"
    assert aws.refused == {("s3", "BadDigest"): 1}


def test_a_wrong_checksum_behind_the_content_is_refused(strict: Strict, bucket: str) -> None:
    strict(check_checksums())
    client = s3()

    def put() -> None:
        client.put_object(Bucket=bucket, Key="key", Body=b"x")

    assert outcome(put) == ""
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"x"

    def falsify(request: AWSPreparedRequest, **_: object) -> None:
        request.body = f"1\r\ny\r\n0\r\nx-amz-checksum-crc32:{WRONG}\r\n\r\n".encode()

    client.meta.events.register("before-send.s3.PutObject", falsify)
    assert outcome(put) == "BadDigest"


@pytest.mark.parametrize(
    ("created", "completed", "words"),
    [
        ({"ChecksumAlgorithm": "SHA256"}, {}, "expected checksum Type: sha256, actual"),
        ({}, {}, "expected checksum Type: null, actual checksum Type: crc32"),
        ({"ChecksumAlgorithm": "CRC32"}, {}, "It was missing for part 1"),
        ({"ChecksumAlgorithm": "CRC32"}, {"ChecksumCRC32": WRONG}, "It was missing for part 1"),
    ],
    ids=["another algorithm", "none was named", "not named again", "another one at the end"],
)
def test_an_upload_in_parts_whose_checksums_do_not_fit_is_refused(
    strict: Strict, bucket: str, created: dict[str, str], completed: dict[str, str], words: str
) -> None:
    strict(check_checksums())
    client, place = s3(), {"Bucket": bucket, "Key": "key"}
    upload = place | {"UploadId": client.create_multipart_upload(**place, **created)["UploadId"]}

    def upload_and_complete() -> None:
        sent = client.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = [{"PartNumber": 1, "ETag": sent["ETag"], **completed}]
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    with pytest.raises(ClientError, match=words):
        upload_and_complete()


def test_a_bucket_of_another_region_is_followed_there(strict: Strict, bucket: str) -> None:
    aws = strict(redirect("eu-west-1", {bucket: "us-east-1"}))
    store = ObjectStore(bucket=bucket, max_attempts=1)
    store.put_bytes("key", b"x")
    assert store.get_bytes("key", max_bytes=1) == b"x"
    assert aws.refused == {("s3", "PermanentRedirect"): 1}


def test_only_credentials_of_the_role_are_taken_and_only_until_their_end(
    strict: Strict, bucket: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = strict(demand_session(role))
    store = ObjectStore(bucket=bucket)
    with pytest.raises(StoreCredentialsError, match="InvalidAccessKeyId"):
        store.put_bytes("key", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{role.url}/credentials")
    store = ObjectStore(bucket=bucket)
    store.put_bytes("key", b"x")
    keys, _ = [*role.issued.values()][-1]
    frozen = {"aws_access_key_id": keys.access_key, "aws_session_token": keys.token}

    def ask(secret: str, token: Mapping[str, str] = frozen) -> str:
        client = s3(**{**frozen, **token}, aws_secret_access_key=secret)
        return outcome(lambda: client.list_objects_v2(Bucket=bucket))

    assert ask(keys.secret_key) == ""
    assert ask("another one's") == "SignatureDoesNotMatch"
    assert ask(keys.secret_key, {"aws_session_token": "made up"}) == "InvalidToken"
    role.expire()
    assert ask(keys.secret_key) == "ExpiredToken"
    session = boto3.session.Session(**frozen, aws_secret_access_key=keys.secret_key)
    jobs = session.client("sagemaker", config=ONCE)
    assert outcome(jobs.list_training_jobs) == "ExpiredTokenException"
    assert outcome(boto3.session.Session().client("sagemaker").list_training_jobs) == ""
    before = aws.refused.total()
    store.put_bytes("key", b"y")
    assert aws.refused.total() == before


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("s3", "list_buckets", "SlowDown"),
        ("sagemaker", "list_models", "ThrottlingException"),
        ("logs", "describe_log_groups", "ThrottlingException"),
    ],
)
def test_of_each_operation_some_requests_are_too_many(
    strict: Strict, service: str, operation: str, code: str
) -> None:
    strict(throttle(3))
    make: Any = boto3.session.Session().client
    call = getattr(make(service, config=ONCE), operation)
    assert [outcome(call) for _ in range(6)] == [code, "", "", code, "", ""]
    patient = getattr(make(service), operation)
    assert outcome(patient) == ""
