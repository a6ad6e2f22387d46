"""TrainConfig and other settings as plain data and as YAML files, strictly checked."""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.files import replace_text
from jmp_train.config import TrainConfig

T = TypeVar("T")

_NOT_THE_RESULT = frozenset(
    {
        "out",
        "stores",
        "workers",
        "graph_cache",
        "max_minutes",
        "device",
        "checkpoint_every",
        "keep_checkpoints",
        "log_every",
        "parallel",
        "tensorboard",
    }
)
_VALIDATION = frozenset({"evaluate_every", "evaluate_systems"})


def to_plain(value: Any) -> Any:
    """Return a dataclass, path, tuple or number as data that YAML and JSON hold.

    Args:
        value: A settings dataclass or a part of one.
    """
    if is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(kind: type[T], data: Any, *, place: str = "") -> T:
    """Return a dataclass from what :func:`to_plain` made of it.

    Args:
        kind: The dataclass.
        data: Plain data; fields with a default may be absent.
        place: Where in the file this is, for messages.

    Raises:
        ArgumentError: If a key is unknown or missing, or a value has another type.
    """
    where = place or kind.__name__
    if not isinstance(data, Mapping):
        raise ArgumentError(f"{where} is {data!r}; it must be a mapping of settings")
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            raise ArgumentError(
                f"unknown setting {key!r} in {where}; it has {', '.join(hints)}"
                + did_you_mean(str(key), hints)
            )
    values = {
        key: _convert(hints[key], value, f"{place}.{key}" if place else key)
        for key, value in data.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise ArgumentError(f"{where} is incomplete: {error}") from None


def _convert(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(arguments, value, place)
    if origin is typing.Literal:
        return _one_of(arguments, value, place)
    if origin is tuple:
        return _convert_tuple(arguments, value, place)
    if isinstance(hint, type) and is_dataclass(hint):
        return from_plain(hint, value, place=place)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, (int, str)):
        value = _as_float(value)
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ArgumentError(
        f"{place} is {value!r}; it must be of type {getattr(hint, '__name__', hint)}"
    )


def _as_float(value: int | str) -> float | int | str:
    # YAML 1.1 reads 3e-4, without a point, as text.
    try:
        return value if isinstance(value, bool) else float(value)
    except ValueError:
        return value


def _convert_union(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    (hint,) = (argument for argument in arguments if argument is not type(None))
    return _convert(hint, value, place)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, place: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{place} is {value!r}; it must be a list")
    hints = arguments
    if arguments[-1] is Ellipsis:
        hints = (arguments[0],) * len(value)
    if len(hints) != len(value):
        raise ArgumentError(
            f"{place} has {len(value)} items; it must have {len(hints)}"
        )
    return tuple(
        _convert(hint, item, f"{place}[{i}]")
        for i, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _one_of(allowed: tuple[Any, ...], value: Any, place: str) -> Any:
    if value not in allowed:
        raise ArgumentError(
            f"{place} is {value!r}; it must be one of {', '.join(map(str, allowed))}"
            + did_you_mean(str(value), map(str, allowed))
        )
    return value


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the configuration as YAML.

    Args:
        config: All settings of a run.
        path: The file.
    """
    text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    replace_text(path, text)


def load_config(path: Path) -> TrainConfig:
    """Read a configuration that a user or :func:`save_config` wrote.

    Args:
        path: YAML file with the fields of ``TrainConfig``.

    Raises:
        ArgumentError: If the file is not YAML or a setting is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} is not a YAML file: {error}") from error
    return from_plain(TrainConfig, data)


def with_settings(config: TrainConfig, assignments: Sequence[str]) -> TrainConfig:
    """Return a configuration with some settings changed.

    Args:
        config: All settings of a run.
        assignments: Each ``KEY=VALUE``: a dotted name, in lists with the number or, of
            tasks, the name of the item, and a value as in YAML.

    Raises:
        ArgumentError: If a setting does not exist, or its value has another type.
    """
    if not assignments:
        return config
    data = to_plain(config)
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign:
            raise ArgumentError(
                f"{assignment!r} is not KEY=VALUE, such as optim.learning_rate=1e-3"
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ArgumentError(f"the value of {key} is not YAML: {error}") from error
        _assign(data, key.split("."), value, key)
    return from_plain(TrainConfig, data)


def _assign(data: Any, names: Sequence[str], value: Any, key: str) -> None:
    """Change one entry of plain data; an entry of None may become a mapping."""
    for name in names[:-1]:
        place = _place(data, name, key)
        if isinstance(data, dict) and data.get(place) is None:
            data[place] = {}  # from_plain says whether there is such a setting
        data = data[place]
    data[_place(data, names[-1], key)] = value


def _place(data: Any, name: str, key: str) -> Any:
    if isinstance(data, dict):
        return name
    if not isinstance(data, list):
        raise ArgumentError(f"{key} is no setting: nothing is below {data!r}")
    known = [item.get("name") if isinstance(item, dict) else None for item in data]
    if name in known:
        return known.index(name)
    if name.isdecimal() and int(name) < len(data):
        return int(name)
    allowed = [str(n) for n in known if n] or [f"0 to {len(data) - 1}"]
    raise ArgumentError(
        f"{key} is no setting: there is no {name!r}, only {', '.join(allowed)}"
        + did_you_mean(name, allowed)
    )


def result_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide the weights, by dotted name.

    Args:
        config: All settings of a run; where files lie, which device computes and when
            something is logged are left out; so are validations, unless rates or the
            end of the run depend on them. Weights that it starts from are known by
            their hash, once that is recorded.
    """
    flat: dict[str, Any] = {}
    _flatten(to_plain(config), "", flat)
    if config.plateau is None and config.stopping is None:
        flat = {name: flat[name] for name in flat if name not in _VALIDATION}
    if flat.get("start.sha256"):
        del flat["start.weights"]
    return flat


def _flatten(value: Any, name: str, flat: dict[str, Any]) -> None:
    items: list[tuple[str, Any]]
    if isinstance(value, dict):
        items = [(k, v) for k, v in value.items() if k not in _NOT_THE_RESULT]
    elif isinstance(value, list):
        items = [(str(i), v) for i, v in enumerate(value)]
    else:
        flat[name] = value
        return
    for key, item in items:
        _flatten(item, f"{name}.{key}" if name else key, flat)


def config_hash(config: TrainConfig) -> str:
    """Return the SHA-256 of :func:`result_settings`.

    Args:
        config: All settings of a run.
    """
    text = json.dumps(result_settings(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
