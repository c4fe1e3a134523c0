"""Every number of the build in one place; the model card prints them."""

from __future__ import annotations

from dataclasses import dataclass, field

from loratools.pocket.architecture import Widths


@dataclass(frozen=True)
class Training:
    """One stage's optimisation: AdamW, linear warm-up, cosine to ``floor`` of the rate, clipped, averaged."""

    steps: int
    batch: int
    rate: float
    warmup: int = 200
    floor: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.999


@dataclass(frozen=True)
class Settings:
    """Sizes of the drawn sets and of the stages; ``seed`` makes them all reproducible."""

    seed: int = 7
    widths: Widths = field(default_factory=Widths)
    base_pictures: int = 57344  # house and minor styles, sound: what the base model learns
    codec_pictures: int = 20480  # the same, and two fifths of every style and defect, for the autoencoder
    judge_pictures: int = 40960  # every style and defect, for the judge
    held_out: int = 2048  # of the judge's pictures, never trained on
    minor_share: float = 0.15
    captions: int = 4
    crops: Training = field(default_factory=lambda: Training(24000, 64, 1e-3, floor=0.35, average=0.998))
    autoencoder: Training = field(default_factory=lambda: Training(6000, 40, 4e-4, warmup=50, average=0.998))
    diffusion: Training = field(default_factory=lambda: Training(9000, 320, 6e-4, warmup=300))
    judge: Training = field(default_factory=lambda: Training(5000, 256, 1.5e-3, decay=0.05, average=0.998))


FULL = Settings()
DRY = Settings(  # every line of the build in a minute on a CPU; makes no usable model
    widths=Widths(
        unet=(16, 16, 32, 32), unet_groups=8, heads=2, vae=(8, 8, 16, 16), vae_groups=4, text=16, text_layers=2
    ),
    base_pictures=96,
    codec_pictures=32,
    judge_pictures=96,
    held_out=32,
    crops=Training(3, 8, 1e-3),
    autoencoder=Training(3, 8, 1e-3),
    diffusion=Training(3, 16, 6e-4),
    judge=Training(3, 16, 1e-3),
)
