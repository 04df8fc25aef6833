"""The login in front of Dagster's UI: a real nginx with deploy/login.conf, two real web servers."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import clean_environ
from tests.local_servers import free_port
from tests.nginx import NGINX, login, nginx, running, write_users

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
PASSWORDS = {"editor": "an editor's", "reader": "a reader's"}
DEFINITIONS = """
import dagster as dg

@dg.asset
def counted(): ...

JOB = dg.define_asset_job("count", [counted])
defs = dg.Definitions(
    assets=[counted],
    jobs=[JOB],
    schedules=[dg.ScheduleDefinition(name="daily", job=JOB, cron_schedule="0 0 * * *")],
)
"""
WORKSPACE = "load_from: [{python_file: {relative_path: defs.py, location_name: here}}]"
PLACE = 'repositoryLocationName: "here", repositoryName: "__repository__"'
STATE = f"""{{
  runsOrError {{ ... on Runs {{ results {{ runId }} }} }}
  scheduleOrError(scheduleSelector: {{{PLACE}, scheduleName: "daily"}}) {{
    ... on Schedule {{ scheduleState {{ status }} }} }}
  instance {{ concurrencyLimits {{ concurrencyKey }} }}
  assetOrError(assetKey: {{path: ["counted"]}}) {{
    ... on Asset {{ assetMaterializations {{ runId }} }} }}
}}"""
REPORT = "/report_asset_materialization/counted"
MUTATIONS = {
    "start a schedule": f"""startSchedule(scheduleSelector: {{{PLACE}, scheduleName: "daily"}}) {{
        __typename }}""",
    "limit a pool": 'setConcurrencyLimit(concurrencyKey: "one", limit: 1)',
    "launch a run": f"""launchRun(executionParams: {{
        mode: "default", selector: {{{PLACE}, pipelineName: "count"}}}}) {{ __typename }}""",
    "forget an asset": """wipeAssets(assetPartitionRanges: [{assetKey: {path: ["counted"]}}]) {
        __typename }""",
    "load anew": 'reloadRepositoryLocation(repositoryLocationName: "here") { __typename }',
}


@dataclass(frozen=True)
class Login:
    """A running login."""

    url: str

    def client(self, name: str, password: str) -> httpx.Client:
        """Somebody's programme; without a name, it does not log in."""
        auth = (name, password) if name else None
        return httpx.Client(base_url=self.url, auth=auth, trust_env=False, timeout=120)

    def asks(self, name: str, query: str) -> httpx.Response:
        """The answer to a query, or a mutation, of one of those who have a password."""
        with self.client(name, PASSWORDS[name]) as client:
            return client.post("/graphql", json={"query": query})

    def reports(self, name: str) -> httpx.Response:
        """The answer to who says that an asset was made elsewhere."""
        with self.client(name, PASSWORDS[name]) as client:
            return client.post(REPORT, json={})

    def state(self) -> Any:
        """What Dagster has in its records."""
        return self.asks("editor", STATE).json()["data"]


@pytest.fixture(scope="module")
def entrance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    folder = tmp_path_factory.mktemp("login")
    write_users(folder, PASSWORDS, editors=["editor"])
    (folder / "defs.py").write_text(DEFINITIONS)
    (folder / "workspace.yaml").write_text(WORKSPACE)
    port, writing, reading = free_port(), free_port(), free_port()
    environ = clean_environ(DAGSTER_HOME=str(folder))
    webserver = [sys.executable, "-m", "webserver", "--workspace", str(folder / "workspace.yaml")]
    configuration = login(folder, port, editors=writing, readers=reading)
    with (
        running(writing, *webserver, "--port", str(writing), **environ),
        # After the first, which makes the tables.
        running(reading, *webserver, "--port", str(reading), "--read-only", **environ),
        nginx(folder, port, configuration),
    ):
        yield Login(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        pytest.param("", "", id="nobody"),
        pytest.param("stranger", "a guess", id="not among the users"),
        pytest.param("editor", "a guess", id="wrong password"),
        pytest.param("editor", PASSWORDS["reader"], id="somebody else's password"),
        pytest.param("editor", "", id="no password"),
    ],
)
def test_who_does_not_log_in_gets_nothing(entrance: Login, name: str, password: str) -> None:
    with entrance.client(name, password) as client:
        answers = [
            client.get("/"),
            client.get("/server_info"),
            client.get("/logs/anything"),
            client.post("/graphql", json={"query": "{ version }"}),
            client.post(REPORT, json={}),
            client.get("/graphql", headers={"Connection": "Upgrade", "Upgrade": "websocket"}),
        ]
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Dagster"'
        assert "Dagster" not in answer.text


@pytest.mark.parametrize("name", PASSWORDS)
def test_whoever_logs_in_sees_the_ui_and_its_data(entrance: Login, name: str) -> None:
    with entrance.client(name, PASSWORDS[name]) as client:
        assert ">Dagster</title>" in client.get("/").text
        assert client.get("/server_info").json()["dagster_version"]
    assert entrance.asks(name, "{ version }").json()["data"]["version"]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_reader_changes_nothing(entrance: Login, mutation: str) -> None:
    before = entrance.state()
    answer = entrance.asks("reader", f"mutation {{ {MUTATIONS[mutation]} }}").json()
    assert "UnauthorizedError" in str(answer)
    assert entrance.state() == before


def test_a_reader_reports_no_assets(entrance: Login) -> None:
    before = entrance.state()
    assert entrance.reports("reader").status_code in {401, 403}
    assert entrance.state() == before


def test_an_editor_changes_things(entrance: Login) -> None:
    for mutation in ("start a schedule", "limit a pool", "load anew"):
        answer = entrance.asks("editor", f"mutation {{ {MUTATIONS[mutation]} }}").json()
        assert "errors" not in answer
        assert "Error" not in str(answer)
    assert entrance.reports("editor").status_code == 200
    state = entrance.state()
    assert state["scheduleOrError"]["scheduleState"]["status"] == "RUNNING"
    assert state["instance"]["concurrencyLimits"] == [{"concurrencyKey": "one"}]
    assert len(state["assetOrError"]["assetMaterializations"]) == 1


def test_pages_of_somebody_else_use_no_login(entrance: Login) -> None:
    """A browser sends the password along with whatever any page asks for."""
    with entrance.client("editor", PASSWORDS["editor"]) as client:
        headers = {"Origin": "https://evil.example.com"}
        assert client.post("/graphql", json={"query": "{ version }"}, headers=headers).is_error


def test_its_health_is_told_without_a_login(entrance: Login) -> None:
    with entrance.client("", "") as client:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")
