"""Single points of many structures, next to reference labels."""

from jmp_calc.sim.energy.single_points import EnergyResult, EnergySettings, run_energy

__all__ = ["EnergyResult", "EnergySettings", "run_energy"]
