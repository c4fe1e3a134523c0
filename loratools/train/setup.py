"""Setting up a run: all of its parts, built and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loratools.adapter.algebra.rank import Fixed, parse_rank
from loratools.adapter.algebra.shapes import limit
from loratools.base.load import load_base, pick_device
from loratools.base.model import Base
from loratools.base.vae import use_vae
from loratools.errors import RankError, TrainingError, UnavailableError
from loratools.train.callbacks.sample_prompts import SampleRequest, read_sample_prompts
from loratools.train.callbacks.tensorboard import check_tensorboard
from loratools.train.config.config import TrainConfig
from loratools.train.config.full import file_kind
from loratools.train.data.dataset import Dataset
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks
from loratools.train.dry_run.advice import disk_room
from loratools.train.dry_run.check import mistakes
from loratools.train.dry_run.full_cost import cheaper, check_disk, check_room, full_cost
from loratools.train.dry_run.report import DryRun, make_dry_run, with_whole_epochs
from loratools.train.network.base_adapters import BaseAdapters
from loratools.train.network.ema import Ema
from loratools.train.network.full import FullWeights, exact_weights, named_parameters, trained_factors
from loratools.train.network.network import Network
from loratools.train.network.start_weights import refuse_coarse
from loratools.train.network.trained_weights import TrainedWeights
from loratools.train.optim.optimizers import build_optimizer, has_modes
from loratools.train.optim.param_groups import parameter_groups
from loratools.train.optim.trainable import Trainable
from loratools.train.step.objective import NoiseSchedule, noise_schedule, prediction_note, trained_scheduler
from loratools.train.step.placement import cast_and_move
from loratools.train.step.precision import Precision, pick_precision


@dataclass(frozen=True)
class RunParts:
    """What a run is made of.

    Attributes:
        config: with the number of epochs that ``max_steps`` comes to.
        base: on the run's device, in the precision that it is trained in, with ``base_adapters`` merged into it.
        samples: the pictures that the run draws of itself.
        dry_run: what the run will do.
    """

    config: TrainConfig
    ranks: Ranks
    precision: Precision
    base: Base
    base_adapters: BaseAdapters
    dataset: Dataset
    samples: tuple[SampleRequest, ...]
    schedule: NoiseSchedule
    trained: Trainable
    dry_run: DryRun


def setup_run(config: TrainConfig, ranks: Ranks = Ranks(), notes: Sequence[str] = ()) -> RunParts:  # noqa: B008  (frozen)
    """Every part of the run of ``config``, checked.

    Args:
        notes: what a person should know of the config's file.
    Raises:
        LoratoolsError: for everything that can be wrong before the first step.
    """
    precision = check_settings(config)  # before the base is loaded, which takes a while
    dataset = read_dataset(config, config.resolution or (512, 512))
    base = setup_base(config)
    config, dataset = with_whole_epochs(config, at_base_resolution(dataset, config, base))
    check_base(config, base, ranks, precision)
    samples, of_samples = setup_samples(config, base)
    base_adapters = BaseAdapters(config.base_adapters, base)
    base_adapters.merge()
    exact = exact_weights(base) if config.is_full else {}
    cast_and_move(base, precision)
    schedule = noise_schedule(base.scheduler_config, config).to(precision.device)
    trained = setup_trainable(config, base, precision, exact)
    exact.clear()
    dry_run = make_dry_run(
        config, base, dataset, trained.network.sizes, precision.compute.itemsize, (*notes, *base.notes, *of_samples)
    )
    if dry_run.full is not None and ranks.main:
        check_disk(config, dry_run.full, disk_room(config))
    return RunParts(
        config=config,
        ranks=ranks,
        precision=precision,
        base=base,
        base_adapters=base_adapters,
        dataset=dataset,
        samples=samples,
        schedule=schedule,
        trained=trained,
        dry_run=dry_run,
    )


def check_run(config: TrainConfig, ranks: Ranks) -> None:
    """Raise what :func:`setup_run` would raise of the settings, the machine and the base, for whoever has long work to
    do before it."""
    precision = check_settings(config)
    base = setup_base(config)
    check_base(config, base, ranks, precision)
    setup_samples(config, base)


def check_settings(config: TrainConfig) -> Precision:
    """What is computed in; nothing is loaded.

    Raises:
        LoratoolsError: for a mistake in the settings, and for a package or a device that is not there.
    """
    for _, mistake in mistakes(config, None):
        raise mistake
    precision = pick_precision(config, pick_device(config.device))
    check_tensorboard(config)
    return precision


def check_base(config: TrainConfig, base: Base, ranks: Ranks, precision: Precision) -> None:
    """Raise LoratoolsError if the settings do not fit the base, or a full training of it not the device."""
    check_clip_skip(config, base)
    check_full(config, base, ranks)
    check_fits(config, base, precision)


@dataclass(frozen=True)
class Machine:
    """The machine that a plan is made on.

    Attributes:
        precision: the config's, on the device that it asks for, or on the CPU where this machine lacks that.
        packages: a sentence for each package that the settings need and that this machine lacks.
        devices: the same of devices.
    """

    precision: Precision
    packages: tuple[str, ...]
    devices: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is lacking, for a plan of the run."""
        return tuple(f"it cannot be trained here: {lack}" for lack in (*self.packages, *self.devices))


def plan_machine(config: TrainConfig) -> Machine:
    """What this machine has and lacks of what the run needs.

    Raises:
        LoratoolsError: for a mistake in the settings, on whatever machine.
    """
    packages, devices = list[str](), list[str]()
    for _, mistake in mistakes(config, None):
        if not isinstance(mistake, UnavailableError):
            raise mistake
        packages.append(str(mistake))
    device = torch.device("cpu")
    precision = Precision(config.mixed_precision or "no", device)
    try:
        check_tensorboard(config)
    except UnavailableError as error:
        packages.append(str(error))
    try:
        device = pick_device(config.device)
        precision = pick_precision(config, device)
    except UnavailableError as error:
        devices.append(str(error))
    return Machine(precision, tuple(packages), tuple(devices))


def plan_run(config: TrainConfig, notes: Sequence[str] = ()) -> DryRun:
    """What the run of ``config`` will do. Nothing is moved to a device, so that a machine that lacks the run's GPU, or
    its optimiser's package, can plan it: what it lacks is a warning.

    Args:
        notes: what a person should know of the config's file.
    Raises:
        LoratoolsError: for everything that can be wrong with the settings, the base and the images.
    """
    machine = plan_machine(config)
    dataset = read_dataset(config, config.resolution or (512, 512))
    base = setup_base(config)
    config, dataset = with_whole_epochs(config, at_base_resolution(dataset, config, base))
    check_clip_skip(config, base)
    _, of_samples = setup_samples(config, base)
    BaseAdapters(config.base_adapters, base).merge()
    noise_schedule(base.scheduler_config, config)
    check_full(config, base, Ranks())
    network = setup_network(config, base)
    if not machine.packages:
        setup_ema(config, network, build_optimizer(config, parameter_groups(network, config)))
    if config.prior is not None:
        notes = (
            *notes,
            f"prior: {config.prior.count} pictures are drawn by the base before the first step, and an epoch "
            "then shows as many of them as of yours, so that it has about twice the steps that are said here",
        )
    computed = machine.precision.compute.itemsize
    report = make_dry_run(config, base, dataset, network.sizes, computed, (*notes, *base.notes, *of_samples))
    return replace(report, warnings=(*machine.warnings, *report.warnings))


def setup_base(config: TrainConfig) -> Base:
    """The base on the CPU, with the config's own VAE and what the config says that it predicts.

    It is in full precision, for the VAE, and so not on the GPU before the rest has been cast.
    """
    base = load_base(config.base, device="cpu", dtype="fp32", offline=config.offline)
    if config.vae is not None:
        use_vae(base, config.vae, offline=config.offline)
    note = prediction_note(base.prediction, config)
    base.notes = (note,) if note else ()
    base.scheduler_config = trained_scheduler(base.scheduler_config, config)
    return base


def at_base_resolution(dataset: Dataset, config: TrainConfig, base: Base) -> Dataset:
    """``dataset`` at the resolution of ``base``, unless the config has one."""
    height, width = base.resolution
    return dataset if config.resolution else dataset.at(config, (width, height))


def check_clip_skip(config: TrainConfig, base: Base) -> None:
    """Raise TrainingError if the text encoder has fewer layers than ``clip_skip``."""
    layers: int = min(encoder.config.num_hidden_layers for encoder in base.text_encoders)
    if config.clip_skip > layers:
        raise TrainingError(f"clip_skip {config.clip_skip} is above the {layers} layers of the base's text encoder")


def setup_samples(config: TrainConfig, base: Base) -> tuple[tuple[SampleRequest, ...], tuple[str, ...]]:
    """The samples to draw, and a note on each option of theirs that has no effect."""
    notes: list[str] = []
    samples = read_sample_prompts(config, base, notes)
    return tuple(samples), tuple(notes)


def setup_trainable(
    config: TrainConfig, base: Base, precision: Precision, exact: Mapping[str, Tensor] | None = None
) -> Trainable:
    """What is trained, its optimiser, the loss scaling, and the average if the config asks for one.

    Args:
        exact: of a full training, the base's weights before they were cast; those of ``base`` if None.
    """
    network = setup_network(config, base, exact)
    optimizer = build_optimizer(config, parameter_groups(network, config))
    return Trainable(network, optimizer, precision.scaler(), setup_ema(config, network, optimizer))


def setup_network(config: TrainConfig, base: Base, exact: Mapping[str, Tensor] | None = None) -> TrainedWeights:
    """Of every component whose learning rate is above 0 the layers, or for a full training the weights; not attached.

    Args:
        exact: as for :func:`setup_trainable`.
    """
    if config.is_full:
        return FullWeights(base, config, exact_weights(base) if exact is None else exact)
    rates = config.component_rates()
    return Network(
        base,
        config.dim,
        config.alpha,
        config.seed,
        unet=rates["unet"] > 0,
        text=rates["text_encoder"] > 0,
        text_2=rates["text_encoder_2"] > 0,
        options=config,
    )


def check_full(config: TrainConfig, base: Base, ranks: Ranks) -> None:
    """What only the base, or the number of processes, says of a full training's settings.

    Raises:
        BaseModelError: if the base's weights are too coarse to train.
        RankError: for files that are to be LoRAs of a higher rank than any of its matrices has.
        TrainingError: for a step within the backward pass on several processes.
    """
    if not config.is_full:
        return
    refuse_coarse(config.base, offline=config.offline)
    highest = max(limit(tuple(each.shape)) for _, each in named_parameters(base) if each.dim() > 1)
    for setting in ("save", "save_end"):
        kind = file_kind(getattr(config, setting) or "delta")
        rule = parse_rank(kind.rank) if kind.kind == "lora" else None
        if isinstance(rule, Fixed) and rule.rank > highest:
            raise RankError(f"{setting}: lora:{rule.rank} is above what any matrix can have, {highest}; ask for less")
    if config.fused_backward_pass == "on" and ranks.world > 1:
        raise TrainingError(
            "fused_backward_pass: on drops gradients before several processes can add theirs; set it to auto or off"
        )


def check_fits(config: TrainConfig, base: Base, precision: Precision) -> None:
    """Raise TrainingError if the weights, gradients and states of a full training are more than the device has."""
    if not config.is_full:
        return
    parameters = dict(named_parameters(base))
    trained = sum(parameters[name].numel() for name in trained_factors(base, config))
    cost = full_cost(config, base, trained, 0, precision.compute.itemsize, 1)
    check_room(config, cost, precision.device, cheaper(config, base, trained, 0, 1))


def setup_ema(config: TrainConfig, network: TrainedWeights, optimizer: torch.optim.Optimizer) -> Ema | None:
    """The average that ``ema`` asks for.

    Raises:
        TrainingError: for a schedule-free optimiser, which has an average of its own.
    """
    if config.ema is None:
        return None
    if has_modes(optimizer):
        raise TrainingError(f"{type(optimizer).__name__} saves an average of its own; leave ema out")
    return Ema([network.held(each) for group in optimizer.param_groups for each in group["params"]], config.ema)
