"""One training run: recipe and data in, trained network and figures out; exact to resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.averages import Averages
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.times import Times
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value, integer
from bitspike.data import Batches, Samples, Splits, as_splits, draws
from bitspike.layers import (
    Padded,
    Synapse,
    check_numbers,
    lengths_of,
    padded,
    set_noise,
    values_of,
)
from bitspike.ops import Int8, int8, lean
from bitspike.training.budgets import make_budgets
from bitspike.training.build import build_model
from bitspike.training.checkpoint import Checkpoint, Checkpoints
from bitspike.training.distributed import World
from bitspike.training.diverged import DivergedError, reason, sound
from bitspike.training.ema import make_ema
from bitspike.training.evaluation import check_range, scores
from bitspike.training.health import Watch
from bitspike.training.optim import learning_rate, load_optimiser, make_optimiser, optimiser_tensors
from bitspike.training.penalty import SpikePenalty, WithPenalty, total
from bitspike.training.recipe import Recipe
from bitspike.training.start import start_from_ann
from bitspike.training.step_sizes import StepSizes
from bitspike.training.task import training_task
from bitspike.training.timing import Timing, times_in
from bitspike.training.train_config import TrainConfig
from bitspike.training.unequal import check_unequal
from bitspike.training.weights import read_weights

AVERAGES = {"weights": "weight_bits", "spikes": "spike_bits", "steps": "T"}
"""Keys in the history of runs that learn bits or T: rounded averages over the layers that learn them."""

Progress = Callable[[dict[str, Any]], None]
EpochEnd = Callable[[dict[str, Any], nn.Module], None]


@dataclass
class Run:
    """A finished training run.

    Attributes:
        model: the network after the last epoch, in evaluation mode.
        history: one record per epoch: epoch, loss, train_accuracy, validation_accuracy (of numbers: train_error,
            validation_error; of labels: train_subset_accuracy, validation_subset_accuracy; and validation_METRIC where
            the recipe's metric is another one), lr, time_s, health (see `Watch`);
            where bits or T are learned also their averages
            (weight_bits, spike_bits, T) and "allocation", those of every layer by kind.
        best: state of the network after the epoch with the best validation figure (the first of equals); with
            budgets, of the epochs that keep them, or the last one where none does.
        repairs: with budgets, what was done to keep them, see `Budgets`. times: the table of a latency budget.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    best: dict[str, Tensor] = field(default_factory=dict)
    repairs: list[dict[str, Any]] = field(default_factory=list)
    times: Times | None = None


@dataclass
class _Place:
    """Where a run stands: epochs done, steps done in the next one, and the sums of that epoch so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0
    seen: int = 0
    time_s: float = 0.0
    best: float = -math.inf


class _Session:
    """The moving parts of one run; everything that a checkpoint must hold."""

    def __init__(self, recipe: Recipe, splits: Splits, world: World, timing: Timing) -> None:
        self.recipe, self.splits, self.world = recipe, splits, world
        self.task = training_task(recipe.train, splits.train)
        self.task.check(splits.validation)
        self.model = build_model(recipe, splits.train)
        start_from_ann(self.model, recipe, splits.train)
        self.model.to(world.device)
        check_unequal(recipe, self.model, splits.train, world.size)
        config = recipe.allocation or AllocationConfig()
        left = None if config.warm_start is None else warm_start(self.model, config.warm_start)
        self.allocation = Allocation(self.model, config)
        self.unstarted = None if left is None else self.allocation.unstarted(left)
        if recipe.train.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = make_ema(self.model, recipe.train.ema, self.allocation)
        self.averages = None
        if self.allocation.active:
            sample = torch.zeros(1, *splits.train.images.shape[1:], device=world.device)
            self.averages = Averages(self.allocation, sample)
        self.initial = {} if self.averages is None else self.averages.values()
        steps = len(epoch_batches(recipe, splits.train, 0, world))
        self.budgets = make_budgets(recipe, self.allocation, splits, world, steps, timing)
        if self.budgets is not None:
            self.budgets.begin()
        self.optimiser = make_optimiser(self.model, recipe.train, *_own_groups(self.allocation, recipe.train))
        self.step_sizes = StepSizes(self.model)
        regulariser = recipe.regulariser
        penalty = None
        if regulariser.kind != "none":
            options = (regulariser.target, regulariser.per_layer, regulariser.side)
            penalty = SpikePenalty(regulariser.kind, regulariser.weight, *options)
        pressed = self.budgets is not None and config.allocator == "gradient"
        pulls = [self.averages, self.budgets.lagrangian if self.budgets is not None and pressed else None]
        network = world.wrap(WithPenalty(self.model, penalty, total([pull for pull in pulls if pull is not None])))
        self.network = torch.compile(network) if recipe.train.compile else network
        self.place = _Place()
        self.sums = self._sums()
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}

    def _sums(self) -> Tensor:
        """[loss, correct] of the epoch so far, float64 on the device: no step waits for it."""
        return torch.tensor([self.place.loss_sum, self.place.correct], dtype=torch.float64, device=self.world.device)

    def read(self) -> None:
        """Bring the sums to the place; here the host waits for the device."""
        loss_sum, correct = self.sums.tolist()
        self.place.loss_sum, self.place.correct = loss_sum, correct if self.task.regression else int(correct)

    def capture(self) -> Checkpoint:
        """Everything, as tensors and plain facts."""
        self.read()
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= optimiser_tensors(self.optimiser)
        extremes, renews = self.allocation.capture()
        tensors |= {f"allocation.{name}": value for name, value in extremes.items()}
        facts: dict[str, Any] = {"place": asdict(self.place), "history": self.history, "renews": renews}
        if self.budgets is not None:
            multipliers, facts["budgets"] = self.budgets.capture()
            tensors |= {f"budgets.{name}": value for name, value in multipliers.items()}
        if self.ema is not None:
            tensors |= {f"ema.{name}": value for name, value in self.ema.tensors.items()}
            facts["ema"] = self.ema.steps
        return Checkpoint(tensors, facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """The inverse of `capture`."""
        parts: dict[str, dict[str, Tensor]] = {
            part: {} for part in ("model", "best", "optimiser", "allocation", "budgets", "ema")
        }
        for name, value in checkpoint.tensors.items():
            part, _, rest = name.partition(".")
            if part in parts:
                parts[part][name if part == "optimiser" else rest] = value
        self.model.load_state_dict(parts["model"])
        load_optimiser(self.optimiser, parts["optimiser"])
        self.best = parts["best"]
        self.place = _Place(**checkpoint.facts["place"])
        self.sums = self._sums()
        self.history = checkpoint.facts["history"]
        if "renews" in checkpoint.facts:  # not in checkpoints of older versions
            extremes = {name: value.to(self.world.device) for name, value in parts["allocation"].items()}
            self.allocation.restore(extremes, checkpoint.facts["renews"])
        if self.budgets is not None:
            self.budgets.restore(parts["budgets"], checkpoint.facts["budgets"])
        if self.ema is not None:
            self.ema.restore(parts["ema"], checkpoint.facts["ema"])

    def step(self, batch: Tensor | Padded, labels: Tensor, share: float) -> None:
        """One optimiser step at a fractional position of the epoch.

        The host does not wait for the device, unless the network learns bits or time steps, which it has to know.
        """
        config, place = self.recipe.train, self.place
        x, lengths = values_of(batch), lengths_of(batch)
        key = self.recipe.seed, draws.STEP, place.epoch, place.step, self.world.rank
        torch.manual_seed(int(draws.keyed(1, *key)[0]))  # of dropout and the like, so that no state is to be kept
        rate = learning_rate(config, place.epoch + share)
        learns = self.allocation.config.learns(place.epoch + share, config.epochs)
        for group in self.optimiser.param_groups:
            still = not learns and group.get("name") in ("bits", "steps")
            group["lr"] = 0.0 if still else rate * group.get("share", 1.0)
        if config.channels_last:
            x = channels_last(x)
        cast = partial(torch.autocast, x.device.type, torch.bfloat16, enabled=config.precision == "bf16")
        if place.epoch == place.step == 0:
            with cast():
                self.allocation.start(x, self.unstarted)
        if self.budgets is not None and self.budgets.due(place.epoch + share):
            self.budgets.repair(place.epoch + share, x, self.optimiser)
        integer = int8() if config.forward == "int8" else nullcontext()
        with lean() if config.memory == "lean" else nullcontext(), integer as record, cast(), padded(lengths):
            output, penalty = self.network(x, *self._penalty_share(place.epoch + share))
        if record is not None and place.epoch == place.step == 0:
            _check_taken(record)
        output = output.float() if output.dtype == torch.bfloat16 else output
        loss = self.task.loss(config, output, labels, lengths)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + penalty).backward()
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        with self.step_sizes.held(self.optimiser):
            self.optimiser.step()
        with cast():
            self.allocation.settle(x, self.optimiser)
        if self.budgets is not None and learns:
            self.budgets.settle(self.optimiser)
        if self.ema is not None:
            self.ema.update()
        right = self.task.tally(output.detach(), labels, lengths)
        self.sums = self.sums + torch.stack([loss.detach().double() * len(labels), right])
        place.seen += len(labels)
        place.step += 1

    def _penalty_share(self, epoch: float) -> tuple[Tensor, ...]:
        """How much of the spikes' penalty counts, as a tensor, so that compiled code stays; nothing for all of it."""
        warmup = self.recipe.regulariser.warmup_epochs
        return (torch.full((), epoch / warmup, device=self.world.device),) if epoch < warmup else ()

    def diverged(self, seen: str, x: Tensor | Padded) -> DivergedError:
        """The error that ends the run: what was seen, and where it comes from."""
        x = values_of(x)
        cast = torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.train.precision == "bf16")
        finding = f"{seen.removesuffix('.')} ({reason(self.model, x, cast, self.world.size == 1)})"
        return DivergedError(finding, self.place.epoch + 1, self.place.step, self.history, self.best, self.task)

    def close_epoch(self, x: Tensor | Padded, then: EpochEnd | None = None) -> dict[str, Any]:
        """Validate, record, keep the best weights, move to the next epoch; x is the last batch.

        What is validated and kept is the average of the weights, where there is one.
        """
        with nullcontext() if self.ema is None else self.ema.used():
            record = self._close_epoch(x)
            if then is not None:
                then(record, self.model)
            return record

    def _close_epoch(self, x: Tensor | Padded) -> dict[str, Any]:
        self.read()
        place = self.place
        loss_sum, correct, seen = self.world.total(place.loss_sum, place.correct, place.seen)
        watch = Watch(self.model)
        try:
            with watch.watching():
                batch, names = self.recipe.data.eval_batch_size, (self.task.measure, self.task.running)
                figures = scores(self.model, self.splits.validation, batch, self.task, names)
        except ValueError as error:
            raise self.diverged(str(error), x) from error
        record: dict[str, Any] = {
            "epoch": place.epoch + 1,
            "loss": loss_sum / seen,
            f"train_{self.task.running}": self.task.figure(correct, int(seen)),
            **{f"validation_{name}": figure for name, figure in figures.items()},
            "lr": self.optimiser.param_groups[0]["lr"],
            "time_s": place.time_s,
            "health": watch.report(),
        }
        if self.averages is not None:
            averages = self.averages.values()
            record |= {AVERAGES[kind]: value for kind, value in averages.items()}
            record["allocation"] = self.allocation.in_use()
            self.allocation.close_epoch(place.epoch + 1, averages, self.initial)
        if self.budgets is not None:
            record |= self.budgets.close_epoch()
        self.history.append(record)
        quality = self.task.quality(figures[self.task.measure])
        if quality > place.best and counts(record):
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            place.best = quality
        self.place = _Place(epoch=place.epoch + 1, best=place.best)
        self.sums = self._sums()
        return record


def fit(
    recipe: Recipe,
    splits: Splits | Mapping[str, Iterable[Any]] | Iterable[Any],
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_steps: int = 200,
    world: World | None = None,
    times: Times | None = None,
    epoch_end: EpochEnd | None = None,
) -> Run:
    """Train on the train split; the validation split is read after every epoch, the test split never.

    What is drawn follows from the recipe's seed: an encoder's noise from (seed, epoch) and the sample's values, in any
    batch; what torch itself draws (dropout) from (seed, epoch, step, rank).

    With ``checkpoints`` the run continues from the newest whole one, exactly as if it had not been cut (bit for bit on
    the CPU with the same number of threads), and saves itself every ``checkpoint_steps`` steps and after every epoch.

    Args:
        recipe: everything that decides the result. splits: the data; or (train, validation) or (train, validation,
            test), or one, of any iterables of (x, y), which are read once: see `bitspike.data.gather`.
        progress: called after every logging interval and epoch with the figures so far.
        checkpoints: where to save and resume; None for neither. checkpoint_steps: steps between two of them.
        world: the processes that train together (`bitspike.training.distributed.world`); default this one, on the
            CPU. Each takes its share of every batch; the first one writes.
        times: table for a latency budget, where it is there already; that of a checkpoint comes before it.
        epoch_end: called with the record and the validated network, before the epoch's checkpoint.

    Returns:
        `Run`: the network after the last epoch (evaluation mode), the history, the best weights, repairs of budgets.

    Raises:
        DivergedError: a `ValueError`: loss or weights are NaN or inf at a logging interval, or the logits after an
            epoch; names the place and has the history and the best weights so far.
        ValueError: a bad recipe, pixels outside the range that the encoder reads, or checkpoints that cannot be used.
    """
    integer("fit", "checkpoint_steps", checkpoint_steps, 1, 2**31 - 1)
    config = recipe.train
    torch.set_num_threads(config.threads)
    world = World() if world is None else world
    splits = as_splits(splits, recipe.data.validation, recipe.data.time, recipe.data.top)
    splits = replace(
        splits, **{part: getattr(splits, part).to(world.device) for part in ("train", "validation", "test")}
    )
    saved = checkpoints.load() if checkpoints else None
    session = _Session(recipe, splits, world, Timing(times_in(saved) or times, progress if world.writes else None))
    check_range("fit", session.model, splits.train)
    if saved:
        session.restore(saved)
    with _own_draws(session.model, world.device):
        while session.place.epoch < config.epochs:
            session.model.train()
            set_noise(session.model, recipe.seed, session.place.epoch)
            batches = epoch_batches(recipe, splits.train, session.place.epoch, world)
            started = time.perf_counter() - session.place.time_s
            for index, (x, labels) in enumerate(batches):
                if index < session.place.step:
                    continue
                try:
                    session.step(x, labels, index / len(batches))
                except ValueError as error:
                    if sound(session.model):
                        raise
                    session.place.step = index + 1
                    raise session.diverged(str(error), x) from error
                last = index + 1 == len(batches)
                logs = (index + 1) % config.log_every == 0 or last
                if logs:
                    session.read()
                session.place.time_s = time.perf_counter() - started
                if logs:
                    loss_sum, seen = world.total(session.place.loss_sum, session.place.seen)
                    if not math.isfinite(loss_sum):
                        raise session.diverged(f"a loss of {loss_sum}", x)
                    if not sound(session.model):
                        raise session.diverged(f"a loss of {loss_sum / seen:.6g} and others", x)
                    if progress and world.writes:
                        share = (index + 1) / len(batches)
                        progress(
                            {"epoch": session.place.epoch + share, "epochs": config.epochs, "loss": loss_sum / seen}
                        )
                saves = checkpoints and world.writes and (index + 1) % checkpoint_steps == 0 and not last
                if checkpoints and saves and sound(session.model):  # else the next log line ends the run, for all
                    checkpoints.save(session.capture())
            record = session.close_epoch(x, epoch_end if world.writes else None)
            if checkpoints and world.writes:
                checkpoints.save(session.capture())
            if progress and world.writes:
                progress({**record, "epochs": config.epochs})
    if session.ema is not None:
        session.ema.put()
    best = session.best or {name: value.detach().clone() for name, value in session.model.state_dict().items()}
    budgets = session.budgets
    repairs = [] if budgets is None else budgets.records
    known = None if budgets is None or budgets.stopwatch is None else budgets.stopwatch.times
    return Run(session.model.eval(), session.history, best, repairs, known)


def channels_last(x: Tensor) -> Tensor:
    """Images [B, C, H, W] in channels-last order; frames [B, T, C, H, W] so that every step is, the steps outermost."""
    if x.dim() not in (4, 5):
        must = "channels_last must be false where samples are no images"
        raise bad_value("[train]", must, f"samples {list(x.shape[1:])}", "set train.channels_last=false")
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.permute(1, 0, 3, 4, 2).contiguous().permute(1, 0, 4, 2, 3)


def counts(record: dict[str, float]) -> bool:
    """Whether an epoch may be the best one: with budgets, only one that keeps them."""
    return bool(record.get("within_budgets", True))


@contextmanager
def _own_draws(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block torch's generators are the run's; after it they and the network's noise are as they were."""
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        set_noise(model)


def epoch_batches(recipe: Recipe, data: Samples, epoch: int, world: World) -> Batches:
    """The training batches of one epoch, this process's share of each."""
    config = recipe.data
    given = {name: getattr(config, name) for name in ("augment", "pad", "hole", "policy")}
    return Batches(
        data,
        config.batch_size,
        shuffle=True,
        seed=recipe.seed,
        epoch=epoch,
        moves=config.event_augment or config.sound_augment,
        drop_last=len(data) > config.batch_size,
        rank=world.rank,
        world=world.size,
        mixing=recipe.train.mixing,
        **given,
    )


def _own_groups(allocation: Allocation, config: TrainConfig) -> list[dict[str, tuple[list[nn.Parameter], float]]]:
    """The further argument of `make_optimiser`; none where a network learns no bits and no T."""
    if not allocation.active:
        return []
    given = allocation.config
    rates = {"bits": given.bits_lr, "step": given.step_lr, "steps": given.steps_lr or config.lr / 10}
    return [{kind: (found, rates[kind] or config.lr) for kind, found in allocation.groups().items()}]


def warm_start(model: nn.Module, path: str) -> list[str]:
    """Load the tensors of a file that fit the network; names of the network's tensors that are left as they are.

    Quantizers of loaded weights that have nothing in the file start from these weights.

    Raises:
        ValueError: nothing fits, the file is no whole .safetensors, or it holds NaN or inf. OSError: it cannot be read.
    """
    given = read_weights(Path(path), "take another file")
    own = model.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise bad_value(
            "warm_start", f"tensors of {path} must fit the network", "none", "use weights of a like network"
        )
    model.load_state_dict(fitting, strict=False)
    for name, module in model.named_modules():
        if isinstance(module, Synapse) and f"{name}.weight" in fitting:
            inside = [f"{name}.quantizer.{part}" for part, _ in module.quantizer.named_parameters()]
            if inside and not fitting.keys() & set(inside):
                module.quantizer.initialise(module.weight.detach())
    left = sorted(own.keys() - fitting.keys())
    unused = sorted(name for name in given.keys() - own.keys() if not name.endswith((".raw_bits", ".raw_steps")))
    if unused:
        warnings.warn(f"warm_start: of {path} but without a place here: {', '.join(unused)}.", stacklevel=2)
    if left:
        warnings.warn(f"warm_start: not in {path} and left as built: {', '.join(left)}.", stacklevel=2)
    check_numbers(f"warm_start {path}", model)
    return left


def _check_taken(record: Int8) -> None:
    if not record.taken:
        warnings.warn(f"train.forward = 'int8' changes nothing here. {record.report()}.", stacklevel=2)


def load_weights(model: nn.Module, tensors: dict[str, Any], where: str = "load_weights") -> None:
    """Load a state dict strictly; raises `ValueError` naming the first key that does not fit or is not finite."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        wrong = _misfits(model.state_dict(), tensors) or [str(error)]
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        must, todo = "the weights must fit the network", "use the recipe or builder they come from"
        raise bad_value(where, must, wrong[0] + more, todo) from error
    check_numbers(where, model)


def _misfits(own: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """What keeps a state dict from being loaded, a phrase a tensor."""
    shapes = {name: (list(own[name].shape), list(given[name].shape)) for name in own if name in given}
    return [
        *(f"no {name}" for name in own if name not in given),
        *(f"{name}, which it has not" for name in given if name not in own),
        *(f"{name} {theirs} for {ours}" for name, (ours, theirs) in shapes.items() if ours != theirs),
    ]
