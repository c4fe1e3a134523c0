"""The studio's figures; run as ``python -m benchmarks.studio --parts pocket``.

``--parts`` chooses (``--list`` names them), ``--device`` is where the parts ``sd15`` and ``sdxl`` draw, ``--tiny`` runs
with tiny models on a CPU to see that it runs. Each part's table takes the place of its own in ``--out``.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from benchmarks import results_page
from benchmarks.previews.bench import Figure, Figures, machine
from loratools.base.load import pick_device

OUT = Path(__file__).parents[1] / "results" / "studio.md"
_HEAD = "# Studio\n\nWritten by `python -m benchmarks.studio`; see it for what each part does."
Part = Callable[..., Figures]
# the file of each part, which is imported when it runs: a machine with a GPU needs no browser and no server's packages
PARTS: Mapping[str, str] = {
    "pocket": "drag",
    "sd15": "drag",
    "sdxl": "drag",
    "hand": "hand",
    "thousand": "thousand",
    "starts": "starting",
    "lasts": "lasting",
}
_ON_THE_DEVICE = ("sd15", "sdxl")


def main() -> None:
    """Run the parts that were asked for, each into its own section of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="pocket", help=f"of {', '.join(PARTS)}, with commas")
    parser.add_argument("--list", action="store_true", help="name the parts and end")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{name}: {_about(part_of(name))}" for name in PARTS))
        return
    for name in given.parts.split(","):
        run(name, pick_device(given.device), given.out, tiny=given.tiny)


def part_of(name: str) -> Part:
    """The function of a part."""
    part: Part = getattr(importlib.import_module(f"benchmarks.studio.{PARTS[name]}"), name)
    return part


def _about(part: Part) -> str:
    """What a part says of itself, in one line."""
    return " ".join((part.__doc__ or "").split())


def run(name: str, device: torch.device, out: Path, *, tiny: bool) -> None:
    """Run one part; each figure is printed and is in the results as soon as it is there, so that a cut loses none."""
    part, start = part_of(name), time.perf_counter()
    where = machine(device if name in _ON_THE_DEVICE else torch.device("cpu"))
    if not out.is_file():
        results_page.write(out, _HEAD)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:  # a browser may still write
        figures: list[Figure] = []
        for figure in part(Path(work), device, tiny=tiny):
            print(figure.text(), flush=True)
            figures.append(figure)
            _put(out, name, f"{_about(part)} ({where}, so far {time.perf_counter() - start:.0f} s)", figures)
    _put(out, name, f"{_about(part)} ({where}, {time.perf_counter() - start:.0f} s)", figures)


def _put(out: Path, name: str, about: str, figures: Sequence[Figure]) -> None:
    rows = [
        f"| {own.name} | {own.value:.4g} {own.unit} | {own.bar} "
        f"| {' '.join([*([] if own.met is None else ['met' if own.met else 'MISSED']), own.note]).strip()} |"
        for own in figures
    ]
    results_page.put(out, name, "\n".join([f"{about}\n", "| | | goal | |", "|---|---|---|---|", *rows]))


if __name__ == "__main__":
    main()
