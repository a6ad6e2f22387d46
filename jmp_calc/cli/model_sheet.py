"""What a weights file says about itself, as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

from jmp_calc.errors import CheckpointError
from jmp_calc.files import file_hash
from jmp_calc.models.config import SIZES, GraphRules
from jmp_calc.pretrained.loading import OUR_SUFFIX
from jmp_calc.pretrained.table import Pretrained
from jmp_calc.pretrained.transfer import size_text

_DOMAIN = {
    "molecule": "molecules and clusters",
    "surface": "surfaces",
    "bulk": "bulk materials",
}
_PERIODIC = {
    None: "as the structure says",
    True: "always, in all three directions",
    False: "never; a cell is ignored",
}
_OWN_LINES = ("name", "licence", "citation", "training", "path", "weights_sha256")


def print_sheet(path: Path, entry: Pretrained | None = None) -> None:
    """Print everything readable in the header of a weights file.

    Args:
        path: One of our files, or one in the published layout.
        entry: What is known about it if it is a named model.
    """
    header = _read(path)
    info = header["info"]
    title = info.get("name", path.stem)
    if entry is not None:
        title = f"{entry.name}: {entry.description}"
    print(f"{_printable(title)}\n")
    _print_lines(
        {
            "file": f"{path} ({size_text(path.stat().st_size)})",
            "sha256": info["weights_sha256"],
            "licence": info.get("licence", "not stated"),
            "citation": info.get("citation"),
            "network": _network(header["config"]),
            "units": ", ".join(
                f"{key} {unit}" for key, unit in header["units"].items()
            ),
        }
    )
    for head in header["heads"]:
        default = " (default)" if head["is_default"] else ""
        print(f"\nhead {_printable(head['name'])}{default}")
        purpose = None if entry is None else (entry.heads or {}).get(head["name"])
        _print_lines(_head_lines(head, purpose), indent="  ")
    energy_heads = [head for head in header["heads"] if head["target"] is None]
    if any(head["references"] is None for head in energy_heads):
        print("\n'jmp-md models fit-references' makes relative energies absolute.")
    if info.get("training"):
        print("\ntraining")
        _print_tree(info["training"])
    more = {key: value for key, value in info.items() if key not in _OWN_LINES}
    if more:
        print("\nmore")
        _print_tree(more)


def _read(path: Path) -> dict[str, Any]:
    from jmp_calc.models import weights

    if path.suffix == OUR_SUFFIX:
        header = weights.read_header(path)
        try:
            config, heads = weights.specs_of(header)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return {
            "config": asdict(config),
            "heads": [asdict(spec) for spec in heads],
            "units": header["units"],
            "info": {**header["info"], "weights_sha256": file_hash(path)},
        }
    from jmp_calc.models.published import load_published

    # the heads are the same for any choice of weights; not every file has an average
    model = load_published(path, ema="none")
    return {
        "config": asdict(model.config),
        "heads": [asdict(spec) for spec in model.heads.values()],
        "units": weights.UNITS,
        "info": {key: value for key, value in model.info.items() if key != "training"},
    }


def _network(config: Mapping[str, Any]) -> str:
    sizes = [
        name
        for name, size in SIZES.items()
        if all(
            config[key] == value
            for key, value in asdict(size).items()
            if key not in ("rules", "has_direct_forces")
        )
    ]
    return (
        f"GemNet-OC, size {sizes[0] if sizes else 'of its own'}: blocks "
        f"{config['num_blocks']}, features per atom {config['emb_size_atom']}, "
        f"per edge {config['emb_size_edge']}; {config['rules']} rules"
    )


def _head_lines(head: Mapping[str, Any], purpose: str | None) -> dict[str, str | None]:
    rules = GraphRules(**head["graph"])
    return {
        "for": purpose or _DOMAIN[head["domain"]],
        **(_energy_lines(head) if head["target"] is None else _target_lines(head)),
        "theory": head["level_of_theory"],
        "trained on": head["coverage"] or None,
        "elements": _symbols(head["elements"]) or "not recorded",
        "cutoffs": _by_graph(rules.cutoffs, " Å"),
        "neighbors": _limits(rules),
        "periodic": _PERIODIC[rules.is_periodic],
        "licence": None if head["licence"] == "not stated" else head["licence"],
    }


def _energy_lines(head: Mapping[str, Any]) -> dict[str, str | None]:
    references = head["references"]
    return {
        "energy": "relative: comparable at equal composition only"
        if references is None
        else f"absolute; elements with a reference energy: {_symbols(references)}",
        "forces": _forces(head),
    }


def _target_lines(head: Mapping[str, Any]) -> dict[str, str | None]:
    target = head["target"]
    unit = f" in {target['unit']}" if target["unit"] else ""
    how = {
        "scalar": f"{target['reduction']} over the atoms",
        "spatial_extent": "sum over the atoms by squared distance from the centre of "
        "mass",
        "binary": "probability of the second of two classes",
        "multiclass": "probability of each class",
    }
    return {
        "predicts": f"{target['name']}{unit}: {how[head['kind']]}",
        "classes": ", ".join(target["classes"]) or None,
        "references": _symbols(target["references"]) if target["references"] else None,
        "use": "jmp-md predict FILE --model THIS",
    }


def _limits(rules: GraphRules) -> str:
    limits = rules.neighbor_limits(0)
    if limits is None:
        return "no limit"
    sizes = "".join(
        f"; above {n} atoms: {_by_graph(rules.neighbor_limits(n + 1) or {})}"
        for n, _ in sorted(rules.max_neighbors_by_size)
    )
    return f"at most {_by_graph(limits)}{sizes}"


def _forces(head: Mapping[str, Any]) -> str:
    if head["forces"] is None:
        return "untrained: the energies alone were"
    if head["forces"] == "direct":
        return "direct, not conservative; gradient forces are untrained"
    more = "; direct forces exist" if head["has_direct_forces"] else ""
    return f"gradient of the energy, conservative{more}"


def _symbols(numbers: Iterable[int]) -> str:
    return " ".join(chemical_symbols[z] for z in sorted(numbers))


def _by_graph(values: Mapping[str, float] | Mapping[str, int], unit: str = "") -> str:
    if len(set(values.values())) == 1:
        return f"{next(iter(values.values())):g}{unit} in all graphs"
    parts = (f"{name.replace('_', '-')} {value:g}" for name, value in values.items())
    return ", ".join(parts) + unit


def _print_lines(lines: Mapping[str, str | None], indent: str = "") -> None:
    for label, text in lines.items():
        if text is not None:
            print(f"{indent}{label:12s}{_printable(text)}")


def _printable(text: str) -> str:
    """Return text of a file without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _print_tree(data: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=88)
    print("".join(f"  {line}\n" for line in text.splitlines()), end="")
