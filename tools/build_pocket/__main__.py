"""Rebuild the pocket base: ``python -m tools.build_pocket STAGE ...`` on a machine with one GPU.

Stages, in order; each is skipped when its result is already in ``--work`` and takes at most nine minutes::

    draw-codec   the autoencoder's pictures, and the tokenizer    (processor cores only)
    draw-base    house and minor styles, sound                    (processor cores only)
    draw-judge   every style and defect                           (processor cores only)
    vae          the autoencoder                                  vae.pt
    encode       the base set's latents                           latents.npz, scale.json
    judge        the judge                                        judge/
    unet         text encoder and UNet                            diffusion.pt, samples.png
    install      write loratools/pocket/weights from the results
    card         sample 200 prompts, let the judge read them, write the model card
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from tools.build_pocket.settings import DRY, FULL, Settings


def main() -> None:
    """Run the stages named on the command line."""
    parser = argparse.ArgumentParser(
        prog="build_pocket", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="+", choices=[*STAGES], metavar="STAGE")
    parser.add_argument("--work", type=Path, default=Path("runs/build-pocket"), help="folder of the results")
    parser.add_argument("--weights", type=Path, help="where install and card write (default: the package's own)")
    parser.add_argument("--seconds", type=float, default=500, help="most seconds of training in a stage")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2, help="processes that draw")
    parser.add_argument("--prompts", type=int, default=200, help="how many prompts the card's exam samples")
    parser.add_argument("--dry", action="store_true", help="toy sizes: every line of the build in a minute on a CPU")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for stage in options.stages:
        STAGES[stage](DRY if options.dry else FULL, options)


def _draw(kind: str) -> Callable[[Settings, argparse.Namespace], None]:
    def stage(settings: Settings, options: argparse.Namespace) -> None:
        from loratools.pocket.tokenizer import train_tokenizer
        from tools.build_pocket import data

        if kind == "codec":
            train_tokenizer(data.tokenizer_lines(), options.work / "tokenizer")
        data.make_set(kind, getattr(settings, f"{kind}_pictures"), settings, options.work, options.workers)

    return stage


def _vae(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import autoencoder

    if not (options.work / "vae.pt").exists():
        autoencoder.train(settings, options.work, _device(), options.seconds)


def _encode(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import autoencoder

    if not (options.work / "latents.npz").exists():
        autoencoder.encode(settings, options.work, _device())


def _unet(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import diffusion

    if not (options.work / "diffusion.pt").exists():
        diffusion.train(settings, options.work, _device(), options.seconds)
    diffusion.sample_sheet(settings, options.work, _device(), 8 if options.dry else 128)


def _judge(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import judge

    if not (options.work / "judge" / "judge.json").exists():
        judge.train(settings, options.work, _device(), options.seconds)


def _install(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import card

    card.install(settings, options.work, options.weights)


def _card(settings: Settings, options: argparse.Namespace) -> None:
    from tools.build_pocket import card

    card.write(settings, options.work, options.weights, 8 if options.dry else options.prompts)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


STAGES = {
    "draw-codec": _draw("codec"),
    "draw-base": _draw("base"),
    "draw-judge": _draw("judge"),
    "vae": _vae,
    "encode": _encode,
    "judge": _judge,
    "unet": _unet,
    "install": _install,
    "card": _card,
}

if __name__ == "__main__":
    main()
