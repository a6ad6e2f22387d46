"""Published sizes, scales and atom references: one table for recipes and checks.

Nothing here is needed to train: scales are measured on the training part. The numbers
serve recipes that repeat a published run to the digit, and checks that a prepared set
is the published one.

Source:
    Training specification, sections 1.1 and 3.1 to 3.6 (JMP, arXiv 2310.16802).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jmp_calc.models.config import ForceKind, TargetReduction

PublishedPrecision = Literal["float32", "fp16"]
"""Arithmetic of a published run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScale:
    """What a target was shifted and divided by."""

    mean: float
    """In the unit of the target, after atom references."""
    std: float
    """Likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedForceSet:
    """Scales of a set with energies and forces."""

    energy_mean: float
    """eV."""
    energy_std: float
    """eV."""
    force_std: float
    """eV/Å."""
    force_mean: float = 0.0
    """eV/Å."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingTask:
    """One of the four tasks of pre-training."""

    quoted_size: int
    """Training systems as the paper rounds them."""
    n_train: int
    """Training systems counted in the files (approximate for oc20 and transition1x)."""
    cutoff: float
    """Cutoff of all four graphs, Å."""
    max_neighbors: int = 30
    """Neighbor setting N."""
    energy_weight: float = 1.0
    """Coefficient alpha of the energy term."""
    force_weight: float
    """Coefficient beta of the force term: the mean number of atoms of the set."""
    energy_std: float
    """Standard deviation of the energy after linear references, eV."""
    force_std: float
    """Root mean square of the force components, eV/Å."""
    referenced_mean: float
    """Measured mean of the energy after linear references, eV; not subtracted."""


PRETRAINING: dict[str, PretrainingTask] = {
    "oc20": PretrainingTask(
        quoted_size=100_000_000,
        n_train=133_934_018,
        cutoff=12.0,
        force_weight=73.0,
        energy_std=24.901469505465872,
        force_std=0.5111534595489502,
        referenced_mean=1.30554,
    ),
    "oc22": PretrainingTask(
        quoted_size=8_000_000,
        n_train=8_225_293,
        cutoff=12.0,
        force_weight=80.0,
        energy_std=25.229595396538468,
        force_std=0.25678861141204834,
        referenced_mean=1.23237,
    ),
    "ani1x": PretrainingTask(
        quoted_size=2_000_000,
        n_train=3_952_056,
        cutoff=8.0,
        force_weight=15.0,
        energy_std=2.8700712783472118,
        force_std=2.131422996520996,
        referenced_mean=0.38358,
    ),
    "transition1x": PretrainingTask(
        quoted_size=10_000_000,
        n_train=9_000_000,
        cutoff=8.0,
        force_weight=14.0,
        energy_std=1.787466168382901,
        force_std=0.3591422140598297,
        referenced_mean=0.03844,
    ),
}
"""Pre-training tasks by name, in the published order of the heads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qm9Target:
    """One property of QM9."""

    unit: str
    """Unit of the target in samples."""
    scale: PublishedScale
    """Mean and standard deviation, after atom references."""
    is_task: bool = True
    """Whether it is one of the twelve published tasks."""
    references: dict[int, float] = field(default_factory=dict)
    """Atom references by atomic number that are subtracted first."""


def _qm9(
    unit: str,
    mean: float,
    std: float,
    *references: float,
    is_task: bool = True,
) -> Qm9Target:
    """References are those of H, C, N, O, F."""
    return Qm9Target(
        unit=unit,
        scale=PublishedScale(mean=mean, std=std),
        is_task=is_task,
        references=dict(zip((1, 6, 7, 8, 9), references, strict=False)),
    )


_ZPVE = (0.31213, 0.13694, 0.13955, 0.11424, 0.093038)
_U_0 = (-16.430, -1036.0, -1489.8, -2047.0, -2717.5)
_U = (-16.419, -1036.0, -1489.8, -2047.0, -2717.5)
_G = (-16.443, -1036.1, -1489.9, -2047.1, -2717.6)
_C_V = (1.2409, 2.0350, 2.7877, 3.0860, 3.3401)

QM9: dict[str, Qm9Target] = {
    "mu": _qm9("D", 2.674587, 1.5054824),
    "alpha": _qm9("a0^3", 75.31013, 8.164021),
    "eps_HOMO": _qm9("eV", -6.5347567, 0.59702325),
    "eps_LUMO": _qm9("eV", 0.323833, 1.273586),
    "delta_eps": _qm9("eV", 6.8585854, 1.283122),
    "R_2_Abs": _qm9("a0^2", 1189.6819, 280.0421),
    "ZPVE": _qm9("eV", -0.00052343315, 0.04904531, *_ZPVE),
    "U_0": _qm9("eV", 0.0028667436, 1.0965848, *_U_0),
    "U": _qm9("eV", 0.0028711546, 1.0941933, *_U),
    "H": _qm9("eV", 0.0029801112, 1.0942822, *_U),
    "G": _qm9("eV", 0.000976671, 1.101572, *_G),
    "c_v": _qm9("cal/(mol K)", -0.005799451, 2.2179737, *_C_V),
    "U_0_ATOM": _qm9("eV", -76.15232, 10.309152, is_task=False),
    "U_ATOM": _qm9("eV", -76.6171, 10.400515, is_task=False),
    "H_ATOM": _qm9("eV", -77.05511, 10.474532, is_task=False),
    "G_ATOM": _qm9("eV", -70.87026, 9.484609, is_task=False),
    "A": _qm9("GHz", 11.58375, 2046.5049, is_task=False),
    "B": _qm9("GHz", 1.40327, 1.1445134, is_task=False),
    "C": _qm9("GHz", 1.1256535, 0.85679144, is_task=False),
}
"""Targets of QM9 by name, in the order of the published file.

The atom references are five-digit roundings of a least-squares fit, not energies of
free atoms. The published run with all targets uses no scale for R_2_Abs.
"""

QM9_SIZES = (110_831, 10_000, 10_000)
"""Training, validation and test molecules."""


RMD17: dict[str, PublishedForceSet] = {
    name: PublishedForceSet(energy_mean=mean, energy_std=std, force_std=force)
    for name, mean, std, force in (
        ("aspirin", -17617.379355, 0.267399844, 1.2733363),
        ("azobenzene", -15553.118351, 0.286609834, 1.2940075),
        ("benzene", -6306.374856, 0.104826457, 0.90774584),
        ("ethanol", -4209.534573, 0.186165770, 1.1929188),
        ("malonaldehyde", -7254.903634, 0.181229192, 1.302443),
        ("naphthalene", -10478.192320, 0.249226749, 1.3102233),
        ("paracetamol", -13998.780924, 0.269639841, 1.2707518),
        ("salicylic", -13472.110349, 0.243792055, 1.3030343),
        ("toluene", -7373.347077, 0.225342827, 1.246547),
        ("uracil", -11266.351950, 0.222711317, 1.3692871),
    )
}
"""rMD17 by molecule."""

RMD17_SIZES = (950, 50)
"""Training and validation frames of each molecule; all others test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Md22Molecule:
    """One molecule of MD22."""

    n_frames: int
    """Frames of the published file."""
    budget: int
    """Frames for training and validation together."""
    scale: PublishedForceSet
    """Scales."""
    forces: ForceKind
    """Forces of the published run."""
    precision: PublishedPrecision
    """Arithmetic of the published run."""
    batch_systems: int = 1
    """Systems of a batch of the published run."""

    @property
    def n_val(self) -> int:
        """Validation frames: 5 % of the budget, rounded down."""
        return self.budget // 20

    @property
    def n_train(self) -> int:
        """Training frames."""
        return self.budget - self.n_val


def _md22(
    n_frames: int,
    budget: int,
    scales: tuple[float, float, float],
    *,
    forces: ForceKind = "gradient",
    precision: PublishedPrecision = "fp16",
    batch: int = 1,
) -> Md22Molecule:
    energy_mean, energy_std, force_std = scales
    return Md22Molecule(
        n_frames=n_frames,
        budget=budget,
        scale=PublishedForceSet(
            energy_mean=energy_mean, energy_std=energy_std, force_std=force_std
        ),
        forces=forces,
        precision=precision,
        batch_systems=batch,
    )


MD22: dict[str, Md22Molecule] = {
    "Ac-Ala3-NHMe": _md22(
        85_109, 6000, (-26913.953, 0.35547638, 1.1291506), forces="direct", batch=2
    ),
    "DHA": _md22(
        69_753, 8000, (-27383.035, 0.41342595, 1.1258113), precision="float32"
    ),
    "stachyose": _md22(27_272, 8000, (-68463.59, 0.5940788, 1.1104717)),
    "AT-AT": _md22(20_001, 3000, (-50080.08, 0.47309175, 1.2109985)),
    "AT-AT-CG-CG": _md22(10_153, 2000, (-101034.23, 0.680055, 1.2021886)),
    "buckyball-catcher": _md22(6_102, 600, (-124776.7, 0.64662045, 1.0899031)),
    "double-walled_nanotube": _md22(
        5_032, 800, (-338224.16, 3.3810701, 1.0137014), forces="direct"
    ),
}
"""MD22 by molecule; names are those of the files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpiceSubset:
    """One of the two subsets of SPICE."""

    sizes: tuple[int, int, int]
    """Training, validation and test conformers."""
    scale: PublishedForceSet
    """Scales; the energies are total ones, although the published target is the
    formation energy (which is not trained on)."""


SPICE: dict[str, SpiceSubset] = {
    "dipeptides": SpiceSubset(
        sizes=(27_080, 3_385, 3_385),
        scale=PublishedForceSet(
            energy_mean=-31213.615,
            energy_std=4636.815,
            force_mean=3.38e-07,
            force_std=0.5386545,
        ),
    ),
    "solvated-amino-acids": SpiceSubset(
        sizes=(1_040, 130, 130),
        scale=PublishedForceSet(
            energy_mean=-60673.68,
            energy_std=3310.6692,
            force_mean=2.80e-07,
            force_std=0.81945145,
        ),
    ),
}
"""Subsets of SPICE by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatbenchTask:
    """One task of MatBench v0.1."""

    n_systems: int
    """Systems of all folds together."""
    column: str
    """Column of the target in the file."""
    unit: str
    """Unit of the target; "class" for the classification."""
    means: tuple[float, ...] = ()
    """Mean of the training part of each fold; empty for the classification."""
    stds: tuple[float, ...] = ()
    """Standard deviation likewise."""
    batch_systems: int = 8
    """Systems of a batch of the published run."""
    precision: PublishedPrecision = "fp16"
    """Arithmetic of the published run."""
    reduction: TargetReduction = "mean"
    """How the numbers of the atoms make the target."""


MATBENCH: dict[str, MatbenchTask] = {
    "jdft2d": MatbenchTask(
        n_systems=636,
        column="exfoliation_en",
        unit="meV/atom",
        means=(110.6371, 100.0600, 101.5954, 99.4355, 95.5085),
        stds=(132.0250, 114.2636, 112.4576, 109.9220, 76.2759),
        batch_systems=3,
        precision="float32",
    ),
    "phonons": MatbenchTask(
        n_systems=1_265,
        column="last phdos peak",
        unit="1/cm",
        means=(602.9008, 613.7996, 619.3869, 609.7402, 595.4548),
        stds=(471.0386, 486.7510, 495.2975, 462.3439, 476.8567),
        reduction="max",
    ),
    "dielectric": MatbenchTask(
        n_systems=4_764,
        column="n",
        unit="1",
        means=(2.417849, 2.371640, 2.354418, 2.392308, 2.389153),
        stds=(2.208663, 2.127152, 1.571225, 2.072415, 2.011349),
    ),
    "log_gvrh": MatbenchTask(
        n_systems=10_987,
        column="log10(G_VRH)",
        unit="log10(GPa)",
        means=(1.555743, 1.558410, 1.557463, 1.554302, 1.559571),
        stds=(0.373072, 0.367435, 0.368000, 0.368455, 0.370398),
    ),
    "log_kvrh": MatbenchTask(
        n_systems=10_987,
        column="log10(K_VRH)",
        unit="log10(GPa)",
        means=(1.880001, 1.883820, 1.883778, 1.882846, 1.886268),
        stds=(0.368204, 0.367931, 0.372439, 0.373118, 0.367160),
    ),
    "perovskites": MatbenchTask(
        n_systems=18_928,
        column="e_form",
        unit="eV/cell",
        means=(1.472666, 1.469073, 1.470298, 1.467738, 1.478002),
        stds=(0.738431, 0.736635, 0.745672, 0.743174, 0.743512),
    ),
    "mp_gap": MatbenchTask(
        n_systems=106_113,
        column="gap pbe",
        unit="eV",
        means=(1.236432, 1.234568, 1.235239, 1.230067, 1.235054),
        stds=(1.609642, 1.604471, 1.605809, 1.600375, 1.603559),
        batch_systems=2,
        precision="float32",
    ),
    "mp_e_form": MatbenchTask(
        n_systems=132_752,
        column="e_form",
        unit="eV/atom",
        means=(-1.437159, -1.437278, -1.435331, -1.433782, -1.437067),
        stds=(1.157710, 1.157687, 1.156899, 1.157068, 1.156727),
        batch_systems=6,
    ),
    "mp_is_metal": MatbenchTask(
        n_systems=106_113,
        column="is_metal",
        unit="class",
        batch_systems=3,
        precision="float32",
        reduction="sum",
    ),
}
"""Tasks of MatBench by name; the classification is in the code but not in the paper."""

QMOF = PublishedScale(mean=2.1866251527, std=1.175752521)
"""PBE band gap of QMOF, eV."""
