"""Errors in stated units, per task, measured on labelled systems."""

from __future__ import annotations

from jmp_train.metrics.classes import ClassErrors as ClassErrors
from jmp_train.metrics.errors import TaskErrors as TaskErrors
from jmp_train.metrics.errors import error_line as error_line
from jmp_train.metrics.errors import error_table as error_table
from jmp_train.metrics.evaluate import choose_samples as choose_samples
from jmp_train.metrics.evaluate import evaluate_model as evaluate_model
from jmp_train.metrics.evaluate import predict_batch as predict_batch
from jmp_train.metrics.evaluate import predictions as predictions
from jmp_train.metrics.meter import ErrorMeter as ErrorMeter
from jmp_train.metrics.terms import BatchPrediction as BatchPrediction
