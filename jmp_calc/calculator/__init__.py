"""JMPCalculator and what it decides: head, domain, tags; and how it evaluates."""

from jmp_calc.calculator.ase_calculator import JMPCalculator as JMPCalculator
