"""What is deployed: its size, that it runs from the package alone, and what it is allowed."""

import base64
import json
import re
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest

from platform_assets.mnist import deployed
from resources.s3 import ObjectStore
from tests.api.rig import Deployment, Split
from tests.conftest import CHECKOUT, Services, clean_environ
from tests.digit_pictures import encoded

KEY = "a-key-of-twenty-letters"
ZIPPED, UNZIPPED = 50 * 2**20, 250 * 2**20
LAMBDA = """
import base64, json, sys
sys.path = [path for path in sys.path if "site-packages" not in path and path]
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import PIL, numpy, pillow_heif, formats.digit_features, app
for module in (PIL, numpy, pillow_heif, formats.digit_features):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
told = [app.app(event, None) for event in json.load(sys.stdin)]
json.dump(told, sys.stdout)
"""


def build(folder: Path, endpoint: str = "digits", **extra: str) -> subprocess.CompletedProcess[str]:
    """Runs deploy/build_api.py."""
    options = ["--endpoint", endpoint, "--bucket", "platform", "--account", "123456789012"]
    return subprocess.run(
        [sys.executable, "deploy/build_api.py", str(folder), *options],
        cwd=CHECKOUT,
        env=clean_environ(**extra),
        capture_output=True,
        text=True,
        check=False,
    )


def configured(project: Path) -> dict[str, Any]:
    """What Chalice is told of the stage."""
    return json.loads((project / ".chalice" / "config.json").read_text())["stages"]["prod"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip that Chalice makes of the project."""
    folder = tmp_path_factory.mktemp("deploy")
    built = build(folder / "project", PLATFORM_API_KEY=KEY)
    assert built.returncode == 0, built.stderr
    chalice = Path(sys.executable).with_name("chalice")
    packed = subprocess.run(
        [
            chalice,
            "--project-dir",
            folder / "project",
            "package",
            "--stage",
            "prod",
            folder / "out",
        ],
        env=clean_environ(AWS_DEFAULT_REGION="eu-west-1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert packed.returncode == 0, packed.stderr
    assert "Could not install dependencies" not in packed.stdout + packed.stderr
    return folder / "out" / "deployment.zip"


def test_without_a_key_nothing_is_built(tmp_path: Path) -> None:
    for key in ("", "short"):
        refused = build(tmp_path / "project", PLATFORM_API_KEY=key)
        assert refused.returncode == 1
        assert "PLATFORM_API_KEY" in refused.stderr
        assert not (tmp_path / "project").exists()


def test_the_package_is_below_lambdas_limits_and_brings_its_libraries(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
        unpacked = sum(file.file_size for file in archive.infolist())
    assert package.stat().st_size < ZIPPED
    assert unpacked < UNZIPPED
    assert any(name.startswith("pillow.libs/") for name in names), "Pillow was built, not installed"
    assert any(name.startswith("numpy.libs/") for name in names)
    assert "api/page.html" in names
    assert not [name for name in names if name.startswith(("embedded", "resources"))]


def test_cfn_lint_finds_nothing_in_the_packages_template(
    package: Path, linters_of_aws: str
) -> None:
    template = package.with_name("sam.json")
    judged = subprocess.run(
        [Path(linters_of_aws).with_name("cfn-lint"), "--regions", "eu-west-1", "--", template],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_packaged_app_answers_from_the_package_alone(
    package: Path,
    tmp_path: Path,
    services: Services,
    deployment: Deployment,
    digits: dict[str, Split],
) -> None:
    """With API Gateway's events; of this machine it has Python, and boto3 as a Lambda has it."""
    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path / "lambda")
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py"):
        (runtime / name).symlink_to(Path(boto3.__file__).parent.parent / name)
    project = package.parent.parent / "project"
    variables = configured(project)["environment_variables"]
    picture = encoded(digits["test"].pixels[0], "HEIF", quality=95)
    wrong = event("POST", "/", picture, key="another-key-of-letters")
    ran = subprocess.run(
        # -S: no site-packages, nor the finder by which the checkout is installed.
        [sys.executable, "-S", "-c", LAMBDA, str(tmp_path / "lambda"), str(runtime)],
        input=json.dumps([event("GET", "/openapi.json"), event("POST", "/", picture), wrong]),
        env=clean_environ(
            **{**services.env, **variables, "PLATFORM_ENDPOINT_NAME": deployment.endpoint},
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    document, answer, refusal = json.loads(ran.stdout)
    assert document["statusCode"] == answer["statusCode"] == 200, ran.stdout
    assert refusal["statusCode"] == 401
    assert json.loads(answer["body"])["digit"] == digits["test"].labels[0]


def test_the_policy_names_one_endpoint_and_what_it_serves(tmp_path: Path) -> None:
    build(tmp_path / "project", endpoint="Digits", PLATFORM_API_KEY=KEY)
    policy = json.loads((tmp_path / "project" / ".chalice" / "policy-prod.json").read_text())
    listed = [(statement["Action"], statement["Resource"]) for statement in policy["Statement"]]
    actions, resources = (
        {one for value in part for one in ([value] if isinstance(value, str) else value)}
        for part in zip(*listed, strict=True)
    )
    assert "*" not in "".join(actions)
    log = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/"
    assert resources == {
        # In lower case, as SageMaker writes names into ARNs.
        "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/digits",
        "arn:aws:sagemaker:eu-west-1:123456789012:endpoint-config/digits-*",
        "arn:aws:sagemaker:eu-west-1:123456789012:model/digits-*",
        f"arn:aws:s3:::platform/{deployed.classifiers(ObjectStore(bucket='platform')).root_of('Digits')}*",
        # By way of S3 alone: a condition of the policy.
        "arn:aws:kms:eu-west-1:123456789012:key/*",
        f"{log}data-platform-digits-eu-west-1-prod",
        f"{log}data-platform-digits-eu-west-1-prod:*",
    }


def test_names_fit_and_tell_endpoints_and_regions_apart(tmp_path: Path) -> None:
    """Names of roles and of Lambdas have 64 characters, and those of endpoints 63."""
    names: list[str] = []
    for endpoint, region in (
        ("a" * 62 + "b", "eu-west-1"),
        ("a" * 63, "eu-west-1"),
        ("a" * 63, "eu-west-2"),
        ("digits", "eu-west-1"),
    ):
        built = build(tmp_path, endpoint=endpoint, AWS_DEFAULT_REGION=region, PLATFORM_API_KEY=KEY)
        assert built.returncode == 0, built.stderr
        names.append(json.loads((tmp_path / ".chalice" / "config.json").read_text())["app_name"])
    assert len(set(names)) == 4
    assert max(len(f"{name}-prod-api_handler") for name in names) == 64


def test_a_slow_answer_is_the_gateways_504(tmp_path: Path) -> None:
    """It gives up after 29 seconds; of a Lambda that is ended before, it tells a 502."""
    build(tmp_path / "project", PLATFORM_API_KEY=KEY)
    assert configured(tmp_path / "project")["lambda_timeout"] > 29


def test_the_key_itself_is_written_nowhere(tmp_path: Path) -> None:
    build(tmp_path / "project", PLATFORM_API_KEY=KEY)
    variables = configured(tmp_path / "project")["environment_variables"]
    assert variables["PLATFORM_API_KEY_SHA256"] == sha256(KEY.encode()).hexdigest()
    written = [path for path in (tmp_path / "project").rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


DEPLOYER = {
    "PLATFORM_API_KEY": KEY,
    "PLATFORM_BUCKET": "platform",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
    "AWS_MAX_ATTEMPTS": "1",
}


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("PLATFORM_API_KEY", "Set PLATFORM_API_KEY"),
        ("PLATFORM_BUCKET", "Set PLATFORM_BUCKET"),
        ("AWS_DEFAULT_REGION", "Set AWS_DEFAULT_REGION"),
        ("AWS_ACCESS_KEY_ID", "No AWS credentials were found"),
        ("nothing", "AWS cannot be asked"),
    ],
)
def test_what_keeps_it_from_being_deployed_is_told_in_a_sentence(
    tmp_path: Path, missing: str, message: str
) -> None:
    environment = {name: value for name, value in DEPLOYER.items() if name != missing}
    if missing == "AWS_ACCESS_KEY_ID":
        del environment["AWS_SECRET_ACCESS_KEY"]
    refused = subprocess.run(
        [
            *("make", "--no-print-directory", "--old-file=.venv/.installed", "deploy-api"),
            f"BIN={Path(sys.executable).parent}",
        ],
        cwd=CHECKOUT,
        env=clean_environ(**environment, HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = refused.stderr.splitlines()
    assert refused.returncode
    assert lines[0].startswith(message)
    # Within another make, as in `make test`, it gives its depth.
    assert lines[1:] == [line for line in lines if re.match(r"make(\[\d+\])?: \*\*\* ", line)]
    assert "a-secret" not in refused.stderr


def event(method: str, path: str, body: bytes = b"", key: str = KEY) -> dict[str, object]:
    """A request as API Gateway hands it to a Lambda."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "image/webp", "X-Api-Key": key, "Accept": "*/*"},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"resourcePath": path, "httpMethod": method, "path": f"/api{path}"},
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }
