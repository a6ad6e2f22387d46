"""``jmp-md models fit-references``: make the energies of a head absolute."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from jaxtyping import Float, Int
from tqdm import tqdm

from jmp_calc.cli.structures import read_frames
from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_calc.pretrained.loading import OUR_SUFFIX, load_model
from jmp_calc.pretrained.transfer import size_text

if TYPE_CHECKING:
    # torch is imported when the command runs, not for its help
    from jmp_calc.models.jmp import JMPModel
    from jmp_calc.models.references import ReferenceFit

_CHUNK = 16
"""Structures between two moves of the progress bar."""


@click.command(
    name="fit-references", short_help="Make the energies of a head absolute."
)
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help=f"New weights file ({OUR_SUFFIX}); MODEL itself is not changed.",
)
@click.option("--head", help="Head to fit; may be left out if the model has only one.")
@click.option(
    "--energy-key",
    help="Name of the label in the info of a structure; by default REF_energy, then "
    "the calculator's energy, then energy.",
)
@click.option(
    "--ema",
    type=click.Choice(["full", "paper", "none"]),
    default="full",
    show_default=True,
    help="Weights to take from a published file: the running average, the mixture of "
    "the published loader, or the last step.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file at --out.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute.")
def fit_references(
    *,
    model: str,
    file: Path,
    out: Path,
    head: str | None,
    energy_key: str | None,
    ema: Literal["full", "paper", "none"],
    overwrite: bool,
    device: str,
) -> None:
    """Fit reference energies of the elements, so that energies become absolute.

    MODEL is a name or a weights file; FILE holds structures with energies, in any
    format that ASE reads. Fitted is, by least squares over all structures, what the
    labels have more than the model; the new file has these references in place of any
    old ones.

    Example: jmp-md models fit-references jmp-small labelled.xyz --head ani1x --out
    absolute.safetensors
    """
    _check_out(out, overwrite=overwrite)
    frames = read_frames(file)
    labels = _labels(frames, file, energy_key)
    network = load_model(model, ema=ema)
    spec = network.heads[_choose_head(network, head)]
    old = spec.references or {}

    from jmp_calc.models.references import fit_references as fit
    from jmp_calc.models.references import sum_of_references
    from jmp_calc.models.weights import save_weights

    sizes = np.array([len(atoms) for atoms in frames])
    numbers = np.concatenate([atoms.numbers for atoms in frames])
    system_index = np.repeat(np.arange(len(frames)), sizes)
    fit(numbers, system_index, labels)  # too few structures are said before the work
    network.heads[spec.name] = replace(spec, references=None)
    missing = labels - _energies(network, frames, head=spec.name, device=device)
    before = missing - sum_of_references(numbers, system_index, old)
    result = fit(numbers, system_index, missing)

    network.heads[spec.name] = replace(spec, references=result.references)
    about = {
        "fitted_to": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "structures": len(frames),
        "mean_absolute_error_eV_per_atom": _mean_size(result.residual / sizes),
    }
    network.info = _new_info(network.info, out.stem, {spec.name: about})
    save_weights(network, out)

    print(f"{'labels':12s}{file}: {len(frames)} structures, {len(numbers)} atoms")
    print(f"{'model':12s}{model}, head {spec.name} ({spec.level_of_theory})")
    _print_fit(result, np.bincount(numbers), old)
    print(
        f"{'error':12s}{_mean_size(before / sizes):.4g} -> "
        f"{_mean_size(result.residual / sizes):.4g} eV/atom (mean absolute); "
        f"{_mean_size(before):.4g} -> {_mean_size(result.residual):.4g} eV"
    )
    print(f"{'written':12s}{out} ({size_text(out.stat().st_size)})")
    choice = f" --head {spec.name}" if len(network.heads) > 1 else ""
    print(f"{'use':12s}jmp-md run INPUT --model {out}{choice}")
    _warn(result, lost=set(old) - set(result.references))


def _mean_size(values: Float[np.ndarray, " systems"]) -> float:
    return float(np.abs(values).mean())


def _new_info(
    info: dict[str, Any], name: str, references: dict[str, Any]
) -> dict[str, Any]:
    """Return what the new file says about itself, and which one it came from."""
    origin = {"name": info.get("name"), "sha256": info.get("weights_sha256")}
    return {
        **info,
        "name": name,
        "made_from": origin,
        "references": {**info.get("references", {}), **references},
    }


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.suffix != OUR_SUFFIX:
        raise ArgumentError(
            f"--out is {out}; weights files end in {OUR_SUFFIX}, so give "
            f"{out.with_suffix(OUR_SUFFIX)}"
        )
    if out.exists() and not overwrite:
        raise ArgumentError(
            f"{out} exists; give another --out, or --overwrite to replace it"
        )


def _labels(
    frames: Sequence[Atoms], file: Path, key: str | None
) -> Float[np.ndarray, " systems"]:
    from jmp_calc.models.references import energy_label

    labels = []
    for number, atoms in enumerate(frames):
        try:
            labels.append(energy_label(atoms, key=key))
        except DataError as error:
            raise DataError(
                f"structure {number} of {file}: {error}; --energy-key names another key"
            ) from error
    return np.array(labels, dtype=np.float64)


def _choose_head(network: JMPModel, head: str | None) -> str:
    heads = [name for name, spec in network.heads.items() if spec.target is None]
    if head is None and len(heads) == 1:
        return heads[0]
    if head not in heads:
        problem = "say which by --head" if head is None else f"there is no {head!r}"
        raise ArgumentError(
            f"this model has the energy heads {', '.join(heads) or '(none)'}; {problem}"
            f"{did_you_mean(head or '', heads)}"
        )
    return head


def _energies(
    network: JMPModel, frames: Sequence[Atoms], *, head: str, device: str
) -> Float[np.ndarray, " systems"]:
    """Return the energies that the calculator gives, so that the references fit it."""
    from jmp_calc.calculator import JMPCalculator

    calculator = JMPCalculator(network, head=head, device=device)
    energies: list[float] = []
    with tqdm(total=len(frames), unit="structure", disable=None, leave=False) as bar:
        for start in range(0, len(frames), _CHUNK):
            chunk = list(frames[start : start + _CHUNK])
            results: list[dict[str, Any]] = calculator.evaluate(
                chunk, properties=["energy"]
            )
            energies += [float(result["energy"]) for result in results]
            bar.update(len(chunk))
    return np.array(energies, dtype=np.float64)


def _print_fit(
    result: ReferenceFit, count: Int[np.ndarray, " elements"], old: dict[int, float]
) -> None:
    print(f"\n  {'element':8s}{'atoms':>8s}{'reference (eV)':>20s}", end="")
    print(f"{'before (eV)':>20s}" if old else "")
    for z, energy in result.references.items():
        text = f"  {chemical_symbols[z]:8s}{count[z]:8d}{energy:20.6f}"
        if old:
            text += f"{old[z]:20.6f}" if z in old else f"{'none':>20s}"
        print(text)
    print()


def _warn(result: ReferenceFit, *, lost: set[int]) -> None:
    sys.stdout.flush()
    n_elements = len(result.references)
    if not result.is_unique:
        print(
            f"jmp-md: warning: the {n_elements} elements occur in only {result.rank} "
            "independent proportions, so single references mean nothing; energies are "
            "comparable among mixtures of the compositions in the file only. Add "
            "structures of other composition",
            file=sys.stderr,
        )
    if lost:
        names = ", ".join(chemical_symbols[z] for z in sorted(lost))
        print(
            f"jmp-md: warning: {names} had a reference and do not occur in the file; "
            "they have none now",
            file=sys.stderr,
        )
