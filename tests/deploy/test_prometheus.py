"""promtool checks the configuration and the rules, and runs the rules' tests."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from formats.browser_guard import parse_hosts
from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "prometheus"
PROMTOOL = shutil.which("promtool")
METRIC = re.compile(r"\bplatform_[a-z_]+\b")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Debian's prometheus, is not installed")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_accepts_configuration_rules_and_their_tests(command: list[str]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_test_covers_every_rule_while_nothing_is_wrong() -> None:
    rules = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    assert {rule["alert"] for rule in rules} == {
        test["alertname"] for test in tests[0]["alert_rule_test"]
    }


def test_prometheus_scrapes_the_service_that_compose_starts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    name, port = target.split(":")
    services = yaml.safe_load((CHECKOUT / "deploy" / "docker-compose.yaml").read_text())["services"]
    command = services[name]["command"][-1]
    assert f"--port {port}" in command
    hosts = re.search(r'PLATFORM_ALLOWED_HOSTS="(\S*)\$\$PLATFORM_ALLOWED_HOSTS"', command)
    assert hosts
    assert name in parse_hosts(hosts[1])


def metrics_used(file: Path) -> set[str]:
    """The names of the platform's metrics in the expressions of rules or of a dashboard."""
    if file.suffix == ".json":
        panels = json.loads(file.read_text())["panels"]
        expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    else:
        groups = yaml.safe_load(file.read_text())["groups"]
        expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(expressions) >= 12
    return set().union(*map(METRIC.findall, expressions))
