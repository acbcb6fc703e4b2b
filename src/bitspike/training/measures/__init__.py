"""What outputs are measured by, by name: accuracy of classes, errors of numbers, scores of sets of labels."""

from bitspike.training.measures.base import MEASURES, Measure, measures_of
from bitspike.training.measures.of_classes import accuracy
from bitspike.training.measures.of_labels import macro_f1, mean_average_precision, micro_f1, subset_accuracy
from bitspike.training.measures.of_numbers import error, mae, r2, rmse

__all__ = [
    "MEASURES",
    "Measure",
    "accuracy",
    "error",
    "macro_f1",
    "mae",
    "mean_average_precision",
    "measures_of",
    "micro_f1",
    "r2",
    "rmse",
    "subset_accuracy",
]
