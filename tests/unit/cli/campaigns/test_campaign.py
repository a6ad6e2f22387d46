"""What a campaign knows of its model before any worker starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk

from jmp_calc.cli.campaigns.campaign import Campaign
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.campaigns.works import EnergyWork
from jmp_calc.cli.options import ModelOptions, OutputOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError
from jmp_calc.sim.energy import EnergySettings

ABOUT = {"weights_sha256": "ab"}


def campaign(**model: Any) -> Campaign:
    path, settings = Path("cu.xyz"), EnergySettings()
    crystal = bulk("Cu", cubic=True)
    return Campaign(
        verb="energy",
        structures=[Structure(path=path, frame=0, name="cu", atoms=crystal)],
        model=ModelOptions(offline=True, **model),
        output=OutputOptions(out=Path("out")),
        options=CampaignOptions(workers=2),
        settings=[settings],
        work=EnergyWork(settings=settings, sources={path: "cu"}),
    )


@pytest.mark.parametrize(
    "chosen", [{"recompute": True}, {"compile": True}, {"device": "cuda"}]
)
def test_what_changes_no_number_makes_no_other_campaign(chosen) -> None:
    assert campaign(**chosen)._identity(ABOUT) == campaign()._identity(ABOUT)


@pytest.mark.parametrize(
    ("name", "value"), [("approximate", "bf16"), ("dtype", "float64"), ("head", "pbe")]
)
def test_what_changes_numbers_makes_another_campaign(name, value) -> None:
    usual = campaign()._identity(ABOUT)
    other = campaign(**{name: value})._identity(ABOUT)
    assert other == {**usual, "model": {**usual["model"], name: value}}


def test_options_that_earlier_campaigns_did_not_have_do_not_make_them_others() -> None:
    known = {"model", "head", "forces", "dtype", "tags", "calculator", "d3"}
    assert set(campaign()._identity(ABOUT)["model"]) == {*known, "committee"}


def test_arithmetic_of_gpus_can_be_asked_for_where_there_are_none() -> None:
    about = campaign(device="cuda", approximate="tf32")._describe()
    assert [note for note in about["notes"] if note.startswith("approximate=tf32")]
    usual = campaign(device="cuda")._describe()
    assert {**about, "notes": about["notes"][:-1]} == usual
    with pytest.raises(ArgumentError, match=r"'tf32' is arithmetic of CUDA .* 'cpu'"):
        campaign(approximate="tf32")._describe()
