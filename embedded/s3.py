"""S3 by SeaweedFS: its command line, whether it answers, and the platform's buckets.

`supervision` keeps it running.
"""

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from embedded.aws import aws_client
from embedded.ports import HOST, Ports

# Keeps Go's collector at work early. With 256 MiB it never rests during a large upload, which then
# costs two and a half times the processor.
ENVIRONMENT = {"GOMEMLIMIT": "384MiB", "GOGC": "50"}
_BUCKET_EXISTS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
_CHECK_KEY = ".health"


def command(data: Path, ports: Ports) -> list[str]:
    """The command line that serves `data` in the foreground.

    It reads the keys from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; *without them it would
    serve everybody*. `-disableHttp` closes the filer, which knows no keys. The sockets are
    relative to the working folder, since a Unix socket's path must be short.
    """
    options: Mapping[str, object] = {
        "dir": data,
        "ip": HOST,
        "ip.bind": HOST,
        "s3.port": ports.s3,
        "s3.port.grpc": ports.s3_grpc,
        "master.port": ports.s3_master,
        "master.port.grpc": ports.s3_master_grpc,
        "volume.port": ports.s3_volume,
        "volume.port.grpc": ports.s3_volume_grpc,
        "filer.port": ports.s3_filer,
        "filer.port.grpc": ports.s3_filer_grpc,
        "admin.port": ports.s3_admin,
        "admin.port.grpc": ports.s3_admin_grpc,
        "filer.localSocket": "filer.sock",
        "s3.localFilerSocket": "filer.sock",
        "s3.localSocket": "s3.sock",
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "s3.autoCreateBucket": "false",
        "s3.allowDeleteBucketNotEmpty": "false",
        "disableHttp": "true",
        "idleTimeout": 3,
        "volume.max": 1000,
        "master.volumeSizeLimitMB": 1024,
    }
    # By itself it would write its log into the folder of temporary files, too, where it stays.
    mini = [str(program()), "-logtostderr=true", "mini"]
    return [*mini, *(f"-{name}={value}" for name, value in options.items())]


def program() -> Path:
    """SeaweedFS."""
    return Path(sysconfig.get_path("scripts")) / "weed"


def check(environment: Mapping[str, str]) -> None:
    """Make the platform's buckets where they are missing, put an object and read it.

    `/healthz` answers before writes work, so only a put shows that the service is ready. The object
    has content: an empty one is taken while that of all others cannot be read yet.

    Raises:
        botocore.exceptions.BotoCoreError | ClientError: Nobody answers, or not to these keys.
    """
    s3 = aws_client(environment, "s3", quick=True)
    for name in ("PLATFORM_BUCKET", "PLATFORM_AIRBNB_BUCKET"):
        ensure_bucket(s3, environment[name])
    place = {"Bucket": environment["PLATFORM_BUCKET"], "Key": _CHECK_KEY}
    s3.put_object(**place, Body=b"well")
    s3.get_object(**place)["Body"].read()
    s3.delete_object(**place)


def ensure_bucket(s3: Any, name: str) -> None:
    """Make a bucket where it is missing, which clears away uploads that nobody finished.

    Raises:
        botocore.exceptions.ClientError: The service does not let us.
    """
    try:
        s3.create_bucket(
            Bucket=name,
            CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name},
        )
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _BUCKET_EXISTS:
            raise
        return
    s3.put_bucket_lifecycle_configuration(
        Bucket=name,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "unfinished-uploads",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                }
            ]
        },
    )
