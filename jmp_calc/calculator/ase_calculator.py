"""JMPCalculator: ASE atoms to graph, graph to model, predictions to ASE results."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    all_changes,
)
from jaxtyping import Float, Int

from jmp_calc.calculator.approximate import checked_approximation
from jmp_calc.calculator.batches import in_batches
from jmp_calc.calculator.changes import changes_between
from jmp_calc.calculator.decision import Decision, decide
from jmp_calc.calculator.engine import Engine
from jmp_calc.calculator.evaluation import (
    DTYPES,
    PROPERTIES,
    Task,
    checked_device,
    checked_properties,
    checked_settings,
    describe_atoms,
    numbered,
    task_of,
)
from jmp_calc.calculator.head_choice import (
    check_elements,
    check_energy_head,
    force_kind,
    model_name,
)
from jmp_calc.calculator.head_notes import (
    choice_facts,
    head_notes,
    summary,
    warn_ignored,
)
from jmp_calc.calculator.memory import Memory, require_list
from jmp_calc.calculator.tags import read_tags
from jmp_calc.errors import ArgumentError
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained import load_model

_logger = logging.getLogger(__name__)


class JMPCalculator(Calculator):
    """Energies, forces and stress of a JMP model for ASE.

    Head and tags of a structure are decided when it is first computed, and kept while
    it moves, so that a run stays on one energy surface when bonds break. They are
    decided anew for other numbers or periodicity, for another Atoms object with
    another geometry, and after ``atoms.calc = calculator``.

    Args:
        model: Name of a pretrained model, path of a weights file, or a loaded model,
            which is copied and not changed.
        head: Name of the task. By default the head whose domain and elements cover the
            structure; it is logged as a warning, which is printed unless logging is
            set up otherwise, and ``describe`` says which it is.
        forces: "gradient" (minus the derivative of the energy) or "direct"; None: the
            kind that the head was trained for.
        tags: OC20 tags (0 sub-surface, 1 surface, 2 adsorbate), which only heads of
            published weights look at: "auto" finds them from the geometry
            (:func:`jmp_calc.calculator.tags.guess_tags`), "atoms" reads
            ``atoms.get_tags()``, which must follow OC20 and not ASE's builders; or one
            tag per atom.
        device: "cpu", "cuda" or "cuda:1".
        dtype: Precision of the network, "float32" or "float64". Coordinates, reference
            energies and sums are float64 in either case.
        compile: Whether to compile the network with torch.compile, in a minute or two
            of the first calculation, with a check, and a warning where that fails. No
            gain on the CPU; not measured on CUDA.
        approximate: Fewer digits in products of matrices: "tf32" (on CUDA only, not
            measured) or "bf16", whose errors of forces show; None: exact. See
            :func:`jmp_calc.calculator.approximate.arithmetic`.
        recompute: Whether gradients always compute each block of the network again,
            for structures that do not fit otherwise: the same results to the last bit,
            in more time and less memory: two fifths for 1200 atoms of a crystal with S,
            half to three fifths for 96, little less with jmp-nano. By default that is
            done where the memory that is free might not suffice.
        offline: Whether to fail rather than to download weights.

    Raises:
        ArgumentError: If an argument is not allowed, or no head predicts energies.
        CheckpointError: If the weights file is damaged or foreign.
        DownloadError: If the weights could not be fetched.
    """

    implemented_properties = list(PROPERTIES)  # noqa: RUF012 (ASE's)
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012 (ASE's)

    # In the caller's inference mode there would be no gradients, so no forces.
    @torch.inference_mode(False)
    def __init__(
        self,
        model: str | Path | JMPModel = "jmp-nano",
        *,
        head: str | None = None,
        forces: str | None = None,
        tags: str | Sequence[int] | Int[np.ndarray, " atoms"] = "auto",
        device: str = "cpu",
        dtype: str = "float32",
        compile: bool = False,
        approximate: str | None = None,
        recompute: bool = False,
        offline: bool = False,
    ) -> None:
        force_choice = checked_settings(forces, tags, dtype)
        target = checked_device(device)
        checked_approximation(approximate, dtype, target)
        super().__init__()  # type: ignore[no-untyped-call]  # ASE
        if isinstance(model, JMPModel):
            given, loaded = model_name(model), copy.deepcopy(model)
        else:
            given, loaded = str(model), load_model(model, offline=offline)
        check_energy_head(loaded, head)
        if head is not None:
            force_kind(loaded.heads[head], force_choice)
        loaded = loaded.to(device=target, dtype=DTYPES[dtype])
        self.engine = Engine(
            loaded, compile=compile, approximate=approximate, recompute=recompute
        )
        self.model = self.engine.model
        self.parameters = {
            "model": given,
            "head": head,
            "forces": forces,
            "tags": tags if isinstance(tags, str) else [int(tag) for tag in tags],
            "device": str(target),
            "dtype": dtype,
            "compile": compile,
            "approximate": approximate,
            "recompute": recompute,
        }
        self._decision: Decision | None = None
        self._decisions: Memory[Decision] = Memory()
        self._motion: GraphInMotion | None = None
        self._has_warned = False
        self._announced: set[str] = set()

    @torch.inference_mode(False)
    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute properties of a structure into ``results``; called by ASE.

        Energy and energies are always computed, forces and stress where asked for, and
        gradient forces along with the stress, because they come at no cost.

        Args:
            atoms: The structure; None: the last one.
            properties: Names of ``implemented_properties``.
            system_changes: What has changed; not used.

        Raises:
            UnsupportedSystemError: If the model cannot or must not be used for it.
            PropertyNotImplementedError: If stress is asked for and the structure is not
                periodic in three directions.
            ArgumentError: If there is no structure.
        """
        if atoms is None:
            atoms = self.atoms
        if atoms is None:
            raise ArgumentError("there is no structure yet; give one as atoms=")
        if self.check_state(atoms):
            self.results = {}
        super().calculate(  # type: ignore[no-untyped-call]  # ASE
            atoms, list(properties), list(system_changes)
        )
        decision = self._recall(atoms)
        task = self._task(atoms, decision, properties, is_moving=True)
        self._decision = decision
        self._decisions.keep(atoms, decision)
        self._announce(atoms, decision)
        self.results.update(self.engine.predict([task], is_moving=True)[0])

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, tags and head included.

        Args:
            atoms: The structure.
            tol: Largest difference that is none.
        """
        changes = changes_between(
            self.atoms, atoms, tolerance=tol, ignored=self.ignored_changes
        )
        if (
            self.parameters["tags"] == "atoms"
            and self.atoms is not None
            and not np.array_equal(self.atoms.get_tags(), atoms.get_tags())
        ):
            changes.append("tags")
        if self.results and self._decision is None:
            # the results are those of an earlier decision
            changes.append("head")
        return changes

    def set(self, **changes: Any) -> dict[str, Any]:
        """Refuse to change settings; called by ASE.

        Args:
            **changes: Settings to change.

        Raises:
            ArgumentError: If there are any.
        """
        if changes:
            raise ArgumentError(
                f"cannot set {', '.join(changes)}: the settings of a calculator are "
                "fixed; make a new JMPCalculator"
            )
        return {}

    def set_atoms(self, atoms: Atoms) -> None:
        """Check elements and forget earlier decisions; called by ``atoms.calc =``.

        Args:
            atoms: The structure that the calculator is attached to.

        Raises:
            UnsupportedSystemError: If an element is unknown to the model.
        """
        check_elements(self.model, atoms, self.parameters["head"])
        self._decision = None
        self._decisions.forget(atoms)

    def describe(self, atoms: Atoms) -> dict[str, Any]:
        """Return what a structure is computed with.

        Args:
            atoms: The structure.

        Returns:
            ``model``, ``head``, ``level_of_theory``, ``forces`` (gradient or direct),
            ``is_conservative``, ``neighbor_cap`` (which limits of neighbors cut edges
            off, or None), ``weights_sha256``, ``licence``, and ``notes`` (sentences).

        Raises:
            UnsupportedSystemError: If no head, or more than one, fits.
        """
        decision, info = self._recall(atoms), self.model.info
        choice, tags = decision.choice, self._tags(atoms, decision)
        self._announced.add(choice.spec.name)  # whoever asks needs no log of it
        facts = choice_facts(atoms, choice, tags)
        return {
            "model": self.parameters["model"],
            **facts,
            "notes": [*facts["notes"], *self.engine.notes],
            "weights_sha256": info.get("weights_sha256"),
            "licence": info.get("licence", choice.spec.licence),
        }

    def meet(self, list_of_atoms: Iterable[Atoms]) -> list[dict[str, Any]]:
        """Decide about structures as ``evaluate`` does, without computing them.

        For work that goes on with known results, so that it is decided at the start.

        Args:
            list_of_atoms: Structures.

        Returns:
            What was decided about each: ``head``, ``forces`` and ``tags``, or None.
        """
        return [self._met(n, atoms).facts for n, atoms in enumerate(list_of_atoms)]

    def get_descriptors(self, atoms: Atoms) -> Float[np.ndarray, "atoms dim"]:
        """Return the features of each atom that the energy heads read.

        Args:
            atoms: The structure.

        Raises:
            UnsupportedSystemError: If the model cannot or must not be used for it.
        """
        task = self._task(atoms, self._recall(atoms), ("energy",))
        return describe_atoms(self.model, task.graph)

    @torch.inference_mode(False)
    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[dict[str, Any]]:
        """Compute many structures, several at a time; the cache is left as it is.

        Head and tags are decided for each structure on its own, and kept as long as the
        Atoms object lives, so that structures can be moved side by side.

        Args:
            list_of_atoms: Structures, of any kinds; any iterable.
            properties: Names of ``implemented_properties``.

        Returns:
            One dictionary per structure with the properties, the name of its ``head``,
            its ``force_kind``, and whether that ``is_conservative``.

        Raises:
            ArgumentError: If there is no such property, or no list of structures.
            UnsupportedSystemError: If the model cannot or must not be used for a
                structure; its number is added as a note.
            PropertyNotImplementedError: If stress is asked for and a structure is not
                periodic in three directions.
        """
        properties = checked_properties(properties)
        require_list(list_of_atoms, "evaluate")
        results: list[dict[str, Any]] = []
        tasks = (
            (number, self._numbered_task(number, atoms, properties, results))
            for number, atoms in enumerate(list_of_atoms)
        )
        for number, found in in_batches(self.model, tasks, self.engine.predict):
            results[number] |= {name: found[name] for name in properties}
        return results

    def _get_name(self) -> str:
        return "jmp"

    def _numbered_task(
        self,
        number: int,
        atoms: Atoms,
        properties: Sequence[str],
        results: list[dict[str, Any]],
    ) -> Task:
        decision = self._met(number, atoms)
        with numbered(number):
            task = self._task(atoms, decision, properties)
        results.append(
            {
                "head": task.spec.name,
                "force_kind": decision.choice.forces,
                "is_conservative": decision.choice.is_conservative,
            }
        )
        return task

    def _met(self, number: int, atoms: Atoms) -> Decision:
        """Return what was decided about this object; decide when it is new."""
        with numbered(number):
            decision = self._decisions.find(atoms) or self._decide(atoms)
            self._announce(atoms, decision)
        self._decisions.keep(atoms, decision)
        return decision

    def _decide(self, atoms: Atoms) -> Decision:
        settings = self.parameters
        return decide(
            self.model, atoms, head=settings["head"], forces=settings["forces"]
        )

    def _recall(self, atoms: Atoms) -> Decision:
        """Return what was decided about a structure, or decide."""
        decision = self._decisions.find(atoms)
        if decision is None and self._decision and self._decision.holds_for(atoms):
            decision = self._decision
        return (decision or self._decide(atoms)).moved_to(atoms)

    def _task(
        self,
        atoms: Atoms,
        decision: Decision,
        properties: Sequence[str],
        *,
        is_moving: bool = False,
    ) -> Task:
        self._has_warned = self._has_warned or warn_ignored(atoms)
        choice, tags = decision.choice, self._tags(atoms, decision)
        device = torch.device(self.parameters["device"])
        if is_moving and not (
            self._motion and self._motion.is_for(choice.spec.graph, tags)
        ):
            self._motion = GraphInMotion(choice.spec.graph, tags, device=device)
        motion = self._motion if is_moving else None
        return task_of(atoms, choice, tags, properties, motion=motion, device=device)

    def _tags(
        self, atoms: Atoms, decision: Decision
    ) -> Int[np.ndarray, " atoms"] | None:
        given = self.parameters["tags"]
        if given == "auto":
            return decision.guessed_tags
        return read_tags(
            atoms.get_tags() if given == "atoms" else given,
            len(atoms),
            has_filter=decision.choice.spec.graph.quadruplet_tags is not None,
        )

    def _announce(self, atoms: Atoms, decision: Decision) -> None:
        """Log once per head what is computed with, and what to be aware of.

        A head that nobody asked for goes to stderr, unless logging is set up otherwise.
        """
        choice = decision.choice
        if choice.spec.name in self._announced:
            return
        self._announced.add(choice.spec.name)
        _logger.log(
            # Visible without any set-up of logging: it decides the level of theory.
            logging.WARNING if choice.is_automatic else logging.INFO,
            "%s: %s",
            self.parameters["model"],
            summary(choice),
        )
        for note in head_notes(atoms, choice, self._tags(atoms, decision)):
            _logger.info("%s", note)
