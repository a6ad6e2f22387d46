"""Importing jmp_calc is cheap and changes nothing in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import jmp_calc
from jmp_calc.errors import JMPError

EXAMPLES = Path(__file__).parents[2] / "examples"

NOT_FOR_A_RUN = (
    "h5py",
    "jmp_calc.models.published",
    "lmdb",
    "matplotlib",
    "pandas",
    "phonopy",
    "pooch",
    "requests",
    "torch_geometric",
)
"""What other work needs."""

RECORD = """
import os, sys, random, warnings, logging, threading, importlib
import numpy, torch, ase

def state():
    return {
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "interop": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "grad": torch.is_grad_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "torch": torch.random.get_rng_state().tolist(),
        "numpy": numpy.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "environment": dict(os.environ),
        "filters": list(warnings.filters),
        "handlers": list(logging.getLogger().handlers),
        "level": logging.getLogger().level,
        "errors": numpy.geterr(),
        "print": numpy.get_printoptions(),
        "threads alive": threading.active_count(),
        "hook": sys.excepthook,
    }

# what the libraries that jmp_calc uses do on their own import is theirs
import ase.calculators.calculator, ase.stress, matscipy.neighbours, pooch, safetensors
import jaxtyping, tqdm, requests, yaml, click
before = state()
import jmp_calc
for name in jmp_calc.__all__:
    getattr(jmp_calc, name)
assert "jmp_calc.calculator" in sys.modules
after = state()
print([key for key in before if before[key] != after[key]])
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_neither_torch_nor_ase() -> None:
    code = (
        "import sys, jmp_calc; jmp_calc.JMPError; "
        "print([m for m in ('torch', 'ase', 'numpy', 'scipy') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_preparing_data_imports_no_torch() -> None:
    """Each worker process would pay for it again."""
    code = (
        "import sys, jmp_train.prepare, jmp_train.data.families; "
        "print([m for m in ('torch', 'torch_geometric') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_loading_weights_imports_no_compiler() -> None:
    """Torch brings its own, and sympy, to draw numbers for a network without any."""
    code = (
        "import sys, jmp_calc; jmp_calc.load_model('jmp-nano'); "
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_a_run_imports_nothing_that_it_has_no_use_for(tmp_path) -> None:
    words = ["run", EXAMPLES / "ethanol.xyz", "--steps", 1, "--out", tmp_path]
    code = (
        "import contextlib, io, sys; from jmp_calc.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    code = main({[str(word) for word in words]})\n"
        f"print(code, [m for m in {NOT_FOR_A_RUN} if m in sys.modules])"
    )
    assert python(code) == "0 []"


def test_importing_everything_changes_no_global_state() -> None:
    assert python(RECORD) == "[]"


def test_public_names_are_listed_and_can_be_imported() -> None:
    assert set(jmp_calc.__all__) <= set(dir(jmp_calc))
    assert issubclass(jmp_calc.UnsupportedSystemError, JMPError)
    assert jmp_calc.__version__.count(".") == 2


def test_other_names_do_not_exist() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Calculator'"):
        _ = jmp_calc.Calculator
