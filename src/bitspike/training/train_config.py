"""Table [train] of a recipe: optimiser, schedule and loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bitspike.checks import at_least, bad_value, in_range, integer, one_of, positive, single
from bitspike.data.mixing import Mixing, check_alphas
from bitspike.schema import conform
from bitspike.training.losses import LABEL_LOSSES, LOSSES, MIXED, REGRESSION_LOSSES, loss_options, takes_weights
from bitspike.training.measures import measures_of
from bitspike.training.measures.base import Kind

LARGE = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimiser, schedule and loss.

    Args:
        epochs: passes over the training split, >= 1.
        optimiser: "sgd" or "adamw".
        lr: peak learning rate, > 0.
        momentum: of sgd, [0, 1).
        weight_decay: >= 0.
        warmup_epochs: linear warm-up from 0, in epochs, [0, epochs].
        schedule: after the warm-up, "cosine" to 0 or "constant".
        loss: a registered loss: "mean" (cross-entropy of the mean output), "tet" (of every step, averaged, plus a pull
            to a target); for float targets, regression, "mse", "l1" or "huber"; for sets of labels, "bce".
        metric: what the best epoch is chosen by and figures are: of numbers "error" (the default), "mae", "rmse" or
            "r2"; of labels "micro_f1" (the default), "macro_f1", "subset_accuracy" or "mean_average_precision"; of
            classes "accuracy". None: the default.
        loss_options: further keywords of the loss, the table [train.loss_options].
        tet_weight: share λ of the pull of "tet", [0, 1]. tet_target: the value outputs are pulled to, > 0.
        label_smoothing: [0, 1). class_weights: weight of every class in the cross-entropy, >= 0, not all 0.
        balance_classes: weights N/(K·n) for n of the N training samples in a class of K, so that classes count alike.
            These three are of classes only.
        mixup, cutmix: α of `bitspike.data.mixing.Mixing`, [0.001, 1000]; 0: none. Of classes and the losses "mean" and
            "tet" only.
        ema: decay of the running average of the weights (`bitspike.training.ema.Ema`), which is evaluated and kept,
            (0, 1); None: the weights themselves.
        stochastic_depth: probability, [0, 1), with which a sample skips the last residual branch of the network, see
            `bitspike.models.stochastic_depth`; 0: none.
        clip_norm: largest gradient norm, > 0; None: no clipping.
        precision: "float32", or "bf16": autocast, membranes and norms in float32.
        channels_last: keep convolutions in channels-last memory order.
        compile: run the network through `torch.compile`.
        memory: "normal", or "lean": spikes kept as bits, linear maps computed again; not with compile.
        forward: "float", or "int8": convolutions of integer spikes with quantized weights in int8, where
            channels_last is true; with precision "float32", not with compile.
        threads: CPU threads, 1 to 1024.
        log_every: steps between two log lines, >= 1.
    """

    epochs: int = 10
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    loss: str = "mean"
    metric: str | None = None
    loss_options: dict[str, object] = field(default_factory=dict)
    tet_weight: float = 1e-3
    tet_target: float = 1.0
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    balance_classes: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float | None = None
    stochastic_depth: float = 0.0
    clip_norm: float | None = None
    precision: Literal["float32", "bf16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    memory: Literal["normal", "lean"] = "normal"
    forward: Literal["float", "int8"] = "float"
    threads: int = 2
    log_every: int = 50

    def __post_init__(self) -> None:
        conform(self)
        where = "TrainConfig"
        single(where, self)
        for key, high in (("epochs", LARGE), ("threads", 1024), ("log_every", LARGE)):
            integer(where, key, getattr(self, key), 1, high)
        for key in ("lr", "tet_target"):
            positive(where, key, getattr(self, key))
        if self.clip_norm is not None:
            positive(where, "clip_norm", self.clip_norm)
        if self.ema is not None and not 0 < self.ema < 1:
            raise bad_value(where, "ema must lie in (0, 1)", self.ema, "0.999 to 0.9999 are usual, or leave it out")
        for key in ("momentum", "label_smoothing", "stochastic_depth"):
            if not 0 <= getattr(self, key) < 1:
                raise bad_value(where, f"{key} must lie in [0, 1)", getattr(self, key), "pass a value inside")
        at_least(where, "weight_decay", self.weight_decay, 0)
        in_range(where, "warmup_epochs", self.warmup_epochs, 0, self.epochs)
        in_range(where, "tet_weight", self.tet_weight, 0, 1)
        one_of(where, "loss", self.loss, (*LOSSES, *REGRESSION_LOSSES, *LABEL_LOSSES))
        if self.metric is not None:
            one_of(where, f"the metric of the loss {self.loss!r}", self.metric, measures_of(self.kind))
        self._check_classes(where)
        check_alphas(where, self.mixup, self.cutmix)
        if self.mixing is not None and self.loss not in MIXED:
            key = "mixup" if self.mixup else "cutmix"
            must = f"{key} must be 0 where the loss is {self.loss!r}, which takes no shares of classes"
            todo = f"remove it, or take the loss {' or '.join(map(repr, MIXED))}"
            raise bad_value(where, must, getattr(self, key), todo)
        for key in self.loss_options:
            one_of(where, f"an option of the loss {self.loss!r}", key, loss_options(self.loss))
        if self.compile and self.memory == "lean":
            raise bad_value(where, "memory 'lean' needs compile = false", "compile = true", "switch one of them off")
        if self.forward == "int8":
            needs = {"compile": False, "precision": "float32"}
            for key, value in needs.items():
                if getattr(self, key) != value:
                    must = f"forward 'int8' needs {key} = {str(value).lower()}"
                    raise bad_value(where, must, getattr(self, key), "change one of them")

    @property
    def kind(self) -> Kind:
        """What the loss wants for targets."""
        return "numbers" if self.loss in REGRESSION_LOSSES else "labels" if self.loss in LABEL_LOSSES else "classes"

    @property
    def mixing(self) -> Mixing | None:
        """What mixes training batches, None for nothing."""
        return Mixing(mixup=self.mixup, cutmix=self.cutmix) if self.mixup or self.cutmix else None

    def _check_classes(self, where: str) -> None:
        """What is of classes only, or of some losses only, is refused by name elsewhere."""
        given = {
            "label_smoothing": self.label_smoothing,
            "class_weights": self.class_weights,
            "balance_classes": self.balance_classes,
        }
        for key, value in given.items():
            if value and self.kind != "classes":
                must = f"{key} must be left out where the loss is {self.loss!r}: there are no classes"
                raise bad_value(where, must, value, "remove it")
            if value and key != "label_smoothing" and not takes_weights(self.loss):
                must = f"{key} must be left out where the loss is {self.loss!r}, which takes no class weights"
                raise bad_value(where, must, value, "remove it, or give the loss a keyword class_weights")
        if self.class_weights is not None:
            for weight in self.class_weights:
                in_range(where, "a class weight", weight, 0, 1e6)
            if max(self.class_weights) < 1e-6:
                must = "the greatest of class_weights must be at least 1e-6"
                raise bad_value(where, must, list(self.class_weights), "raise one")
            if self.balance_classes:
                todo = "leave one of them out"
                raise bad_value(where, "class_weights and balance_classes must not be given together", "both", todo)

    def loss_arguments(self) -> dict[str, Any]:
        """Keywords for the loss."""
        known = {"weight": self.tet_weight, "target": self.tet_target} if self.loss == "tet" else {}
        return {**known, **self.loss_options}
