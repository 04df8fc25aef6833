"""Adds the rule of lifecycle.json to buckets; the rules that they have stay.

    python deploy/add_lifecycle_rule.py BUCKET...

PutBucketLifecycleConfiguration replaces all rules of a bucket: this one puts the others back.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RULES = json.loads(Path(__file__).with_name("lifecycle.json").read_text())["Rules"]


def read_lifecycle(s3: S3Client, bucket: str) -> dict[str, Any]:
    """A bucket's lifecycle configuration; one without rules where it has none."""
    try:
        answer: dict[str, Any] = dict(s3.get_bucket_lifecycle_configuration(Bucket=bucket))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchLifecycleConfiguration":
            raise
        return {"Rules": []}
    del answer["ResponseMetadata"]
    return answer


def add_rules(s3: S3Client, bucket: str) -> None:
    """Adds ours, in the place of rules that have its ID."""
    lifecycle = read_lifecycle(s3, bucket)
    rules = lifecycle.pop("Rules")
    ours = {rule["ID"] for rule in RULES}
    others = [rule for rule in rules if rule.get("ID") not in ours]
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": others + RULES}, **lifecycle
    )


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    client = boto3.session.Session().client("s3")
    try:
        for name in sys.argv[1:]:
            add_rules(client, name)
    except (BotoCoreError, ClientError) as error:
        sys.exit(str(error))
