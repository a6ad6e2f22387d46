"""Campaigns as users call them; without Ray in this process, then with it."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import read, write

from jmp_calc.cli import main
from jmp_calc.errors import ArgumentError, DataError
from toys.pools import Pools

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with some crystals, one of which EMT does not know."""
    monkeypatch.chdir(tmp_path)
    crystals = [bulk("Al" if n == 3 else "Cu", cubic=True) for n in range(6)]
    for number, crystal in enumerate(crystals):
        crystal.rattle(0.05, seed=number)
    write("many.xyz", crystals)
    write("bad.xyz", molecule("CH3Cl"))
    return tmp_path


@pytest.fixture
def pools(monkeypatch) -> Pools:
    """Workers in this process take the place of Ray."""
    found = Pools()
    monkeypatch.setattr("jmp_calc.cli.campaigns.campaign.ray_pool", found)
    monkeypatch.setattr("jmp_calc.cli.campaigns.campaign.import_ray", lambda: None)
    return found


def campaign(verb, *words) -> int:
    extra = [] if "--calculator" in words else ["--calculator", "emt"]
    return main([verb, *map(str, words), "--workers", "2", *extra])


def rows(path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_relaxation_gives_what_the_verb_gives_alone(pools, capsys):
    pools.kills = {"many-3": 1}
    assert campaign("relax", "many.xyz", "--frame", ":", "--out", "out") == 0
    assert (
        main(
            [
                "relax",
                "many.xyz",
                "--frame",
                ":",
                "--out",
                "alone",
                "--calculator",
                "emt",
            ]
        )
        == 0
    )
    together, alone = (
        read("out/all-relaxed.xyz", ":"),
        read("alone/all-relaxed.xyz", ":"),
    )
    assert len(together) == 6
    for mine, other in zip(together, alone, strict=True):
        assert np.array_equal(mine.positions, other.positions)
    mine, others = rows("out/all-table.csv"), rows("alone/all-table.csv")
    for column in ("name", "status", "steps"):
        assert [row[column] for row in mine] == [row[column] for row in others]
    # EMT sums neighbours in an order that depends on the structure before
    for row, other in zip(mine, others, strict=True):
        energy = float(other["final_energy_eV"])
        assert float(row["final_energy_eV"]) == pytest.approx(energy, abs=1e-9)
    table = rows("out/campaign.csv")
    assert [row["name"] for row in table] == [f"many-{n}" for n in range(6)]
    assert [row["attempts"] for row in table] == ["1", "1", "1", "2", "1", "1"]
    summary = Path("out/parts/many-3/many-3-summary.yml").read_text()
    assert ".work" not in summary
    assert yaml.safe_load(summary)["inputs"]["frames"] == [3]
    assert "lost        1 workers" in capsys.readouterr().out


def test_a_second_start_does_what_is_missing(pools, capsys):
    words = ("many.xyz", "--frame", ":", "--out", "out")
    pools.n_before_interrupt = 2
    assert campaign("relax", *words) == 130
    assert len(pools.seen) == 2
    assert "the same command goes on" in capsys.readouterr().err
    statuses = [row["status"] for row in rows("out/campaign.csv")]
    assert statuses.count("not started") == 4
    done, pools.n_before_interrupt = list(pools.seen), None
    assert campaign("relax", *words) == 0
    assert sorted(done + pools.seen) == [f"many-{n}" for n in range(6)]
    assert "done before 2" in capsys.readouterr().out
    pools.seen = []
    assert campaign("relax", *words) == 0
    assert pools.seen == []


def test_structures_that_cannot_be_computed_are_listed(pools, capsys):
    assert campaign("relax", "bad.xyz", "many.xyz", "--frame", ":", "--out", "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "jmp-md: bad: failed: No EMT-potential for Cl"
    table = rows("out/campaign.csv")
    assert [row["status"] for row in table] == ["failed"] + 6 * ["converged"]
    assert campaign("relax", "many.xyz", "--out", "short", "--steps", 1) == 3
    assert "many: not converged: 1 steps were not enough" in capsys.readouterr().err


def test_changed_settings_and_structures_are_refused_or_redone(pools, capsys):
    words = ("many.xyz", "--frame", ":", "--out", "out")
    assert campaign("relax", *words) == 0
    assert campaign("relax", *words, "--fmax", 0.02) == 2
    assert "settings.fmax_eV_per_A was 0.01 and is 0.02" in capsys.readouterr().err
    frames = read("many.xyz", ":")
    frames[4].rattle(0.01, seed=9)
    write("many.xyz", frames)
    assert campaign("relax", *words) == 2
    error = capsys.readouterr().err
    assert "many.xyz (or a setting) has changed since many-4 was computed" in error
    assert campaign("relax", *words, "--overwrite") == 0
    assert pools.seen == ["many-4"]


@pytest.mark.parametrize("option", ["--recompute", "--compile"])
def test_a_campaign_goes_on_with_options_that_change_no_number(option, pools, capsys):
    write("cu.xyz", bulk("Cu", cubic=True))
    words = ["energy", "cu.xyz", "--workers", "2", "--out", "out", "--offline"]
    assert main(words) == 0
    assert pools.seen == ["cu-0"]
    pools.seen = []
    assert main([*words, option]) == 0
    assert pools.seen == []
    capsys.readouterr()
    assert main([*words, "--approximate", "bf16"]) == 2
    assert "model.approximate was None and is bf16" in capsys.readouterr().err


def test_the_table_is_true_when_the_work_cannot_go_on(pools, capsys):
    pools.n_before_interrupt = 2
    pools.interrupt = DataError("no worker can be had")
    assert campaign("relax", "many.xyz", "--frame", ":", "--out", "out") == 2
    assert "no worker can be had" in capsys.readouterr().err
    statuses = [row["status"] for row in rows("out/campaign.csv")]
    assert sorted(statuses) == 2 * ["converged"] + 4 * ["not started"]


def test_files_are_named_where_they_are_whatever_the_folder_is_called(pools):
    out = Path(" and ".join(6 * ["a folder of many words"])) / "it's: #1"
    assert campaign("relax", "many.xyz", "--out", out) == 0
    (summary,) = out.glob("parts/many/*-summary.yml")
    files = yaml.safe_load(summary.read_text())["files"]
    assert Path(files["table"]).is_file()
    assert Path(files["of_structures"][0]["final"]).is_file()


def test_a_bug_in_one_of_many_shows_where_it_happened(pools, capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr("jmp_calc.cli.campaigns.works.run_relax", fail)
    assert campaign("relax", "many.xyz", "--frame", ":", "--out", "out") == 1
    error = capsys.readouterr().err
    assert error.count("Traceback (most recent call last)") == 1
    assert "jmp-md: many-5: failed: KeyError: 'x'" in error


def test_single_points_are_computed_in_batches_and_joined(pools):
    words = ("many.xyz", "bad.xyz", "--out", "out", "--per-task", 4)
    assert campaign("energy", *words) == 2
    assert sorted(pools.seen) == ["many-0-to-many-3", "many-4-to-bad-0"]
    table = rows("out/all-energy.csv")
    assert [row["frame"] for row in table] == [*map(str, range(6)), "0"]
    assert [row["problem"] != "" for row in table] == 6 * [False] + [True]
    frames = read("out/all-energy.xyz", ":")
    assert [frame.info.get("jmp_energy") for frame in frames[:6]] == pytest.approx(
        [float(row["energy_eV"]) for row in table[:6]]
    )
    status = [row["status"] for row in rows("out/campaign.csv")]
    assert status == 6 * ["done"] + ["refused"]


def test_dynamics_go_on_from_the_checkpoint_of_a_dead_worker(pools):
    words = ("many.xyz", "--steps", 20, "--seed", 3)
    # the worker dies after its work, so that the next one finds nothing left to do
    pools.kills = {"many": 1}
    assert campaign("run", *words, "--out", "out") == 0
    assert campaign("run", *words, "--out", "whole") == 0
    killed, whole = (
        rows("out/parts/many/many-md.csv"),
        rows("whole/parts/many/many-md.csv"),
    )
    assert [row["step"] for row in killed] == [row["step"] for row in whole]
    assert killed == whole
    assert len(read("out/parts/many/many-traj.traj", ":")) == len(
        read("whole/parts/many/many-traj.traj", ":")
    )
    assert not Path("out/.work").exists()


def test_phonons_of_crystals_with_pictures(pools, capsys):
    write("cu.xyz", bulk("Cu"))
    words = ("cu.xyz", "bad.xyz", "--out", "out", "--supercell", "2 2 2", "--plot")
    assert campaign("phonons", *words) == 2
    assert Path("out/parts/cu/cu-bands.png").is_file()
    assert "bad: failed: " in capsys.readouterr().err
    assert [row["status"] for row in rows("out/campaign.csv")] == ["done", "failed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "2"], "a campaign needs --out FOLDER"),
        (["--workers", "0", "--out", "out"], "workers is 0; give 1 or more"),
        (["--ray", "here", "--out", "out"], "ray is 'here'; give auto"),
        (["--per-task", "4"], "--per-task is for campaigns; add --workers N"),
        (["--workers", "2", "--out", "old"], "parts exists and would be replaced"),
        (
            ["--workers", "2", "--out", "out", "--device", "cuda:1"],
            "Ray gives each worker a GPU of its own: use --device cuda",
        ),
    ],
)
def test_bad_options_are_one_line(words, told, pools, capsys):
    Path("old/parts").mkdir(parents=True)
    assert main(["relax", "many.xyz", "--calculator", "emt", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("verb", ["relax", "energy", "phonons", "run"])
def test_resume_is_refused_for_campaigns_go_on_without(verb, pools, capsys):
    assert campaign(verb, "many.xyz", "--out", "out", "--resume") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "goes on when the same command is given again: leave --resume out" in line
    assert not Path("out").exists()


def test_runs_of_a_campaign_are_not_cut_short_for_good(pools, capsys):
    words = ("many.xyz", "--steps", 20, "--out", "out", "--max-minutes", 5)
    assert campaign("run", *words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--max-minutes 5 is for runs in one process" in line
    assert not Path("out").exists()


def test_a_cluster_that_is_not_there_leaves_nothing_of_a_new_campaign(
    pools, capsys, monkeypatch
):
    @contextlib.contextmanager
    def nobody(*_, **__):
        raise ArgumentError("nobody answers")
        yield

    place = "jmp_calc.cli.campaigns.campaign.ray_pool"
    words = ("many.xyz", "--frame", ":", "--out", "out")
    with monkeypatch.context() as patch:
        patch.setattr(place, nobody)
        assert campaign("relax", *words) == 2
    assert [path.name for path in Path("out").iterdir()] == [".campaign.lock"]
    # with other settings, as the first call did nothing
    assert campaign("relax", *words, "--steps", 1) == 3
    before = Path("out/campaign.yml").read_bytes()
    write("many.xyz", [*read("many.xyz", ":"), bulk("Al")])
    monkeypatch.setattr(place, nobody)
    assert campaign("relax", *words, "--steps", 1) == 2
    assert Path("out/campaign.yml").read_bytes() == before


def test_ray_is_not_imported_unless_asked_for(monkeypatch, capsys):
    code = (
        "import sys; from jmp_calc.cli import main; "
        "main(['relax', 'many.xyz', '--calculator', 'emt']); "
        "sys.exit(int('ray' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert campaign("relax", "many.xyz", "--out", "out") == 2
    assert "run: pip install 'jmp-calc[ray]'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is missing")
def test_two_workers_of_which_one_is_killed_and_a_second_start(here):
    words = ["relax", "many.xyz", "--frame", ":", "--workers", "2", "--out", "out"]

    code = "import sys; from jmp_calc.cli import main; sys.exit(main())"

    def start(*more):
        return subprocess.run(
            [sys.executable, "-c", code, *words, *more],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    deadly = ("--calculator", "toys.deadly:once")
    first = start(*deadly)
    assert first.returncode == 0, first.stderr
    assert Path("killed").exists()
    assert "lost        1 workers" in first.stdout
    # no word of Ray's, whose worker died
    assert first.stderr == ""
    table = rows("out/campaign.csv")
    assert [row["status"] for row in table] == 6 * ["converged"]
    assert table[3]["attempts"] == "2"
    assert len(list(Path("out/parts").iterdir())) == 6
    times = {path: path.stat().st_mtime_ns for path in Path("out/parts").glob("*/*")}
    second = start(*deadly)
    assert second.returncode == 0
    assert "done before 6" in second.stdout
    assert times == {p: p.stat().st_mtime_ns for p in Path("out/parts").glob("*/*")}
