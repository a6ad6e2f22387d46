"""Names of parameters: the published files' and ours, in both directions.

The correspondence itself is in :mod:`jmp_calc.models.published_names`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jmp_calc.errors import CheckpointError
from jmp_calc.models.config import HeadSpec, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.published_names import (
    ALIASES,
    COUNTERS,
    LAYOUT_ROWS,
    RADIAL_ALIASES,
    Layout,
)


def published_names_to_ours(
    names: Iterable[str], *, task_names: Sequence[str]
) -> dict[str, str]:
    """Return our name for every published name; several of them can share one.

    Args:
        names: Names of a published state dict, all of one model. Counters are left
            out of the result.
        task_names: Head names in the order of the published task index.

    Raises:
        CheckpointError: If a name has no counterpart, or a task has no name.
    """
    names = [name for name in names if not name.startswith(COUNTERS)]
    is_pretraining = any(n.startswith(("output.", "embedding.atom_")) for n in names)
    layout: Layout = "pretraining" if is_pretraining else "fine_tuning"
    shift = int(any(n.endswith(".layers.0.linear.weight") for n in names))
    rows = [
        (_compile(there, task=r"\d+"), here)
        for there, here in LAYOUT_ROWS[layout].items()
    ]
    result, unknown = {}, []
    for name in names:
        found = _match(_resolve_alias(name), rows)
        if found is None:
            unknown.append(name)
            continue
        here, values = found
        task = int(values.get("task", 0))
        if "{task}" in here and task >= len(task_names):
            raise CheckpointError(
                f"{name!r} belongs to task {task}, but only {len(task_names)} task "
                f"names are known: {', '.join(task_names)}"
            )
        if "{task}" in here:
            values["task"] = task_names[task]
        if "k" in values:
            values["k"] = str(int(values["k"]) - shift)
        result[name] = here.format(**values)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} names are not those of a published JMP model: "
            f"{first_five(unknown)}"
        )
    return result


def published_to_ours(
    state: Mapping[str, Tensor],
    *,
    task_names: Sequence[str],
    check_aliases: bool = True,
) -> dict[str, Tensor]:
    """Rename a published state dict for :class:`JMPModel`; tensors are not copied.

    Args:
        state: Published name -> tensor.
        task_names: Head names in the order of the published task index.
        check_aliases: Whether all names of one tensor must hold equal numbers. If
            not, the value that is listed first wins.

    Raises:
        CheckpointError: If a name is unknown or aliases differ.

    Source:
        GemNet-OC specification, section 11 (names), 12.1 (aliases).
    """
    result: dict[str, Tensor] = {}
    names = published_names_to_ours(state, task_names=task_names)
    for there, here in names.items():
        value = state[there]
        if here not in result:
            result[here] = value
        elif check_aliases and not _is_same(result[here], value):
            raise CheckpointError(
                f"{there!r} should hold the same numbers as {_resolve_alias(there)!r} "
                "but does not; the file is damaged or was put together by hand"
            )
    return result


def ours_to_published(
    state: Mapping[str, Tensor], *, task_names: Sequence[str], layout: Layout
) -> dict[str, Tensor]:
    """Rename our state dict for the published model, with every alias present.

    Args:
        state: Our name -> tensor.
        task_names: Head names in the order of the published task index.
        layout: Which published model; "fine_tuning" takes exactly one task.

    Raises:
        CheckpointError: If a name has no counterpart in that layout.
    """
    if layout == "fine_tuning" and len(task_names) != 1:
        raise CheckpointError(
            "the published fine-tuning layout holds one task, got "
            f"{len(task_names)}: {', '.join(task_names)}"
        )
    shift = int(any(name.endswith(".dense_in.weight") for name in state))
    heads = "|".join(re.escape(name) for name in task_names)
    rows = [
        (_compile(here, task=heads), there)
        for there, here in LAYOUT_ROWS[layout].items()
    ]
    result, unknown = {}, []
    for name, value in state.items():
        found = _match(name, rows)
        if found is None:
            unknown.append(name)
            continue
        there, values = found
        if "task" in values:
            values["task"] = str(list(task_names).index(values["task"]))
        if "k" in values:
            values["k"] = str(int(values["k"]) + shift)
        for alias in _all_names(there.format(**values)):
            result[alias] = value
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} names have no place in the published {layout} layout: "
            f"{first_five(unknown)}"
        )
    return result


def model_from_state(
    config: ModelConfig,
    heads: Sequence[HeadSpec],
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> JMPModel:
    """Build a model around given tensors, in evaluation mode.

    Nothing is initialised first, so this is quick and draws no random numbers.

    Args:
        config: Shape of the network.
        heads: Specification of each head.
        state: Our name -> tensor; copied.
        dtype: Precision of the model; None: as in ``state``.
        device: Where the model goes.

    Raises:
        CheckpointError: If names or shapes are not those of the model.
    """
    with torch.device("meta"), _NoInitialisation():
        model = JMPModel(config, heads)
    check_state(model.state_dict(), state)
    own = {
        name: value.to(
            dtype=dtype if value.is_floating_point() else None, device=device, copy=True
        )
        for name, value in state.items()
    }
    model.load_state_dict(own, strict=True, assign=True)
    return model.to(device).eval()


class _NoInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are.

    On the meta device they hold no numbers, and yet torch would import its compiler to
    draw some, which takes as long as all the rest of torch.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call any function but those that initialise; called by torch."""
        given = dict(kwargs or {})
        if getattr(function, "__module__", None) == torch.nn.init.__name__:
            return given["tensor"] if "tensor" in given else args[0]
        return function(*args, **given)


def check_state(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Compare names and shapes of a state with those that a model expects.

    Raises:
        CheckpointError: With the first five missing, extra or misshapen tensors, or
            those that do not hold floating point numbers.
    """
    problems = []
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected]
    if missing:
        problems.append(f"{len(missing)} tensors are missing: {first_five(missing)}")
    if extra:
        problems.append(f"{len(extra)} are not part of the model: {first_five(extra)}")
    wrong = [
        f"{name} is {tuple(state[name].shape)}, should be {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} have another shape: {first_five(wrong)}")
    other = [
        f"{name} holds {value.dtype}"
        for name, value in state.items()
        if not value.is_floating_point()
    ]
    if other:
        problems.append(f"{len(other)} are no real numbers: {first_five(other)}")
    if problems:
        raise CheckpointError(
            "the weights do not fit the model: "
            + "; ".join(problems)
            + "; check that the file belongs to this configuration"
        )


def first_five(names: Sequence[str]) -> str:
    """Return the first five names, and how many there are beyond them."""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest


def _compile(template: str, *, task: str) -> re.Pattern[str]:
    """Turn a row into a pattern whose placeholders are named groups."""
    parts = re.split(r"\{(\w+)\}", template)
    text = ""
    for literal, name in zip(parts[::2], [*parts[1::2], ""], strict=True):
        text += re.escape(literal)
        if name:
            text += f"(?P<{name}>{task if name == 'task' else r'[0-9]+'})"
    return re.compile(text)


def _match(
    name: str, rows: Sequence[tuple[re.Pattern[str], str]]
) -> tuple[str, dict[str, str]] | None:
    for pattern, other in rows:
        found = pattern.fullmatch(name)
        if found:
            return other, found.groupdict()
    return None


def _resolve_alias(name: str) -> str:
    for pattern, stands_for in ALIASES:
        found = re.fullmatch(pattern, name)
        if found:
            return found.expand(stands_for)
    return name


def _all_names(name: str) -> list[str]:
    """Return a published name and its aliases."""
    radial = re.fullmatch(r"backbone\.bases\.radial_basis(\.rbf\.\w+)", name)
    if radial:
        return [f"backbone.bases.{alias}{radial[1]}" for alias in RADIAL_ALIASES]
    output = re.fullmatch(r"(backbone\.out_blocks\.\d+\.)layers(\..+)", name)
    if output:
        return [name, f"{output[1]}seq_energy_pre{output[2]}"]
    return [name]


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    return bool(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))
