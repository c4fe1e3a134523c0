"""Settings of the network: which modules get a branch of which rank, what is dropped, and what it starts from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from loratools.train.config.optimizer import steps_or_share
from loratools.validation import conflict

Rank = Annotated[int, Field(ge=1)]
MOST_RANK = 4096  # but for LoKr, of which a rank that no matrix has asks for whole matrices
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Dropped = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# by block: ``{IN: 8, OUT03-OUT05: 32, M00/attn: 16}``, or one number a block in a scheme's order
ByBlock = str | None

# what only adapter layers have
OF_ADAPTERS = (
    "conv_dim",
    "conv_alpha",
    "block_dims",
    "block_alphas",
    "conv_block_dims",
    "conv_block_alphas",
    "network_dropout",
    "rank_dropout",
    "module_dropout",
    "dora",
    "rslora",
    "loraplus_lr_ratio",
    "loraplus_unet_lr_ratio",
    "loraplus_text_encoder_lr_ratio",
    "scale_weight_norms",
    "network_weights",
    "dim_from_weights",
    "base_adapters",
)


class NetworkConfig(BaseModel):
    """What is trained, beside ``dim`` and ``alpha``, which every module has where nothing else is said.

    With ``conv_dim`` the residual blocks' and samplers' linear modules and 1x1 convolutions are trained at ``dim`` too.
    By block is by name, group, range or elemental rule (see docs/blocks.md); ``BASE`` is the text encoders.
    """

    network_type: Literal["lora", "loha", "lokr", "full"] = Field(
        default="lora",
        description="lora, or LyCORIS' loha (elementwise product of two) and lokr (Kronecker product); full: all "
        "weights are trained",
    )
    lokr_factor: Annotated[int, Field(ge=-1, le=4096)] = Field(
        default=-1, description="greatest size of the smaller of LoKr's two matrices; -1: as square as can be"
    )
    conv_dim: Rank | None = Field(
        default=None, description="rank of the 3x3 convolutions, which are trained too (LoCon) if it is given"
    )
    conv_alpha: Alpha | None = Field(
        default=None, description="alpha of the 3x3 convolutions; each one's rank if left out"
    )
    block_dims: ByBlock = Field(
        default=None,
        description="ranks by block, `{IN: 8, OUT03-OUT05: 64}`, or numbers in a scheme's order; 0: untrained",
    )
    block_alphas: ByBlock = Field(default=None, description="alphas by block, written as `block_dims`")
    conv_block_dims: ByBlock = Field(
        default=None, description="ranks of 3x3 convolutions by block, written as `block_dims`"
    )
    conv_block_alphas: ByBlock = Field(
        default=None, description="alphas of 3x3 convolutions by block, written as `block_dims`"
    )
    block_lr: ByBlock = Field(
        default=None,
        description="factors on the learning rate by block, or a preset such as GP1; 0 leaves a block untrained",
    )
    network_dropout: Dropped = Field(default=0.0, description="chance of leaving out an inner activation")
    rank_dropout: Dropped = Field(default=0.0, description="chance of leaving out a rank of a sample")
    module_dropout: Dropped = Field(default=0.0, description="chance of leaving out a module of a step")
    dora: bool = Field(
        default=False, description="magnitude and direction apart (2402.09353); such a file needs its base to be merged"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(dim) (2312.03732), folded into the file")
    loraplus_lr_ratio: Ratio | None = Field(
        default=None, description="LoRA+ (2402.12354): factor on the learning rate of every `up`; 16 is the paper's"
    )
    loraplus_unet_lr_ratio: Ratio | None = Field(
        default=None, description="the same of the UNet alone; `loraplus_lr_ratio` if left out"
    )
    loraplus_text_encoder_lr_ratio: Ratio | None = Field(
        default=None, description="the same of the text encoder alone; `loraplus_lr_ratio` if left out"
    )
    scale_weight_norms: Ratio | None = Field(
        default=None, description="greatest norm of a module's difference, kept after every step"
    )
    network_weights: Path | None = Field(
        default=None, description="a LoRA to start from, of these ranks or smaller ones"
    )
    dim_from_weights: bool = Field(default=False, description="take modules, ranks and alphas from `network_weights`")
    base_adapters: tuple[str, ...] = Field(
        default=(),
        description="merge terms that are part of the base while training, so that only the difference is learnt",
    )
    stop_text_encoder_training: Annotated[float, BeforeValidator(steps_or_share)] | None = Field(
        default=None, description="steps (400) or a share of all (0.4, 40%) after which the text encoder stays as it is"
    )
    max_token_length: Literal[75, 150, 225] = Field(
        default=75, description="150, 225: long captions in two or three pieces of 75 tokens"
    )
    weighted_captions: bool = Field(
        default=False, description="(word:1.2), (word) and [word] in captions are weights of their tokens"
    )

    @field_validator("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "block_lr", mode="before")
    @classmethod
    def _as_vector(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return ",".join(f"{name}={number}" for name, number in value.items())
        if isinstance(value, (list, tuple)):
            return ",".join(str(number) for number in value)
        return value

    @field_validator("base_adapters", mode="before")
    @classmethod
    def _terms(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _network_is_consistent(self) -> NetworkConfig:
        if self.conv_alpha is not None and not self.trains_convolutions:
            raise conflict("conv_alpha", "conv_alpha is given without conv_dim; give both, or leave it out")
        if self.conv_block_alphas is not None and not self.trains_convolutions:
            raise conflict(
                "conv_block_alphas",
                "conv_block_alphas is given without conv_dim or conv_block_dims; give one of them too",
            )
        if self.dora and self.module_dropout:
            raise conflict(
                "module_dropout",
                "module_dropout cannot be used with dora, whose magnitude would stay; use rank_dropout",
            )
        self.check_rank("conv_dim", self.conv_dim)
        if self.network_type == "full":
            self._check_full()
        elif self.network_type != "lora":
            self._check_other_type()
        if self.lokr_factor == 0 or (self.lokr_factor != -1 and self.network_type != "lokr"):
            raise conflict(
                "lokr_factor", "lokr_factor is for network_type lokr, and 1 or more (-1: as square as can be)"
            )
        if self.dim_from_weights and self.network_weights is None:
            raise conflict(
                "dim_from_weights", "dim_from_weights needs network_weights, the file to take the ranks from"
            )
        own = [
            name
            for name in ("conv_dim", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
            if getattr(self, name) is not None
        ]
        if self.dim_from_weights and own:
            raise conflict(own[0], f"{own[0]} and dim_from_weights both say how large the network is; leave one out")
        return self

    def check_rank(self, setting: str, rank: int | None) -> None:
        """Raise a mistake at ``setting`` for a rank that no network of this type has."""
        if rank is not None and rank > MOST_RANK and self.network_type != "lokr":
            whole = "only LoKr takes more, which stands for whole matrices there"
            raise conflict(setting, f"it must be {MOST_RANK} or less (it is {rank}); {whole}")

    def _check_full(self) -> None:
        """What is said of adapter layers has no meaning where there are none."""
        fields = NetworkConfig.model_fields
        if given := [name for name in OF_ADAPTERS if getattr(self, name) != fields[name].default]:
            more = {
                "base_adapters": "add them to the base first, with `loratools merge ... --into BASE`",
                "network_weights": "a full training begins from a checkpoint, which is its base",
            }
            raise conflict(
                given[0], f"{given[0]} is for a LoRA; {more.get(given[0], 'leave it out of a full training')}"
            )

    def _check_other_type(self) -> None:
        """What is said of two factors has no meaning for more of them."""
        unfit = (
            "dora",
            "network_dropout",
            "rank_dropout",
            "loraplus_lr_ratio",
            "loraplus_unet_lr_ratio",
            "loraplus_text_encoder_lr_ratio",
            "network_weights",
        )
        if given := [name for name in unfit if getattr(self, name)]:
            raise conflict(given[0], f"{given[0]} is for network_type lora; leave it out of a {self.network_type}")

    @property
    def trains_convolutions(self) -> bool:
        """Whether the residual blocks and samplers are trained too."""
        return self.conv_dim is not None or self.conv_block_dims is not None

    @property
    def drops(self) -> bool:
        """Whether anything is left out at random while training."""
        return max(self.network_dropout, self.rank_dropout, self.module_dropout) > 0

    def plus_ratio(self, component: str) -> float:
        """LoRA+'s factor on the learning rate of ``up`` in ``unet`` or a text encoder; 1 where there is none."""
        own = self.loraplus_unet_lr_ratio if component == "unet" else self.loraplus_text_encoder_lr_ratio
        return own or self.loraplus_lr_ratio or 1.0

    def text_stops_at(self, steps: int) -> int | None:
        """The step from which the text encoder stays as it is, of ``steps`` in all; None for never."""
        limit = self.stop_text_encoder_training
        if limit is None:
            return None
        return round(limit * steps) if limit < 1 else math.floor(limit)

    def network_args(self) -> dict[str, str]:
        """What differs from a plain network, by sd-scripts' names where it has one, as its ``ss_network_args``."""
        names = ("conv_dim", "conv_alpha", "block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas",
                 "block_lr", "rank_dropout", "module_dropout", "dora", "rslora", "loraplus_lr_ratio",
                 "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")  # fmt: skip
        fields = type(self).model_fields
        plain = self.network_type in ("lora", "full")
        algorithm = {} if plain else {"algo": self.network_type, "factor": str(self.lokr_factor)}
        return algorithm | {
            name: str(getattr(self, name)) for name in names if getattr(self, name) != fields[name].default
        }
