"""What `ContainerTransform` asks its module for, and when it publishes what that has written.

The module is a function here, so that things can happen while it runs.
"""

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from platform_assets.components import ContainerTransform
from platform_assets.components.pipeline_asset import dated_folder
from platform_assets.module_runs import NotMadeNowError
from platform_assets.reports import Materialization, Outcome
from resources.docker import ModuleRun
from resources.s3 import ObjectStore, Publication, StoreUnavailableError

DAY, NEXT_DAY = "2026-03-01", "2026-03-02"
FORM = ContainerTransform(
    asset="lisbon/levels", inputs=["lisbon/snapshot"], module="levels", outputs=["levels.csv"]
)


class Module:
    """Runs a function of the day for each day that it is asked for; remembers the request."""

    mode = "process"

    def __init__(self, store: ObjectStore, meanwhile: Callable[[str], None] = lambda _: None):
        self._store, self._meanwhile = store, meanwhile
        self.request: Mapping[str, Any] = {}

    def model_copy(self, *, update: Mapping[str, Any]) -> "Module":
        return self

    def run(self, context: Any, module: str, *, extras: Mapping[str, Any]) -> ModuleRun:
        self.request = extras
        for day in extras["dates"]:
            self._meanwhile(day["date"])
            for key in day["outputs"].values():
                self._store.put_bytes(key, b"a,1\n")
        return ModuleRun(tuple({"date": d["date"], "rows": 1} for d in extras["dates"]), {})


@pytest.fixture
def store(environment: Mapping[str, str], bucket: str) -> ObjectStore:
    store = ObjectStore(bucket=bucket)
    for date in (DAY, NEXT_DAY):
        publish(store, date, b"1")
    return store


def publish(store: ObjectStore, date: str, content: bytes) -> None:
    """A date of what it is made of."""
    folder = dated_folder(store, "lisbon/snapshot", date)
    with Publication(folder) as publication:
        publication.put("rows.csv", content)
        publication.commit(partition=date, rows=1, code_version="1", inputs={})


def make(store: ObjectStore, module: Module, form: ContainerTransform = FORM) -> dict[str, Outcome]:
    context = SimpleNamespace(log=logging.getLogger(), run=SimpleNamespace(run_id="run1"))
    resources = SimpleNamespace(listings_store=store, docker=module)
    run: Any = SimpleNamespace(context=context, resources=resources)
    return form.make_dates(run, [DAY, NEXT_DAY])


def asked_for(module: Module) -> list[str]:
    return [day["date"] for day in module.request.get("dates", [])]


def test_a_date_is_made_again_where_its_input_or_what_it_consists_of_has_changed(
    store: ObjectStore,
) -> None:
    first, idle, changed, other = (Module(store) for _ in range(4))
    make(store, first)
    assert asked_for(first) == [DAY, NEXT_DAY]
    make(store, idle)
    assert not idle.request
    publish(store, NEXT_DAY, b"2")
    make(store, changed)
    assert asked_for(changed) == [NEXT_DAY]
    more = FORM.model_copy(update={"outputs": ["levels.csv", "notes.txt"]})
    make(store, other, more)
    assert asked_for(other) == [DAY, NEXT_DAY]
    published = more.folder(store, DAY).require(more.asset)
    assert {file.name for file in published.manifest.files} == {"levels.csv", "notes.txt"}


def test_a_date_whose_input_changes_meanwhile_is_not_published_of_the_earlier_one(
    store: ObjectStore,
) -> None:
    def replace(date: str) -> None:
        if date == DAY:
            publish(store, date, b"2")

    outcomes = make(store, Module(store, replace))
    error = outcomes[DAY]
    assert isinstance(error, NotMadeNowError)
    assert "published anew while levels was making it" in str(error)
    assert FORM.folder(store, DAY).published() is None
    assert isinstance(outcomes[NEXT_DAY], Materialization)


def test_files_are_staged_by_run_and_what_cannot_be_removed_costs_no_date(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise StoreUnavailableError("down")

    left = "pipelines/.staged/lisbon.levels/run0/2026-03-01/levels.csv"
    store.put_bytes(left, b"of a run that was killed")
    module = Module(store)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "delete_prefix", refuse)
        outcomes = make(store, module)
    assert all(isinstance(outcome, Materialization) for outcome in outcomes.values())
    (key,) = module.request["dates"][0]["outputs"].values()
    assert key == f"pipelines/.staged/lisbon.levels/run1/{DAY}/levels.csv"
    publish(store, DAY, b"2")
    make(store, Module(store))
    assert not list(store.list("pipelines/.staged/"))


def test_the_module_is_told_the_key_by_which_the_platform_encrypts(store: ObjectStore) -> None:
    module = Module(store)
    make(store, module)
    assert module.request["kms_key_id"] == ""
    encrypting = store.model_copy(update={"kms_key_id": "alias/data"})
    # The embedded store has no keys: what is asked of the module is all that is looked at.
    publish(store, DAY, b"2")
    make(encrypting, module)
    assert module.request["kms_key_id"] == "alias/data"
