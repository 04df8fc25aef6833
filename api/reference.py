"""The API described for people: the OpenAPI document as a page, without any script."""

from __future__ import annotations

import functools
import json
from html import escape
from importlib import resources
from string import Template
from typing import Any

from api.openapi import document


@functools.cache
def html() -> str:
    """The page: every route with what it takes and answers, and every schema."""
    contract = document()
    routes = [
        _operation(method, path, operation)
        for path, operations in contract["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = [_schema(name, schema) for name, schema in contract["components"]["schemas"].items()]
    template = Template(resources.files("api").joinpath("reference.html").read_text("utf-8"))
    return template.substitute(
        title=escape(contract["info"]["title"]),
        description=escape(contract["info"]["description"]),
        key=escape(contract["components"]["securitySchemes"]["key"]["name"]),
        routes="".join(routes),
        schemas="".join(schemas),
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</h2>",
        _list("Query", {p["name"]: p["description"] for p in operation.get("parameters", [])}),
        _list("Body", {kind: _name(content["schema"]) for kind, content in body.items()}),
        _list("Answers", {code: _answer(of) for code, of in operation["responses"].items()}),
    ]
    return f"<section>{''.join(parts)}</section>\n"


def _answer(response: dict[str, Any]) -> str:
    schemas = [_name(content["schema"]) for content in response["content"].values()]
    return " ".join([response["description"], *(f"({schema})" for schema in schemas if schema)])


def _schema(name: str, schema: dict[str, Any]) -> str:
    rows = {field: _field(of) for field, of in schema["properties"].items()}
    return f"<section>{_list(name, rows, level=2)}</section>\n"


def _field(schema: dict[str, Any]) -> str:
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxItems", "at most"))
        if key in schema
    ]
    described = [" ".join([_name(schema), *bounds]), schema.get("description", "")]
    return ". ".join(part for part in described if part)


def _name(schema: dict[str, Any]) -> str:
    """What a schema is called, or the types that it allows."""
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    if "oneOf" in schema:
        return " or ".join(map(_name, schema["oneOf"]))
    if "const" in schema:
        return json.dumps(schema["const"])
    fields = ", ".join(schema.get("properties", {}))
    if fields:
        return f"object with {fields}"
    types = schema.get("type", "")
    name = " or ".join(types) if isinstance(types, list) else types
    return f"{name} of {_name(schema['items'])}" if "items" in schema else name


def _list(title: str, rows: dict[str, str], level: int = 3) -> str:
    if not rows:
        return ""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items())
    return f"<h{level}>{escape(title)}</h{level}><dl>{items}</dl>"
