"""Frozen dataclasses back from JSON, each value checked against its declared type."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from reprlib import repr as short
from typing import Any, Literal, TypeVar, Union

from jmp_calc.errors import ArgumentError, CheckpointError, did_you_mean

T = TypeVar("T")


def record_from_json(cls: type[T], data: Any, *, where: str) -> T:
    """Build a dataclass from a parsed JSON object.

    Args:
        cls: A dataclass whose fields are numbers, text, booleans, literals, tuples,
            dicts, other such dataclasses, or None where allowed.
        data: What ``json.loads`` gave.
        where: Place of the object, for messages.

    Raises:
        CheckpointError: If a field is unknown, missing without a default, or not of
            its declared type; numbers must be finite.
    """
    if not isinstance(data, Mapping):
        raise CheckpointError(f"{where} is {short(data)}, should be a mapping")
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass, which the type cannot say
    for name in data:
        if name not in known:
            raise CheckpointError(
                f"{where} has a field {name!r} that this version does not know"
                f"{did_you_mean(str(name), known)}; a newer one may have written the "
                "file: pip install --upgrade jmp-calc"
            )
    for name, field in known.items():
        if name not in data and field.default is field.default_factory is MISSING:
            raise CheckpointError(f"{where} lacks {name!r}")
    types_ = typing.get_type_hints(cls)
    values = {
        name: _convert(value, types_[name], f"{where}.{name}")
        for name, value in data.items()
    }
    try:
        return cls(**values)
    except ArgumentError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _convert(value: Any, kind: Any, where: str) -> Any:
    """Return a JSON value as a declared type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, arguments[0], where)
    if is_dataclass(kind) and isinstance(kind, type):
        return record_from_json(kind, value, where=where)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise CheckpointError(
                f"{where} is {short(value)}, should have {len(arguments)} entries"
            )
        return tuple(_convert(item, arguments[0], where) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {
            _convert_key(key, arguments[0], where): _convert(item, arguments[1], where)
            for key, item in value.items()
        }
    if _is_scalar(value, kind, origin, arguments):
        return float(value) if kind is float else value
    raise CheckpointError(f"{where} is {short(value)}, should be {_describe(kind)}")


def _convert_key(key: str, kind: Any, where: str) -> Any:
    """Return a key, which JSON can only write as text."""
    if kind is not int:
        return _convert(key, kind, where)
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise CheckpointError(f"{where} has the key {key!r}, should be a whole number")
    return int(key)


def _is_scalar(value: Any, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) < 2**1000 and math.isfinite(value)
    return kind in (int, bool, str) and type(value) is kind


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(kind))
    names = {float: "a finite number", int: "a whole number", str: "text"}
    return names.get(kind, str(kind))
