"""Published test errors, to stand beside measured ones.

Source:
    Tables 2 to 5 of JMP, arXiv 2310.16802, read from the published figures. All are
    mean absolute errors on the test part; lower is better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FORCES = "forces"
"""Key of the force error, where others are names of targets."""

MODELS = ("GN-OC-S", "GN-OC-L", "JMP-S", "JMP-L")
"""GemNet-OC small and large from scratch, and fine-tuned from JMP; in all tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedErrors:
    """Published errors of one quantity of one set."""

    unit: str
    """Unit of the values."""
    factor: float
    """What errors in the unit of the set are multiplied with to have it."""
    values: dict[str, float]
    """Mean absolute error by model."""
    source: str
    """Table of the paper."""
    protocol: str
    """What differs between these numbers, or from other work."""


_PROTOCOLS = {
    "qm9": "One model per target; random split of 110,831 / 10,000 / 10,000.",
    "rmd17": "JMP and GN-OC have one random split of their own (950 / 50 / rest) and "
    "are trained on forces only. Values of other models come from the protocols of "
    "their papers, which use the splits of the authors of the set.",
    "md22": "Training sizes are the sGDML budgets, with 5 % of them held out for "
    "validation; trained on forces only. Ac-Ala3-NHMe and the nanotube are configured "
    "with direct forces in the published runs, the others with gradient forces.",
    "spice": "Random split over conformers, not molecules; trained on forces only.",
    "matbench": "Fold 0, the only one of the models from scratch.",
    "matbench-mean": "The published values are means over five folds, and this is one "
    "fold: compare the mean over all five.",
    "qmof": "Random split of 80 / 10 / 10 %.",
}

_QM9 = (
    *("TorchMD-Net", "Equiformer", "MACE", "Allegro", "ET-OREO", "GNS+TAT+NN"),
    *MODELS,
)
_RMD17 = ("MACE", "Allegro", *MODELS)
_MD22 = ("sGDML", "MACE", "Allegro", *MODELS)
_MATBENCH = ("MODNet", "coGN", *MODELS)
_QMOF = ("PT CGCNN", "PT MOFTransformer", *MODELS)

_QM9_ROWS: dict[str, tuple[str, float, str]] = {
    "mu": ("D", 1.0, ".011 .011 .015 - - .016 .020 .023 .010 .008"),
    "alpha": ("a0^3", 1.0, ".059 .046 .038 - - .040 .052 .056 .037 .032"),
    "eps_HOMO": ("meV", 1000.0, "20.3 15.0 22.0 - 16.8 14.9 21.8 22.7 11.1 8.8"),
    "eps_LUMO": ("meV", 1000.0, "18.6 14.0 19.0 - 14.5 14.7 17.3 18.6 10.8 8.6"),
    "delta_eps": ("meV", 1000.0, "36.1 30.0 42.0 - 26.4 22.0 38.5 40.6 23.1 19.1"),
    "R_2_Abs": ("a0^2", 1.0, ".033 .251 .210 - - .440 .210 .171 .200 .163"),
    "ZPVE": ("meV", 1000.0, "1.8 1.3 1.2 - - 1.0 1.2 1.2 1.0 0.9"),
    "U_0": ("meV", 1000.0, "6.2 6.6 4.1 4.7 - 5.8 7.2 9.4 3.3 2.9"),
    "U": ("meV", 1000.0, "6.4 6.7 4.1 4.4 - 5.8 6.9 9.7 3.3 2.8"),
    "H": ("meV", 1000.0, "6.2 6.6 4.7 4.4 - 5.8 7.3 8.7 3.3 2.8"),
    "G": ("meV", 1000.0, "8.3 7.6 5.5 5.7 - 6.9 8.1 9.2 4.5 4.3"),
    "c_v": ("cal/(mol K)", 1.0, ".026 .023 .021 - - .020 .024 .024 .018 .017"),
}
_RMD17_ROWS = {
    "aspirin": "6.6 7.3 24.3 24.7 6.7 5.1",
    "benzene": "0.3 0.2 1.0 1.0 0.7 0.3",
    "ethanol": "2.1 2.1 13.0 13.3 2.8 2.0",
    "malonaldehyde": "4.1 4.1 21.1 25.7 5.3 4.0",
    "naphthalene": "1.6 0.9 5.6 5.7 2.2 1.4",
    "salicylic": "3.1 2.9 14.7 15.1 4.6 3.4",
    "toluene": "1.5 1.8 6.8 7.2 2.3 1.5",
    "uracil": "2.1 1.8 12.0 12.9 4.0 2.5",
    "paracetamol": "4.8 4.9 17.3 18.4 5.3 4.0",
    "azobenzene": "3.0 2.6 11.1 11.4 4.5 3.3",
}
_MD22_ROWS = {
    "Ac-Ala3-NHMe": "34.55 3.80 4.63 5.07 6.27 2.64 1.92",
    "DHA": "32.41 2.80 3.17 2.87 3.95 2.01 1.37",
    "stachyose": "29.24 3.80 4.21 2.22 3.85 2.69 1.73",
    "AT-AT": "29.97 4.30 4.13 5.38 5.96 3.02 1.98",
    "AT-AT-CG-CG": "30.48 5.00 5.55 5.80 5.62 3.28 2.11",
    "buckyball-catcher": "29.57 3.70 - 10.35 8.20 3.08 2.26",
    "double-walled_nanotube": "22.68 12.00 - 11.20 9.61 8.36 6.17",
}
_SPICE_ROWS = {
    "solvated-amino-acids": "22.14 28.64 5.71 4.75",
    "dipeptides": "8.78 10.68 4.71 3.64",
}
_MATBENCH_ROWS: dict[str, tuple[str, str, float, str]] = {
    "jdft2d": (
        *("exfoliation_en", "meV/atom", 1.0),
        "25.55 22.25 26.19 25.34 20.72 23.12",
    ),
    "phonons": (
        *("last phdos peak", "1/cm", 1.0),
        "34.77 32.12 93.45 88.74 26.6 21.28",
    ),
    "dielectric": ("n", "1", 1.0, ".169 .178 .225 .211 .133 .119"),
    "log_gvrh": (
        *("log10(G_VRH)", "log10(GPa)", 1.0),
        ".073 .068 .082 .082 .060 .057",
    ),
    "log_kvrh": (
        *("log10(K_VRH)", "log10(GPa)", 1.0),
        ".054 .052 .061 .063 .044 .045",
    ),
    "perovskites": ("e_form", "eV/cell", 1.0, ".093 .027 .045 .045 .029 .026"),
    "mp_gap": ("gap pbe", "eV", 1.0, ".215 .153 .228 .235 .119 .089"),
    "mp_e_form": ("e_form", "meV/atom", 1000.0, "40.2 17.4 31.4 33.1 13.6 10.3"),
}
_MATBENCH_MEANS = {
    "jdft2d": "33.20 37.17 - - 30.16 29.94",
    "phonons": "34.28 29.71 - - 22.77 20.57",
    "dielectric": ".271 .309 - - .252 .249",
    "log_gvrh": ".073 .069 - - .062 .059",
    "log_kvrh": ".055 .054 - - .046 .045",
    "perovskites": ".091 .027 - - .028 .026",
    "mp_gap": ".220 .156 - - .121 .091",
    "mp_e_form": "44.8 17 - - 13.3 10.1",
}
_QMOF_ROW = "0.28 0.27 0.25 0.24 0.18 0.16"


def published_errors(name: str, quantity: str) -> PublishedErrors | None:
    """Return published errors, or None if the paper has none.

    Args:
        name: Name of the set as ``prepare`` gives it, such as ``rmd17-aspirin`` or
            ``matbench-phonons-fold0``.
        quantity: ``forces``, or the name of a target.
    """
    family, _, rest = name.partition("-")
    if family == "qm9" and not rest and quantity in _QM9_ROWS:
        unit, factor, row = _QM9_ROWS[quantity]
        return _found(family, 2, unit, factor, _values(_QM9, row))
    if family == "qmof" and not rest and quantity == "bandgap":
        return _found(family, 4, "eV", 1.0, _values(_QMOF, _QMOF_ROW))
    if family == "matbench":
        return _matbench(rest, quantity)
    rows = {
        "rmd17": (_RMD17_ROWS, _RMD17, 3),
        "md22": (_MD22_ROWS, _MD22, 5),
        "spice": (_SPICE_ROWS, MODELS, 5),
    }
    if family not in rows or quantity != FORCES:
        return None
    table, models, number = rows[family]
    system = re.sub(r"-fold\d+$", "", rest)
    if system not in table:
        return None
    return _found(family, number, "meV/Å", 1000.0, _values(models, table[system]))


def _matbench(rest: str, quantity: str) -> PublishedErrors | None:
    match = re.fullmatch(r"(\w+)-fold(\d)", rest)
    if match is None or match[1] not in _MATBENCH_ROWS:
        return None
    column, unit, factor, row = _MATBENCH_ROWS[match[1]]
    if quantity != column:
        return None
    values = _values(_MATBENCH, row)
    if match[2] == "0":
        return _found("matbench", 4, unit, factor, values)
    means = _values(_MATBENCH, _MATBENCH_MEANS[match[1]])
    return _found("matbench-mean", 4, unit, factor, means)


def _found(
    protocol: str, table: int, unit: str, factor: float, values: dict[str, float]
) -> PublishedErrors:
    return PublishedErrors(
        unit=unit,
        factor=factor,
        values=values,
        source=f"arXiv 2310.16802, Table {table}",
        protocol=_PROTOCOLS[protocol],
    )


def _values(models: tuple[str, ...], row: str) -> dict[str, float]:
    words = row.split()
    assert len(words) == len(models)
    return {
        m: float(word) for m, word in zip(models, words, strict=True) if word != "-"
    }
