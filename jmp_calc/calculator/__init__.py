"""JMPCalculator and Predictor, what they decide (head, domain, tags), and how."""

from jmp_calc.calculator.ase_calculator import JMPCalculator as JMPCalculator
from jmp_calc.calculator.prediction import Predictor as Predictor
from jmp_calc.calculator.prediction import Quantity as Quantity
