"""Full training against its bars, in one run: ``python -m benchmarks.full --out FOLDER --sd-scripts CHECKOUT``.

Every part prints its rows as it goes and adds them to ``FOLDER/PART.json``; ``--report`` writes
benchmarks/results/full.md from what is there. ``--parts`` chooses; ``--tiny`` rehearses on a CPU.

parity    one step on a CPU in fp32: the loss and every weight's gradient, with and without a prior's weight
sd15      SD1.5 at 512, UNet and text encoder: AdamW in fp32 and bf16, AdamW8bit, Adafactor within the backward pass
peer      sd-scripts' train_db.py on the same
sdxl      SDXL's UNet at 1024, batch 1, Adafactor within the backward pass;  peer-sdxl: sd-scripts' sdxl_train.py
peer-sdxl-plain  the same without checkpointing
pocket-STYLE  ink, neon or watercolor on the pocket base: full, a LoRA, and a LoRA extracted from the full one, by the
          judge (see pocket.py)
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.full import parity, pocket, speed
from benchmarks.full.report import write
from benchmarks.subtraction.cases import STYLES
from benchmarks.training.__main__ import make_bases
from benchmarks.training.bench import ROOT, Options, Rows

PARTS: Mapping[str, Callable[[Options, Rows], None]] = {
    "parity": parity.part_parity,
    "sd15": speed.part_sd15,
    "peer": speed.part_peer,
    "sdxl": speed.part_sdxl,
    "peer-sdxl": speed.part_peer_sdxl,
    "peer-sdxl-plain": speed.part_peer_sdxl_plain,
    **{f"pocket-{style}": partial(pocket.part_pocket, style) for style in STYLES},
}


def main() -> None:
    """Run the parts that were asked for; one that fails does not stop the next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="sd15,peer,sdxl,peer-sdxl", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/full", help="folder of the JSON")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "loratools-full")
    parser.add_argument("--sd-scripts", default="", help="a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--peer-timeout", type=int, default=180)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="tiny bases on the CPU")
    parser.add_argument("--report", action="store_true", help="write results/full.md from the JSON and stop")
    args = parser.parse_args()
    options = Options(
        out=args.out,
        work=args.work,
        sd_scripts=str(Path(args.sd_scripts).resolve()) if args.sd_scripts else "",
        steps=args.steps,
        check_steps=0,
        cpu_steps=0,
        batches=(1, 4),
        dim=32,
        processes=1,
        peer_timeout=args.peer_timeout,
        tiny=args.tiny,
        device="cpu" if args.tiny else args.device,
    )
    if args.report:
        write(options.out, ROOT / "benchmarks/results/full.md")
        return
    names = args.parts.split(",")
    if set(names) - {"parity"} - {f"pocket-{style}" for style in STYLES}:
        make_bases(options, names)
    for name in names:
        begun = time.perf_counter()
        try:
            PARTS[name](options, Rows(options.out, name))
        except Exception as error:  # the other parts' time on the machine is not to be lost
            traceback.print_exc()
            print(f"{name} FAILED: {error}", flush=True)
        print(f"{name} took {time.perf_counter() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
