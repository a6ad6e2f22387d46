"""Everything that a run needs to go on as if it had never stopped, in one file.

The file is a NumPy archive of plain arrays and a text in JSON; nothing is unpickled. It
is replaced in one step, so that there is always a whole one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.sim.dynamics.observables import Observables
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings
from jmp_calc.sim.output import writing

FORMAT = "jmp-md checkpoint"
VERSION = 1
FREE_SETTINGS = ("steps", "time_ps")
"""Settings of :class:`MDSettings` that a resumed run may change."""
GROUPS = ("integrator", "computed")
"""Fields that are several arrays; in the file each is called GROUP/NAME."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """State of a run after one step."""

    settings: Mapping[str, Any]
    """The fields of :class:`MDSettings`."""
    record: Mapping[str, Any]
    """The fields of :class:`RecordSettings`."""
    watch: Mapping[str, Any]
    """The fields of :class:`WatchSettings`."""
    weights: str | None
    """Hash of the model's weights, if it has one."""
    identity: Mapping[str, Any]
    """What else must not change; see :func:`identity_of`."""
    observables: Observables
    """Scalars of the step."""
    initial_energy_eV: float
    """Potential energy at the start of the run."""
    initial_K: float
    """Temperature at the start of the run."""
    has_new_velocities: bool
    """Whether the velocities at the start were drawn."""
    wall_seconds: float
    """Time that the run has taken so far, s."""
    n_frames: int
    """Frames in the trajectory by now."""
    framed_step: int
    """Step of the last of them; -1 if there is none."""
    trajectory_bytes: int
    """Size of the trajectory by now, if it is text."""
    log_bytes: int
    """Size of the CSV by now."""
    largest_stretch: float
    """Largest stretch of a bond so far."""
    closest_contact: float | None = None
    """Closest new contact so far; see :class:`guard.ContactWatch`. None: there was
    none, or the version that made the checkpoint did not look."""
    random: Mapping[str, Any]
    """State of the random numbers."""
    positions: Float[np.ndarray, "atoms 3"]
    """Angstrom."""
    momenta: Float[np.ndarray, "atoms 3"]
    """ASE units."""
    masses: Float[np.ndarray, " atoms"]
    """amu."""
    cell: Float[np.ndarray, "3 3"]
    """Angstrom."""
    start: Float[np.ndarray, "atoms 3"]
    """Positions of the input, angstrom."""
    numbers: np.ndarray
    """Atomic numbers."""
    integrator: Mapping[str, np.ndarray]
    """State of thermostat and barostat."""
    computed: Mapping[str, np.ndarray]
    """Last results of the calculator, and what they were computed for."""

    def check_input(
        self, atoms: Atoms, identity: Mapping[str, Any], path: Path
    ) -> None:
        """Check that a structure is the one that the run started from.

        Args:
            atoms: The input, read again.
            identity: What else it is, from :func:`identity_of`.
            path: The checkpoint, for messages.

        Raises:
            ArgumentError: If it is another one.
        """
        is_same = np.array_equal(atoms.numbers, self.numbers) and np.allclose(
            atoms.positions, self.start, rtol=0.0, atol=1e-6
        )
        if not is_same:
            raise ArgumentError(
                f"{path} was started from another structure than this input; give the "
                "same input, or start a new run in another --out"
            )

        changed = [
            f"{name} (was {value}, is {identity.get(name)})"
            for name, value in self.identity.items()
            if identity.get(name) != value
        ]
        if changed:
            raise ArgumentError(
                f"{path} belongs to a run with other {'; '.join(changed)}; give the "
                "same input and calculator, or start a new run in another --out"
            )

    def check_settings(
        self, settings: MDSettings, weights: str | None, path: Path
    ) -> None:
        """Check that what a run is to go on with fits what it began with.

        Args:
            settings: Now asked for.
            weights: Hash of the model's weights, if it has one.
            path: The checkpoint, for messages.

        Raises:
            ArgumentError: If the physics has changed, or the run is over.
        """
        if weights != self.weights:
            raise ArgumentError(
                f"{path} was made with weights {self.weights} and the model now has "
                f"{weights}; give the same --model, or start a new run"
            )
        # settings that an earlier version did not have are as they were there
        now, before = asdict(settings), asdict(MDSettings(**self.settings))
        changed = [
            f"{name} was {before[name]} and is {value}"
            for name, value in now.items()
            if name not in FREE_SETTINGS and before[name] != value
        ]
        if changed:
            raise ArgumentError(
                f"a run goes on with the settings that it began with: "
                f"{'; '.join(changed)}; only {', '.join(FREE_SETTINGS)} may change: "
                "leave the others out, or start a new run in another --out"
            )
        done, n_before = self.observables.step, MDSettings(**before).n_steps
        if settings.is_ramp and settings.n_steps != n_before:
            raise ArgumentError(
                f"the ramp of this run lasts {n_before} steps, and "
                f"{settings.n_steps} are asked for; finish it, then start a new run "
                "from the last frame"
            )
        if settings.n_steps < done:
            raise ArgumentError(
                f"the run has done {done} steps, and {settings.n_steps} in total are "
                "asked for; steps is the total: ask for more"
            )

    def check_record(self, record: RecordSettings) -> None:
        """Check that the trajectory goes on in its format.

        Args:
            record: Now asked for.

        Raises:
            ArgumentError: If it does not.
        """
        before = self.record["trajectory_format"]
        if record.trajectory_format != before:
            raise ArgumentError(
                f"the trajectory of this run is in the format {before!r} and "
                f"{record.trajectory_format!r} is asked for; leave the option out"
            )


def identity_of(
    atoms: Atoms, model: str | None, computes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a resumed run must have in common with its beginning, as plain data.

    Args:
        atoms: The input of the run.
        model: Name of a calculator that has no weights to compare.
        computes: Options of the calculator that numbers depend on, by name. Those that
            a checkpoint lacks, as older ones do, are not compared.
    """
    found = {
        **(computes or {}),
        "periodicity": atoms.pbc,
        "cell": np.array(atoms.cell),
        "masses": atoms.get_masses(),
        "constraints": [constraint.todict() for constraint in atoms.constraints],
        "calculator": model,
    }
    plain: dict[str, Any] = json.loads(json.dumps(found, default=_as_list))
    return plain


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, in one step.

    Args:
        checkpoint: The state.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    plain: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    arrays: dict[str, np.ndarray] = {}
    for field in fields(Checkpoint):
        value = getattr(checkpoint, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif field.name in GROUPS:
            arrays |= {f"{field.name}/{name}": part for name, part in value.items()}
        elif isinstance(value, Observables):
            plain[field.name] = asdict(value)
        else:
            plain[field.name] = value
    text = json.dumps(plain, default=_as_list)
    with writing(path), replacing(path) as new, new.open("wb") as file:
        np.savez(file, **{"header": np.array(text), **arrays})  # type: ignore[arg-type]
        file.flush()
        # the name must not point to a file that a power cut leaves empty
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: Written by :func:`save_checkpoint`.

    Raises:
        DataError: If it is missing, damaged or of another kind.
    """
    try:
        # opened here: NumPy leaves files open that are damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("header")))
        if (header.pop("format"), header.pop("version")) != (FORMAT, VERSION):
            raise DataError(f"{path} is no checkpoint of this version of jmp-md")
        groups: dict[str, Any] = {
            group: {
                name.removeprefix(f"{group}/"): arrays.pop(name)
                for name in list(arrays)
                if name.startswith(f"{group}/")
            }
            for group in GROUPS
        }
        observables = Observables(**header.pop("observables"))
        return Checkpoint(**header, **arrays, **groups, observables=observables)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"there is no checkpoint {path}; give the --out of a run to resume it"
        ) from None
    except Exception as error:  # damaged archives raise nearly anything
        raise DataError(
            f"cannot read the checkpoint {path} ({type(error).__name__}: {error}); "
            "start a new run from the last frame of the trajectory"
        ) from error


def _as_list(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no plain data")
