"""An AWS that insists on its rules: fronts of the embedded services, which know none of them.

A rule looks at a request and raises what AWS would answer. S3's codes are from
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

import hashlib
import json
import re
import ssl
import zlib
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.aws_requests import AwsRequest, read_request
from tests.certificates import make_authority, write_server_files
from tests.role_credentials import Role
from tests.s3_front import Answer, Incoming, in_front_of_all

Rule = Callable[[AwsRequest, Incoming], None]

# Of the checksums that S3 knows, those that need no package.
DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": lambda body: hashlib.md5(body).digest(),
    "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: hashlib.sha1(body).digest(),
    "x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(),
}
# How SageMaker and CloudWatch Logs call what S3 has other words for:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
IN_JSON = {
    "ExpiredToken": (403, "ExpiredTokenException"),
    "InvalidAccessKeyId": (403, "UnrecognizedClientException"),
    "InvalidToken": (403, "UnrecognizedClientException"),
    "SignatureDoesNotMatch": (403, "InvalidSignatureException"),
    "SlowDown": (400, "ThrottlingException"),
}
# What concerns the client's own signature, and the keys that the S3 behind does not have.
NOT_PASSED_ON = {
    "authorization",
    "expect",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-security-token",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-trailer",
}
_SIGNATURE = re.compile(
    r"Credential=[^/]+/\d+/(?P<region>[\w-]+)/(?P<service>[\w-]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>\w+)"
)


class RefusedError(Exception):
    """What S3 answers to a request: status, code, message, and the bucket's region if it says."""

    def __init__(self, status: int, code: str, message: str, region: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.region = status, code, region

    def answer(self, service: str) -> Answer:
        """In the form of a service."""
        if service != "s3":
            status, code = IN_JSON.get(self.code, (400, self.code))
            body = json.dumps({"__type": code, "message": str(self)}).encode()
            return status, body, {"x-amzn-ErrorType": code}
        text = f"<Error><Code>{self.code}</Code><Message>{self}</Message>"
        if not self.region:
            return self.status, f"{text}</Error>".encode()
        body = f"{text}<Region>{self.region}</Region></Error>".encode()
        return self.status, body, {"x-amz-bucket-region": self.region}


def demand_kms(key: str) -> Rule:
    """A bucket's policy denies what is not to be encrypted by the key.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
    """

    def rule(asked: AwsRequest, _: Incoming) -> None:
        given = asked.parameters
        encrypted = given.get("ServerSideEncryption"), given.get("SSEKMSKeyId")
        writing = asked.operation in {"PutObject", "CopyObject", "CreateMultipartUpload"}
        if writing and encrypted != ("aws:kms", key):
            raise RefusedError(
                403, "AccessDenied", "An explicit deny is in a resource-based policy"
            )

    return rule


def demand_checksum(asked: AwsRequest, request: Incoming) -> None:
    """A bucket with Object Lock takes nothing without a checksum.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html
    """
    if asked.operation in {"PutObject", "UploadPart"} and not checksums_of(request):
        raise _invalid(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with "
            "Object Lock parameters"
        )


def check_checksums() -> Rule:
    """Checksums are right, and those of parts are given again where an upload is completed.

    Parts that S3 copies by itself are left out: the S3 behind does not tell their checksums.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    """
    algorithms: dict[tuple[str, str], str] = {}
    parts: dict[tuple[str, str, int], str] = {}

    def rule(asked: AwsRequest, request: Incoming) -> None:
        given, checksums = asked.parameters, checksums_of(request)
        place = given.get("Bucket", ""), given.get("Key", "")
        if asked.operation == "CreateMultipartUpload":
            algorithms[place] = given.get("ChecksumAlgorithm", "")
        algorithm = algorithms.get(place, "")
        if asked.operation == "CompleteMultipartUpload":
            for part in given["MultipartUpload"]["Parts"] if algorithm else ():
                checksum = part.get(f"Checksum{algorithm}")
                if checksum != parts.get((*place, part["PartNumber"]), checksum):
                    raise _invalid(
                        f"The upload was created using a {algorithm.lower()} checksum. The "
                        "complete request must include the checksum for each part. It was missing "
                        f"for part {part['PartNumber']} in the request."
                    )
            # Another one here is the whole object's.
            return
        for name, value in checksums.items():
            if value != b64encode(DIGESTS[name](request.body)).decode():
                raise RefusedError(400, "BadDigest", f"The {name} does not match the content.")
        if asked.operation == "UploadPart":
            checksums.pop("content-md5", None)
            name, checksum = next(iter(checksums.items()), ("null", ""))
            sent, expected = name.removeprefix("x-amz-checksum-"), algorithm.lower() or "null"
            if sent != expected:
                raise _invalid(
                    f"Checksum Type mismatch occurred, expected checksum Type: {expected}, actual "
                    f"checksum Type: {sent}"
                )
            parts[*place, given["PartNumber"]] = checksum

    return rule


def checksums_of(request: Incoming) -> dict[str, str]:
    """By name, whether they stand before the body or behind it."""
    headers = [*request.headers.items(), *request.trailers.items()]
    return {name.lower(): value for name, value in headers if name.lower() in DIGESTS}


def redirect(home: str, regions: Mapping[str, str]) -> Rule:
    """A bucket answers in its own region alone: those that are not named, in the home region.

    https://docs.aws.amazon.com/AmazonS3/latest/API/Redirects.html
    """

    def rule(asked: AwsRequest, request: Incoming) -> None:
        signed = _signature_of(request)["region"]
        region = regions.get(asked.parameters.get("Bucket", ""), home)
        if asked.service != "s3" or signed == region:
            return
        if signed == home:
            raise RefusedError(
                301, "PermanentRedirect", "Send all future requests to the bucket's own.", region
            )
        raise RefusedError(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{signed}' is wrong; expecting "
            f"'{region}'",
            region,
        )

    return rule


def demand_session(role: Role) -> Rule:
    """Nobody is known but who has credentials of the role that are still valid, and signs by them.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_use-resources.html
    """

    def rule(_: AwsRequest, request: Incoming) -> None:
        given = _signature_of(request)
        token = request.headers.get("X-Amz-Security-Token")
        if token is None:
            raise RefusedError(403, "InvalidAccessKeyId", "The access key ID does not exist.")
        if token not in role.issued:
            raise RefusedError(400, "InvalidToken", "The provided token is malformed.")
        keys, end = role.issued[token]
        if end <= datetime.now(UTC):
            raise RefusedError(400, "ExpiredToken", "The provided token has expired.")
        signer = _signer(keys, given)
        headers = {name: request.headers.get(name, "") for name in given["headers"].split(";")}
        signed = _to_sign(request, "https:", headers)
        signed.context["timestamp"] = request.headers["X-Amz-Date"]
        text = signer.string_to_sign(signed, signer.canonical_request(signed))
        if signer.signature(text, signed) != given["signature"]:
            raise RefusedError(403, "SignatureDoesNotMatch", "The signature does not match.")

    return rule


def throttle(every: int) -> Rule:
    """Of each operation, the first request and each so many-th after it are too many.

    S3 slows down from 3,500 writes or 5,500 reads a second and prefix on, CloudWatch Logs and
    SageMaker by rates of the account, some of them below ten a second:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
    https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
    """
    counts: Counter[str] = Counter()

    def rule(asked: AwsRequest, _: Incoming) -> None:
        counts[asked.operation] += 1
        # An endpoint of one's own is as quick as its instances.
        if asked.operation != "InvokeEndpoint" and counts[asked.operation] % every == 1:
            raise RefusedError(503, "SlowDown", "Please reduce your request rate.")

    return rule


@dataclass
class StrictAws:
    """Fronts of all services, and what they have refused.

    Attributes:
        keys: Those that the services behind know.
        rules: In the order in which they are asked.
        env: The fronts' addresses, and whom to trust there.
        refused: How often, by service and S3's code.
    """

    keys: Credentials
    rules: tuple[Rule, ...]
    env: dict[str, str] = field(default_factory=dict)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def refuse(self, request: Incoming) -> Answer | None:
        """The first rule's answer that a request breaks."""
        service = "s3"
        try:
            service = _signature_of(request)["service"]
            asked = read_request(request.command, request.path, request.headers, request.body, 0)
            with self._lock:
                for rule in self.rules:
                    rule(asked, request)
        except (RefusedError, ValueError) as error:
            refusal = error if isinstance(error, RefusedError) else _invalid(str(error))
            self.refused[service, refusal.code] += 1
            return refusal.answer(service)
        return None

    def sign_again(self, upstream: str, request: Incoming) -> dict[str, str]:
        """The headers of a request as the service behind takes it."""
        headers = {
            name: value
            for name, value in request.headers_as_sent().items()
            if name.lower() not in NOT_PASSED_ON and value != "aws-chunked"
        }
        signed = _to_sign(request, upstream, headers | dict(request.trailers.items()))
        _signer(self.keys, _signature_of(request)).add_auth(signed)
        return dict(signed.headers.items())


# Of the fixture of this name: puts an AWS with some rules in front of the services.
Strict = Callable[..., StrictAws]


@contextmanager
def strict_aws(env: Mapping[str, str], folder: Path, *rules: Rule) -> Iterator[StrictAws]:
    """In front of the services of an environment, by TLS, without which checksums go elsewhere."""
    authority = make_authority("AWS")
    write_server_files(folder, authority)
    trusted = folder / "trusted.pem"
    trusted.write_bytes(authority.pem)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    keys = Credentials(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    aws = StrictAws(keys, rules, {"AWS_CA_BUNDLE": str(trusted)})
    with in_front_of_all(env, tls) as fronts:
        for name, front in fronts.items():
            front.refuse = aws.refuse
            front.headers = partial(aws.sign_again, front.upstream)
            aws.env[name] = front.url
        yield aws


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "InvalidRequest", message)


def _signature_of(request: Incoming) -> re.Match[str]:
    signature = _SIGNATURE.search(request.headers.get("Authorization", ""))
    if signature is None:
        raise RefusedError(403, "AccessDenied", "Anonymous access is denied.")
    return signature


def _signer(keys: Credentials, signature: re.Match[str]) -> SigV4Auth:
    kind = S3SigV4Auth if signature["service"] == "s3" else SigV4Auth
    return kind(keys, signature["service"], signature["region"])


def _to_sign(request: Incoming, base: str, headers: Mapping[str, str]) -> AWSRequest:
    parts = urlsplit(request.path)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return AWSRequest(request.command, f"{base}{parts.path}", headers, request.body, query)
