"""GFN2-xTB molecules, complexes and reactions: the bulk of what jmp-nano learns from.

Expected on two cores: under half an hour, and about 65 000 structures of molecules and
complexes and 8 000 of reactions.
"""

from __future__ import annotations

from pathlib import Path

from jmp_calc.calculator.named import CalculatorChoice
from jmp_train.data.recipes.steps import Choice, DataRecipe, Step
from jmp_train.data.sampling_settings import SamplingSettings as Settings

XTB = CalculatorChoice(name="tblite", options={})
"""GFN2-xTB."""
FIELD = CalculatorChoice(
    name="jmp_train.data.rdkit_force_field:force_field", options={}
)
"""MMFF94 or UFF: cheap dynamics to find geometries with."""

NEAR = "near equilibrium"
HOT = "hot"
STRETCHED = "stretched"
CONTACT = "contact"
TURNED = "turned"
CLUSTER = "cluster"
PATH = "path"

_RELAXED = Choice(step="relaxed", key="is_relaxed")
_WATER = Choice(step="relaxed", key="is_relaxed", groups=("O",))

_MOLECULES = (
    Step(
        name="relaxed",
        origin=NEAR,
        choice=Choice(key="is_lowest"),
        settings=Settings(kind="relax", n=3, seed=1),
        calculator=XTB,
        task="xtb",
    ),
    Step(
        name="vibrating",
        origin=NEAR,
        choice=_RELAXED,
        settings=Settings(kind="vibrate", n=6, seed=2, temperature_K=(100.0, 300.0)),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="vibrating-hot",
        origin=HOT,
        choice=_RELAXED,
        settings=Settings(kind="vibrate", n=3, seed=3, temperature_K=(500.0, 1000.0)),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="dynamics",
        origin=HOT,
        choice=Choice(),
        settings=Settings(
            kind="md",
            n=4,
            seed=4,
            temperature_K=(300.0, 1000.0),
            timestep_fs=1.0,
            spacing_fs=25.0,
        ),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="dynamics-xtb",
        origin=HOT,
        choice=Choice(step="relaxed", key="is_relaxed", most_atoms=24, share=0.1),
        settings=Settings(
            kind="md", n=4, seed=5, temperature_K=(400.0, 1000.0), spacing_fs=12.0
        ),
        calculator=XTB,
        task="xtb",
    ),
    Step(
        name="stretched",
        origin=STRETCHED,
        choice=_RELAXED,
        settings=Settings(kind="stretch", n=3, seed=6),
        task="xtb",
    ),
    Step(
        name="stretched-hot",
        origin=STRETCHED,
        choice=Choice(step="vibrating-hot"),
        settings=Settings(kind="stretch", n=1, seed=7),
        task="xtb",
    ),
    Step(
        name="rattled",
        origin=CONTACT,
        choice=_RELAXED,
        settings=Settings(kind="perturb", n=2, seed=8, amplitude=0.15),
        task="xtb",
    ),
    Step(
        name="turned",
        origin=TURNED,
        choice=Choice(step="vibrating"),
        settings=Settings(kind="torsion", n=1, seed=9, contact=(0.55, 1.0)),
        task="xtb",
    ),
)

_COMPLEXES = (
    Step(
        name="pairs",
        origin=CONTACT,
        choice=Choice(step="vibrating", share=0.45),
        settings=Settings(kind="complex", n=1, seed=10, contact=(0.45, 1.4)),
        task="xtb",
        by_part=True,
    ),
    Step(
        name="pairs-settled",
        origin=CLUSTER,
        choice=Choice(step="pairs", share=0.4),
        settings=Settings(kind="relax", n=1, seed=11, force_tolerance=0.2, steps=400),
        calculator=FIELD,
    ),
    Step(
        name="pairs-dynamics",
        origin=CLUSTER,
        choice=Choice(step="pairs-settled"),
        settings=Settings(
            kind="md",
            n=2,
            seed=12,
            temperature_K=(150.0, 400.0),
            timestep_fs=1.0,
            spacing_fs=30.0,
        ),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="pairs-relaxed",
        origin=NEAR,
        choice=Choice(step="pairs-settled", share=0.25, most_atoms=26),
        settings=Settings(kind="relax", n=3, seed=13, force_tolerance=0.05),
        calculator=XTB,
        task="xtb",
    ),
    Step(
        name="water",
        origin=CONTACT,
        choice=_WATER,
        settings=Settings(
            kind="complex",
            n=600,
            seed=14,
            molecules=12,
            same=True,
            contact=(0.55, 0.95),
        ),
        task="xtb",
    ),
    Step(
        name="water-settled",
        origin=CLUSTER,
        choice=Choice(step="water"),
        settings=Settings(kind="relax", n=1, seed=15, force_tolerance=0.2, steps=400),
        calculator=FIELD,
    ),
    Step(
        name="water-dynamics",
        origin=CLUSTER,
        choice=Choice(step="water-settled"),
        settings=Settings(
            kind="md",
            n=4,
            seed=16,
            temperature_K=(200.0, 400.0),
            timestep_fs=1.0,
            spacing_fs=50.0,
        ),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="water-dynamics-xtb",
        origin=CLUSTER,
        choice=Choice(step="water-settled", most_atoms=24, share=0.3),
        settings=Settings(
            kind="md", n=4, seed=17, temperature_K=(300.0, 500.0), spacing_fs=15.0
        ),
        calculator=XTB,
        task="xtb",
    ),
    Step(
        name="water-relaxed",
        origin=NEAR,
        choice=Choice(step="water-settled", most_atoms=18, share=0.4),
        settings=Settings(kind="relax", n=3, seed=18, force_tolerance=0.05),
        calculator=XTB,
        task="xtb",
    ),
    Step(
        name="water-drops",
        origin=CONTACT,
        choice=_WATER,
        settings=Settings(
            kind="complex",
            n=100,
            seed=23,
            molecules=21,
            max_atoms=63,
            same=True,
            contact=(0.65, 0.9),
        ),
    ),
    Step(
        name="water-drops-settled",
        origin=CLUSTER,
        choice=Choice(step="water-drops"),
        settings=Settings(kind="relax", n=1, seed=24, force_tolerance=0.2, steps=400),
        calculator=FIELD,
    ),
    Step(
        name="water-drops-dynamics",
        origin=CLUSTER,
        choice=Choice(step="water-drops-settled"),
        settings=Settings(
            kind="md",
            n=4,
            seed=25,
            temperature_K=(300.0,),
            timestep_fs=1.0,
            spacing_fs=100.0,
        ),
        calculator=FIELD,
        task="xtb",
    ),
    Step(
        name="droplets",
        origin=CONTACT,
        choice=Choice(step="relaxed", key="is_relaxed", most_atoms=14),
        settings=Settings(
            kind="complex", n=1, seed=19, molecules=10, contact=(0.6, 1.0)
        ),
        task="xtb",
        by_part=True,
    ),
    Step(
        name="droplets-settled",
        origin=CLUSTER,
        choice=Choice(step="droplets"),
        settings=Settings(kind="relax", n=1, seed=20, force_tolerance=0.2, steps=400),
        calculator=FIELD,
    ),
    Step(
        name="droplets-dynamics",
        origin=CLUSTER,
        choice=Choice(step="droplets-settled"),
        settings=Settings(
            kind="md",
            n=2,
            seed=21,
            temperature_K=(200.0, 500.0),
            timestep_fs=1.0,
            spacing_fs=50.0,
        ),
        calculator=FIELD,
        task="xtb",
    ),
)

_REACTIONS = (
    Step(
        name="reactions",
        origin=PATH,
        choice=Choice(
            step="relaxed", key="is_relaxed", least_atoms=3, most_atoms=17, share=0.16
        ),
        settings=Settings(kind="path", n=12, seed=22),
        calculator=XTB,
        task="xtb_reactions",
    ),
)

RECIPE = DataRecipe(
    name="xtb",
    smiles=Path(__file__).with_name("xtb.smi"),
    n_conformers=3,
    steps=(*_MOLECULES, *_COMPLEXES, *_REACTIONS),
    labels=XTB,
)
"""The recipe."""
