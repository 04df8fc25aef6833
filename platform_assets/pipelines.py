"""Pipelines that are YAML: how the files `pipelines/NAME/defs.yaml` become definitions.

What may stand in them is in `components`. What is wrong with one is said with its file and line.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from yaml.reader import ReaderError

from platform_assets import components as component_types
from platform_assets.components.pipeline_asset import (
    OWN_FOLDERS,
    PipelineAsset,
    PipelineError,
    in_order,
    repair_of,
)
from platform_assets.lineage import specs_of

FOLDER = Path(__file__).parents[1] / "pipelines"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PLACE = re.compile(r"(?P<field>.*?) at (?P<place>.+:\d+)")


@dataclass(frozen=True)
class ReservedNames:
    """The names of what is there without pipelines.

    Attributes:
        keys: Of assets.
        names: Of jobs, and of groups of assets.
        endpoints: Of SageMaker.
    """

    keys: frozenset[dg.AssetKey] = frozenset()
    names: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, specs: Iterable[dg.AssetSpec], jobs: Iterable[Any], *endpoints: str
    ) -> "ReservedNames":
        """The names of these assets, jobs and endpoints."""
        specs = list(specs)
        groups = {spec.group_name for spec in specs if spec.group_name}
        return cls(
            frozenset(spec.key for spec in specs),
            frozenset(groups | {job.name for job in jobs}),
            frozenset(endpoints),
        )


def load_pipelines(folder: Path, reserved: ReservedNames) -> dg.Definitions:
    """The definitions of all pipelines.

    Raises:
        PipelineError: A file is wrong; the message says where, and what to do.
    """
    files = sorted(folder.rglob("defs.y*ml"))
    if not files:  # the machinery of components would cost every process a second
        return dg.Definitions()
    check_strays(folder)
    for file in files:
        check_name(file, folder, reserved.names)
        check_types(file)
    module = ModuleType(folder.name)
    module.__path__ = [str(folder.absolute())]
    module.__file__ = None
    tree = dg.ComponentTree.from_module(defs_module=module, project_root=folder.absolute().parent)
    try:
        components = tree.get_all_components(of_type=PipelineAsset)
        check_keys(components, reserved)
        check_endpoints(components, reserved.endpoints)
        return tree.build_defs()
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, PipelineError):
                raise cause from None
            if isinstance(cause, ValidationError) and (sentences := list(_sentences(cause))):
                raise PipelineError("\n".join(sentences)) from None
        *_, last = _causes(error)
        raise PipelineError(f"A pipeline cannot be loaded: {last}\n{error}") from error


def check_strays(folder: Path) -> None:
    """Refuse what Dagster would load although it is no defs.yaml, and stands beside none."""
    pipelines = {file.parent for file in folder.glob("*/defs.y*ml")}
    for file in sorted(folder.rglob("*.py")):
        if not pipelines.intersection(file.parents):
            raise PipelineError(
                f"{file}:1: Python outside a pipeline's folder would be run whenever definitions "
                f"are loaded: put it beside the defs.yaml whose module it is, or out of {folder}."
            )
    for file in sorted(folder.rglob("component.yaml")):
        raise PipelineError(f"{file}:1: no file of this name is read: call it defs.yaml.")


def check_name(file: Path, folder: Path, reserved: Collection[str]) -> None:
    """Refuse a file that is not where it belongs, or whose folder has a name that is reserved."""
    name = file.parent.name
    if file.parent.parent != folder:
        remedy = f"move it to {folder}/NAME/defs.yaml"
    elif name in reserved:
        remedy = f"{name} is a job or a group of the platform's own: give the folder another name"
    elif not _NAME.fullmatch(name):
        remedy = f"a folder is a name: rename {name!r}, to small letters, digits and _ alone"
    else:
        return
    raise PipelineError(f"{file}:1: {remedy}.")


def check_types(file: Path) -> None:
    """Refuse what is no YAML, or names a component that is not there."""
    documents = _documents(file)
    if not documents:
        raise PipelineError(f"{file}:1: nothing is in it: describe an asset, or remove the file.")
    for document in documents:
        fields = document.value if isinstance(document, yaml.MappingNode) else []
        for name, value in fields:
            package, _, type_name = str(value.value).rpartition(".")
            if (
                name.value == "type"
                and package == component_types.__name__
                and type_name not in component_types.__all__
            ):
                raise PipelineError(
                    f"{file}:{value.start_mark.line + 1}: there is no component {type_name}: "
                    f"{_like(type_name, component_types.__all__)}"
                )


def _documents(file: Path) -> list[yaml.Node]:
    try:
        return list(yaml.compose_all(file.read_text(encoding="utf-8"), yaml.SafeLoader))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        remedy = "this is no text in UTF-8: save it as such"
    except ReaderError as error:
        line = file.read_text(encoding="utf-8").count("\n", 0, error.position) + 1
        remedy = f"YAML has no character {error.character:#x}: take it out"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        remedy = f"this is no YAML, {error.problem}: look here, and at the line before"
    raise PipelineError(f"{file}:{line}: {remedy}.")


def check_keys(components: Sequence[PipelineAsset], reserved: ReservedNames) -> None:
    """Refuse reserved keys and names, and what is made of itself or of what is not there."""
    places = dict.fromkeys(
        [
            *(f"an asset {key.to_user_string()}" for key in reserved.keys),
            *(f"a job {name}" for name in reserved.names),
        ],
        "the platform's own code",
    )
    for component in components:  # of which each has the job of its folder
        places[f"a job {component.pipeline}"] = f"{component.where()}, by the name of its folder"
    first = {component.pipeline: component for component in reversed(components)}
    for component in components:
        is_first = first[component.pipeline] is component
        repair = [f"a job {repair_of(component.pipeline)}"] if is_first else []
        for name in (*_added_by(component), *repair):
            if name in places:
                raise PipelineError(
                    f"{component.where()}: there is {name} already, in {places[name]}: give one of "
                    "them another name."
                )
            places[name] = component.where()
    names = {component.asset for component in components} | OWN_FOLDERS.keys()
    for component in components:
        for key in component.upstream():
            if (name := key.to_user_string()) not in names:
                raise PipelineError(
                    f"{component.where('inputs')}: there is no asset {name} to make "
                    f"{component.asset} of: {_like(name, sorted(names - {component.asset}))}"
                )
    in_order(components)


def _added_by(component: PipelineAsset) -> Iterator[str]:
    """What a component adds, by names that nothing else may have."""
    of_endpoint = component.endpoint_definitions("")
    added = specs_of([*component.sources(), *(of_endpoint.assets or [])])
    for key in (component.asset_key, *sorted(spec.key for spec in added)):
        yield f"an asset {key.to_user_string()}"
    yield from (f"a job {job.name}" for job in of_endpoint.jobs or [])
    yield from (f"a resource {name}" for name in component.resources())


def check_endpoints(components: Sequence[PipelineAsset], known: Iterable[str]) -> None:
    """Refuse a second asset at an endpoint; AWS takes `Shapes` and `shapes` for one name."""
    places = {name.lower(): "the platform's own digits" for name in known}
    for component in components:
        if not isinstance(component, component_types.SageMakerModel) or component.endpoint is None:
            continue
        where, name = component.where("endpoint"), component.endpoint.lower()
        if name in places:
            raise PipelineError(
                f"{where}: the endpoint {component.endpoint} serves other models already, of "
                f"{places[name]}: give one of them another name."
            )
        places[name] = where


def _like(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause:
        yield cause
        cause = cause.__cause__


def _sentences(error: ValidationError) -> Iterator[str]:
    """What is wrong: file, line, field, and what to do."""
    for wrong in error.errors():
        match = _PLACE.fullmatch(str(wrong["loc"][-1])) if wrong["loc"] else None
        if match is None:  # not of a file
            continue
        path, place = match.group("field", "place")
        *above, name = [part for part in path.split(".") if not part.isdecimal()]
        fields = _fields(error.title, above[1:])
        description = fields[name].description if name in fields else None
        what = f": {description.rstrip('.')}" if description else ""
        if wrong["type"] == "missing":
            text = f"{name} has to be filled in{what}"
        elif wrong["type"] == "extra_forbidden":
            where = above[-1] if above[1:] else error.title
            text = f"{where} has no field {name}: {_like(name, sorted(fields))}"
        elif wrong["type"] == "value_error":  # which says by itself what to do
            text = f"{name}: {wrong['msg'].removeprefix('Value error, ')}"
        else:
            text = f"{name}: {wrong['msg']}{what}"
        yield f"{place}: {text}{'' if text.endswith(('?', '.')) else '.'}"


def _fields(type_name: str, path: Sequence[str]) -> Mapping[str, FieldInfo]:
    """The fields of a component type, or of the model in one of its fields."""
    model: Any = getattr(component_types, type_name, None)
    for name in path:
        field = model.model_fields.get(name) if hasattr(model, "model_fields") else None
        model = field.annotation if field else None
    return getattr(model, "model_fields", {})
