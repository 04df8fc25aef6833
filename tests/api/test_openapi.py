"""The API does what its OpenAPI document says: every answer is one that is documented."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.openapi import document
from tests.api.rig import Served
from tests.conftest import clean_environ

CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


def test_the_document_names_just_the_routes_that_there_are(api: httpx.Client) -> None:
    answer = api.get("/openapi.json").json()
    assert answer == document()
    routes = {
        path: {method.lower() for method in item} for path, item in create_app().routes.items()
    }
    assert {path: set(item) for path, item in answer["paths"].items()} == routes


def test_generated_requests_get_documented_answers(served: Served, tmp_path: Path) -> None:
    """Schemathesis: valid and invalid requests made from the document."""
    schemathesis = Path(sys.executable).with_name("schemathesis")
    if not schemathesis.exists():
        pytest.skip("schemathesis is not installed")
    ran = subprocess.run(
        [
            *(schemathesis, "run", f"{served.url}/openapi.json", "--url", served.url),
            *("--checks", CHECKS, "--max-examples", "40", "--seed", "1", "--no-color"),
            *("--phases", "examples,coverage,fuzzing", "--request-timeout", "30"),
        ],
        cwd=tmp_path,
        env=clean_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
