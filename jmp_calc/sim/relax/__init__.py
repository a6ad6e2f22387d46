"""Relaxation of atoms and cells, of many structures side by side."""

from jmp_calc.sim.relax.relaxation import RelaxResult, RelaxRound, run_relax
from jmp_calc.sim.relax.settings import RelaxSettings

__all__ = ["RelaxResult", "RelaxRound", "RelaxSettings", "run_relax"]
