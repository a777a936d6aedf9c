"""The JSON Schema of ``run.json``, made from the record's dataclasses: their type hints and what their docstrings say."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from emt_plugin.gate import Tolerance
from emt_plugin.records.record import SCHEMA, PairKey, RunRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PLAIN: Mapping[Any, Mapping[str, Any]] = {
    Any: {},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    NoneType: {"type": "null"},
}
# A record spreads the fields of these out among those of what holds them, and calls some of them otherwise.
SPREAD: Mapping[type, Mapping[str, str]] = {PairKey: {}, Tolerance: {"value": "tolerance", "source": "tolerance_from"}}
# One attribute of a docstring, with the lines that go on from it.
ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)


def schema_text() -> str:
    """The schema as a file has it."""
    return json.dumps(run_schema(), indent=2, ensure_ascii=False) + "\n"


def run_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what ``RunRecord.write`` writes."""
    definitions: dict[str, Any] = {}
    run = _object(RunRecord, definitions)
    version = {"schema": {"const": SCHEMA, "description": "version of this format."}}
    return {
        "$schema": DIALECT,
        "title": "run.json",
        **run,
        "properties": version | run["properties"],
        "required": [*version, *run["required"]],
        "$defs": dict(sorted(definitions.items())),
    }


def _object(found: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """A dataclass; those that it holds go to ``definitions``."""
    properties = _properties(found, definitions)
    return {
        "description": _in_json((inspect.getdoc(found) or "").partition("\n\nAttributes:")[0]),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _properties(found: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints, said = get_type_hints(found), _said(found)
    properties: dict[str, Any] = {}
    for name in (field.name for field in fields(found)):
        hint = hints[name]
        if hint in SPREAD:
            inner = _properties(hint, definitions)
            properties |= {SPREAD[hint].get(key, key): value for key, value in inner.items()}
        else:
            properties[name] = _schema(hint, definitions) | ({"description": said[name]} if name in said else {})
    return properties


def _said(found: type) -> dict[str, str]:
    """What the docstring's ``Attributes:`` say, by name."""
    section = (inspect.getdoc(found) or "").partition("\nAttributes:\n")[2]
    return {name: _in_json(text) for name, text in ATTRIBUTE.findall(section)}


def _in_json(text: str) -> str:
    """A docstring's words for readers of JSON: on one line, without Python's None and doubled backticks."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`")


def _schema(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """One type hint.

    Raises:
        TypeError: a hint of a sort that no record has had yet.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return dict(PLAIN[hint])
    if isinstance(hint, type) and is_dataclass(hint):
        return _referred(hint, definitions)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (UnionType, Union):
        return {"anyOf": [_schema(argument, definitions) for argument in arguments]}
    if origin is tuple and arguments[1:] == (...,):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    raise TypeError(f"{hint} has no JSON Schema yet; add it to {__name__}")


def _referred(found: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if found.__name__ not in definitions:
        definitions[found.__name__] = {}
        definitions[found.__name__] = _object(found, definitions)
    return {"$ref": f"#/$defs/{found.__name__}"}
