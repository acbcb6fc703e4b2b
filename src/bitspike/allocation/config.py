"""Table [allocation] of a recipe: how bits, step sizes and time steps are learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bitspike.allocation.budget import parse_limits
from bitspike.checks import at_least, bad_value, in_range, integer, positive, single
from bitspike.schema import conform


@dataclass(frozen=True, kw_only=True)
class AllocationConfig:
    """Learned bits and time steps: targets, rates, renewal of step sizes, freezing.

    Source: adaptive bit allocation (arXiv 2506.23717), code; the defaults are those of its CIFAR script, but for the
    renewal of convolution weights (searched here) and ``extreme`` (never decreasing there).

    Args:
        refined: every neuron gets its own T, from model.T, through `Refined`. windows: of samples with a time axis,
            steps that the network runs at, through `Windows` in front of it; None: those of the samples. learn_steps:
            learn what one of the two gives.
        weight_target, spike_target, steps_target: averages of weight bits, spike bits and T to pull to; None: no pull.
        weight_pull, spike_pull, steps_pull: factor of the distance to the target, >= 0.
        bits_lr, step_lr: peak learning rate of bits and of step sizes; None: train.lr.
        steps_lr: of T; None: a tenth of train.lr.
        start: initial step sizes of spikes: "batch" (from the first batch) or "given" (the neuron's threshold).
        renewal: step sizes at a change of width: "search", "range" (the clip range is kept) or "none".
        grid: candidates of the search, >= 1.
        extreme: "fresh" takes the range just found, "growing" the largest one found so far.
        momentum: of a renewed step size: "reset" or "keep".
        renewal_ratio: renewal of a kind ends when its average is nearer to its target than this share of the initial
            distance; 0 or None: never for this reason.
        renewal_after: epochs before which that does not happen.
        renewal_epochs: renewal ends after this many epochs, whatever the averages; None: no such end.
        learn_epoch: until this epoch (a fraction counts) bits and T stay as they are given, while all else trains.
        freeze_epoch: from this epoch on (a fraction counts) bits and T stay as they are; None: never.
        warm_start: file of weights (.safetensors) to start from; tensors that do not fit are left as built, but step
            sizes that are not in it start from its weights and, as ``start`` says, from the first batch.
        budget: name of `BUDGETS` → limit, a number or a text such as "50M"; None: none. Bits and T are then repaired
            and frozen at freeze_epoch, by default half of the epochs.
        allocator: how bits and T are found under budgets: "gradient" (learned until freeze_epoch, then repaired), or
            "search" (as they are given until then; the allocation with the least sensitivity is searched, also where
            the given one keeps the budgets).
        sensitivity: what a repair and a search keep small: the sum over layers of the quantization "error" over
            signal, or of the measured change of the "loss" when the layer alone is changed.
        sensitivity_samples: validation samples that a loss is measured on, >= 1.
        budget_pull, budget_rate: ρ and η of `Lagrangian`, >= 0; rate None: found from the learning rates of bits and T,
            so that budgets are approached without overshoot (with SGD; 0.1 with AdamW). That needs budget_pull > 0.
        budget_scope: synapses that ace metrics and the bit budget count: "all", "without_first" or "hidden_only".
        budget_input_bits: stored bits of one value of the network's input, 1 to 64.
        budget_margin: share of an NS-ACE or latency budget that a repair leaves free, as spikes move afterwards,
            [0, 0.09].
        times: file of the table that a latency budget needs, read where it is there, else written; None: it is measured
            before the first step, and kept in checkpoints. latency_threads: of the engine at most, 1 to 64.
    """

    refined: bool = False
    learn_steps: bool = False
    windows: int | None = None
    weight_target: float | None = None
    spike_target: float | None = None
    steps_target: float | None = None
    weight_pull: float = 0.01
    spike_pull: float = 0.02
    steps_pull: float = 0.01
    bits_lr: float | None = None
    step_lr: float | None = None
    steps_lr: float | None = None
    start: Literal["batch", "given"] = "batch"
    renewal: Literal["search", "range", "none"] = "search"
    grid: int = 100
    extreme: Literal["fresh", "growing"] = "fresh"
    momentum: Literal["reset", "keep"] = "reset"
    renewal_ratio: float | None = 0.24
    renewal_after: int = 14
    renewal_epochs: int | None = None
    learn_epoch: float = 0.0
    freeze_epoch: float | None = None
    warm_start: str | None = None
    budget: dict[str, object] | None = None
    allocator: Literal["gradient", "search"] = "gradient"
    sensitivity: Literal["error", "loss"] = "error"
    sensitivity_samples: int = 1024
    budget_pull: float = 1.0
    budget_rate: float | None = None
    budget_scope: Literal["all", "without_first", "hidden_only"] = "all"
    budget_input_bits: int = 32
    budget_margin: float = 0.03
    times: str | None = None
    latency_threads: int = 1

    def __post_init__(self) -> None:
        conform(self)
        where = "AllocationConfig"
        single(where, self)
        for key in ("weight_target", "spike_target", "steps_target"):
            if getattr(self, key) is not None:
                at_least(where, key, getattr(self, key), 1)
        for key in ("weight_pull", "spike_pull", "steps_pull", "budget_pull"):
            at_least(where, key, getattr(self, key), 0)
        if self.budget_rate is not None:
            at_least(where, "budget_rate", self.budget_rate, 0)
        elif self.budget is not None:
            positive(where, "budget_pull", self.budget_pull)
        if self.renewal_ratio is None:
            object.__setattr__(self, "renewal_ratio", 0.0)  # TOML has no none
        at_least(where, "renewal_ratio", self.renewal_ratio or 0.0, 0)
        for key in ("bits_lr", "step_lr", "steps_lr"):
            if getattr(self, key) is not None:
                positive(where, key, getattr(self, key))
        at_least(where, "learn_epoch", self.learn_epoch, 0)
        if self.freeze_epoch is not None:
            at_least(where, "freeze_epoch", self.freeze_epoch, 0)
        integer(where, "grid", self.grid, 1, 100_000)
        integer(where, "renewal_after", self.renewal_after, 0, 2**31)
        if self.renewal_epochs is not None:
            integer(where, "renewal_epochs", self.renewal_epochs, 0, 2**31)
        if self.windows is not None:
            integer(where, "windows", self.windows, 1, 10_000)
            if self.refined:
                must = "refined neurons and windows must not be given together"
                raise bad_value(where, must, "both", "drop one: refined is for still samples, windows for sequences")
            if self.learn_steps and self.budget is not None:
                must = "learn_steps must be false where windows stand beside a budget: every layer would run otherwise"
                raise bad_value(where, must, "true", "drop the budget, or give windows and learn the bits alone")
        elif self.learn_steps and not self.refined:
            must, todo = "learned time steps need refined neurons or windows", "set refined = true, or windows = 4"
            raise bad_value(where, must, "neither", todo)
        if self.extreme == "growing" and self.renewal != "search":
            raise bad_value(where, 'extreme "growing" needs a search', self.renewal, 'set renewal = "search"')
        if self.budget is not None:
            object.__setattr__(self, "budget", _limits(where, self.budget))
        integer(where, "sensitivity_samples", self.sensitivity_samples, 1, 2**31)
        if self.budget is None and self.sensitivity == "loss":
            must = "a sensitivity is asked for by a repair or search, which needs a budget"
            raise bad_value(where, must, "none", "give [allocation.budget], or drop the key sensitivity")
        if self.allocator == "search":
            self._check_search(where)
        integer(where, "budget_input_bits", self.budget_input_bits, 1, 64)
        in_range(where, "budget_margin", self.budget_margin, 0, 0.09)
        integer(where, "latency_threads", self.latency_threads, 1, 64)
        if self.times is not None and "latency" not in (self.budget or {}):
            must = "times belong to a latency budget"
            raise bad_value(where, must, repr(self.times), 'give budget.latency, e.g. "0.4ms", or drop the key times')

    def _check_search(self, where: str) -> None:
        if self.budget is None:
            must = 'the allocator "search" needs a budget'
            raise bad_value(where, must, "none", 'give [allocation.budget], e.g. s-ace = "50M"')
        inert = ("weight_target", "spike_target", "steps_target", "bits_lr", "steps_lr", "budget_rate")
        given = [key for key in inert if getattr(self, key) is not None]
        if self.learn_epoch > 0:
            given.append("learn_epoch")
        if given:
            must = 'nothing is learned by gradient with the allocator "search", so keys of that must be left out'
            raise bad_value(where, must, ", ".join(given), "drop them; the search happens at freeze_epoch")

    def first_repair(self, epochs: int) -> float:
        """Epoch at which the allocation is repaired and frozen, where there are budgets."""
        return epochs / 2 if self.freeze_epoch is None else self.freeze_epoch

    def frozen_from(self, epochs: int) -> float:
        """Epoch from which bits and T stay as they are: the end of the run where nothing else is said."""
        if self.budget is not None:
            return self.first_repair(epochs)
        return epochs if self.freeze_epoch is None else self.freeze_epoch

    def learns(self, epoch: float, epochs: int) -> bool:
        """Whether bits and T are learned at a fractional epoch of a run."""
        return self.allocator == "gradient" and self.learn_epoch <= epoch < self.frozen_from(epochs)

    def check(self, epochs: int) -> None:
        """Raise `ValueError` where ``learn_epoch`` leaves a run no time to learn."""
        end = self.frozen_from(epochs)
        if 0 < self.learn_epoch >= end:
            must = f"bits and T must be learned for a while, so learn_epoch < {end:g}"
            raise bad_value("[allocation]", must, f"{self.learn_epoch:g}", "lower learn_epoch or raise freeze_epoch")


def _limits(where: str, given: Mapping[str, object]) -> dict[str, object]:
    if not given:
        raise bad_value(where, "budget must name at least one budget", "an empty table", "leave the key out")
    return dict(parse_limits(where, given))
