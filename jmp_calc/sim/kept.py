"""A calculator that remembers what it computed, so that stopped work can go on.

Optimizers and displacements are deterministic: work that is begun again asks for the
same structures in the same order, gets those that are known from a file at no cost, and
goes on where it was stopped.

What is kept are whole calls. The last digits of a batch depend on what else is in it,
in float32 and in float64, so that single structures taken out of known calls would not
give the results of work that was never stopped; whole calls do, bit for bit. A
calculator that is asked for one structure after another is kept one by one. One that
remembers earlier structures itself (ASE's EMT: a list of neighbours) gives after a
resume what it would give afresh, equal to rounding.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.sim.evaluation import OneByOne, Results, evaluator_of, met_by
from jmp_calc.sim.kept_file import KeptFile


class Kept:
    """An evaluator that looks up calls in a file, and adds those that it computes.

    A call is known by all that its results can depend on: ``identity``, the properties,
    and of each structure what the calculator has decided about it (its head) and
    everything but constraints: positions, cell, periodicity, numbers, all other arrays
    (charges, moments, tags, ...) and ``info``. Structures that the calculator refuses
    are not kept, and are tried again.

    Args:
        calculator: An ASE calculator, or anything with ``evaluate``.
        file: Where results are kept.
        identity: What computes: weights, settings, versions; plain data.
    """

    def __init__(
        self, calculator: Any, file: KeptFile, identity: Mapping[str, Any]
    ) -> None:
        self._evaluator = evaluator_of(calculator)
        self._file = file
        text = json.dumps(dict(identity), sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).digest()
        if hasattr(calculator, "describe"):
            self.describe = calculator.describe

    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[Results]:
        """Return what is known, or compute it.

        Args:
            list_of_atoms: Structures, as for
                :class:`jmp_calc.sim.evaluation.Evaluator`.
            properties: ASE's names of what is wanted.

        Raises:
            DataError: If results cannot be written.
        """
        frames = list(list_of_atoms)
        if isinstance(self._evaluator, OneByOne):
            return [self._call([atoms], properties)[0] for atoms in frames]
        return self._call(frames, properties)

    def _call(
        self, frames: Sequence[Atoms], properties: Sequence[str]
    ) -> list[Results]:
        # what was decided where a structure was first met holds where it is by now
        key = self._key(met_by(self._evaluator, frames), frames, properties)
        known = self._file.find(key)
        if known is not None:
            return known
        return self._file.add(key, self._evaluator.evaluate(frames, properties))

    def _key(
        self,
        decided: Sequence[Any],
        frames: Sequence[Atoms],
        properties: Sequence[str],
    ) -> bytes:
        digest = hashlib.sha256(self._identity)
        for part in _parts([properties, decided, *map(_content, frames)]):
            digest.update(part)
        return digest.digest()


def _content(atoms: Atoms) -> dict[str, Any]:
    return {
        "arrays": atoms.arrays,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "origin": atoms.get_celldisp(),
        "info": atoms.info,
    }


def _parts(value: Any) -> Iterator[bytes]:
    """Yield bytes from which a value could be told from every other one."""
    if isinstance(value, Mapping):
        names = sorted(value, key=repr)
        yield b"{%d" % len(names)
        for name in names:
            yield from _parts(name)
            yield from _parts(value[name])
    elif isinstance(value, (list, tuple)):
        yield b"[%d" % len(value)
        for item in value:
            yield from _parts(item)
    elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        yield f"a{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, float):
        yield b"f" + struct.pack("<d", value)
    else:
        # two that are equal but pickled otherwise are only computed again
        text = pickle.dumps(value, protocol=4)
        yield b"p%d:" % len(text)
        yield text
