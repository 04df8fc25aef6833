"""Puts together the Chalice project that is deployed: the app, what it imports, its policy.

    python deploy/build_api.py FOLDER --endpoint digits --bucket data-platform --account 12…

The folder is then Chalice's: `chalice --project-dir FOLDER package --stage prod OUT`. The API key
that callers must name is read from PLATFORM_API_KEY; only its SHA-256 is written anywhere.
`deploy_api.py` beside this puts it on AWS.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

import boto3

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCE = CHECKOUT / "deploy" / "api"
# The local server is not deployed.
LEFT_OUT = shutil.ignore_patterns("__pycache__", "local.py", "__main__.py")
STAGE = "prod"
SHORTEST_KEY = 16
# Names of roles and of Lambdas have 64 characters. Chalice adds "-prod-api_handler" to the role's.
LONGEST_NAME = 64 - len(f"-{STAGE}-api_handler")


def build(
    folder: Path, *, endpoint: str, bucket: str, account: str, region: str, api_key: str
) -> None:
    """Write the project into a folder, anew."""
    name = api_name(endpoint, region)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(CHECKOUT / "api", folder / "vendor" / "api", ignore=LEFT_OUT)
    shutil.copytree(CHECKOUT / "formats", folder / "vendor" / "formats", ignore=LEFT_OUT)
    (folder / "app.py").write_text(
        f'"""What the Lambda runs."""\n\nfrom api.app import app\n\napp.app_name = "{name}"\n'
    )
    shutil.copy(SOURCE / "requirements.txt", folder)
    chalice = folder / ".chalice"
    chalice.mkdir()
    policy = Template((SOURCE / "policy.json").read_text()).substitute(
        # SageMaker writes names in lower case into ARNs, and nowhere else.
        endpoint=endpoint.lower(),
        endpoint_name=endpoint,
        bucket=bucket,
        account=account,
        region=region,
        partition=boto3.session.Session().get_partition_for_region(region),
        function=f"{name}-{STAGE}",
    )
    (chalice / f"policy-{STAGE}.json").write_text(policy)
    config = json.dumps(_config(name, endpoint, api_key), indent=2)
    (chalice / "config.json").write_text(config + "\n")


def api_name(endpoint: str, region: str) -> str:
    """The name of an endpoint's API: of its REST API, and the beginning of its Lambda's and role's.

    Roles are an account's, whatever the region, and their names differ by more than case.
    """
    name = f"data-platform-{endpoint.lower()}-{region}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9]}-{digest}"


def chosen_key() -> str:
    """The API key that callers must name, from PLATFORM_API_KEY.

    Raises:
        ValueError: It is missing or too short.
    """
    key = os.environ.get("PLATFORM_API_KEY", "")
    if len(key) < SHORTEST_KEY:
        raise ValueError(
            f"Set PLATFORM_API_KEY to the key that callers must name, of at least {SHORTEST_KEY} "
            "characters: without one anybody could use the endpoint."
        )
    return key


def _config(name: str, endpoint: str, api_key: str) -> dict[str, Any]:
    """Chalice's configuration. Its Lambda has a core to itself from 1,769 MB on."""
    return {
        "version": "2.0",
        "app_name": name,
        "automatic_layer": False,
        "stages": {
            STAGE: {
                "api_gateway_stage": "api",
                "api_gateway_endpoint_type": "REGIONAL",
                "autogen_policy": False,
                "iam_policy_file": f"policy-{STAGE}.json",
                "lambda_memory_size": 1769,
                # API Gateway gives up after 29 s and says 504; a Lambda that ends first is a 502.
                "lambda_timeout": 30,
                "environment_variables": {
                    "PLATFORM_ENDPOINT_NAME": endpoint,
                    "PLATFORM_API_KEY_SHA256": sha256(api_key.encode()).hexdigest(),
                },
            }
        },
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Put together the Chalice project of the API.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--endpoint", required=True, help="name of the SageMaker endpoint")
    parser.add_argument("--bucket", required=True, help="bucket of the classifiers")
    parser.add_argument("--account", required=True, help="AWS account, 12 digits")
    parser.add_argument("--region", default=os.environ.get("AWS_DEFAULT_REGION", "eu-west-1"))
    arguments = parser.parse_args()
    try:
        api_key = chosen_key()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    build(
        arguments.folder,
        endpoint=arguments.endpoint,
        bucket=arguments.bucket,
        account=arguments.account,
        region=arguments.region,
        api_key=api_key,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
