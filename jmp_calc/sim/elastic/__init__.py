"""Elastic constants of crystals from stresses under small strains."""

from jmp_calc.sim.elastic.constants import ElasticResult, elastic_files, run_elastic
from jmp_calc.sim.elastic.settings import ElasticSettings

__all__ = ["ElasticResult", "ElasticSettings", "elastic_files", "run_elastic"]
