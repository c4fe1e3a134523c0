"""Does every way of drawing show the picture of the merged file, and the one that diffusers draws of that file?

``python -m benchmarks.parity.pictures [--out PAGE] [--only NAME]``

On a GPU: the pocket base and a small random SDXL in float32 and fp16, on every path of the engine (patched, mixed,
channels last, compiled, offloaded, capped), under two minutes of which most is compiling. On a CPU: in float32. It
writes the section of its device into ``benchmarks/results/parity.md`` and leaves the others as they are.

In float32 (without TF32) a picture may differ in its last level. In half precision the same sum is drawn in float32
too: a picture may be about as far from that as diffusers' own half-precision picture is, and two of them apart by as
much as two such errors. A control shows that the comparison can tell: the stack's own effect.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import results_page
from benchmarks.parity.paths import PATHS, PLAIN, EnginePath, Files, Pictures, diffusers_pictures, draw
from benchmarks.previews.bench import machine, random_lora
from loratools.base.load import load_base
from loratools.pocket import weights_folder
from tests.base.tiny_xl import save_tiny_xl

PAGE = Path(__file__).parents[1] / "results/parity.md"
MEAN = 0.05  # mean difference in float32, of 255 levels
LAST_LEVEL = 1  # the largest difference in float32
_HALF = 1.5  # times diffusers' own rounding: two samples of it, drawn by other kernels
_RANK, _STRENGTH = 8, 0.15
_HOW = """Each figure is the mean and the largest difference, of 255 levels, over both weights (1 and -0.5) of two
prompts with a seed each, 8 steps of DDIM at CFG 3. `merge`: the live sum of two LoRAs with block vectors against its
merged file, on the same path. `patched`: that sum against the same by patching, kernel by kernel. `diffusers`: that
sum against diffusers' own pipeline and loader on the merged file, in the same number type. `control`: what the sum
changes. `float32`: in half precision, how far that sum is from the same drawn in float32, and how far diffusers'
picture is; ours may be 1.5 times as far, and two pictures may be apart by twice that.
Made by `python -m benchmarks.parity.pictures`."""
_LARGE = 576  # pixels a side: decoded in tiles where memory is short


@dataclass(frozen=True)
class Row:
    """One path on one base: mean and largest differences in levels of 255.

    Args:
        merge: the live sum against its merged file, both drawn on this path.
        patched: the live sum on this path against the same by patching, kernel by kernel.
        diffusers: the live sum on this path against diffusers' picture of the merged file.
        control: what the stack itself changes.
        rounding: in half precision, how far this path and diffusers are from the picture in float32, on average.
    """

    base: str
    path: str
    merge: tuple[float, int]
    patched: tuple[float, int]
    diffusers: tuple[float, int]
    control: float
    rounding: tuple[float, float] | None = None
    note: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all differences are within the limits, and the control is far beyond them."""
        found = (self.merge, self.patched, self.diffusers)
        if self.rounding is None:
            within = all(mean <= MEAN and most <= LAST_LEVEL for mean, most in found)
            return within and self.control > 4 * MEAN
        ours, theirs = self.rounding
        far_apart = 2 * _HALF * theirs
        within = ours <= _HALF * theirs and all(mean <= far_apart for mean, _ in found)
        return within and self.control > 2 * ours

    def text(self) -> str:
        """A line of the page."""
        shown = " | ".join(f"{mean:.3f}, {most}" for mean, most in (self.merge, self.patched, self.diffusers))
        rounding = "{:.3f}, {:.3f}".format(*self.rounding) if self.rounding else ""
        verdict = "agrees" if self.agrees else "**differs**"
        return f"| {self.base} | {self.path} | {shown} | {self.control:.1f} | {rounding} | {verdict} | {self.note} |"


@dataclass(frozen=True)
class Subject:
    """A base that is drawn on: its folder, dtype, the size of its pictures, and the paths that it is drawn by."""

    name: str
    place: Path
    dtype: str
    size: tuple[int, int] | None = None
    paths: tuple[EnginePath, ...] = PATHS


def subjects(work: Path, cuda: bool) -> Iterator[Subject]:
    """What is compared on this machine, the most telling first: a run may be cut off."""
    xl = save_tiny_xl(work / "xl")
    yield Subject("pocket, fp32", weights_folder(), "fp32")
    if cuda:
        yield Subject("small SDXL, fp16", xl, "fp16")
        yield Subject("pocket, fp16", weights_folder(), "fp16")
    yield Subject("small SDXL, fp32", xl, "fp32")
    if cuda:
        short = tuple(path for path in PATHS if path in (PLAIN, PATHS[-1], PATHS[-2]))
        yield Subject(f"pocket at {_LARGE}, fp32", weights_folder(), "fp32", (_LARGE, _LARGE), short)


def compare(subject: Subject, device: str, work: Path) -> Iterator[Row]:
    """Every path of a subject, the plain one first."""
    base = load_base(subject.place, device=device, dtype=subject.dtype)
    base.name = subject.place.name
    size = subject.size or base.resolution
    work.mkdir(parents=True, exist_ok=True)
    loras = [random_lora(base, work / f"{n}.safetensors", _RANK, n, _STRENGTH) for n in (1, 2)]
    files = Files.of(base, loras, work)
    theirs = diffusers_pictures(subject.place, base, files, size)
    exact = _in_float32(subject, device, files, size) if base.dtype != torch.float32 else None
    plain: Pictures | None = None
    for path in subject.paths:
        said, start = list[str](), time.perf_counter()
        made = draw(base, path, files, size, said)
        plain = made if plain is None else plain
        note = "; ".join([f"{time.perf_counter() - start:.1f} s", *(said if path.capped else ())])
        yield _row(subject, path, (made, plain, theirs), exact, note)
        gc.collect()
        if base.device.type == "cuda":
            torch.cuda.empty_cache()


def _in_float32(subject: Subject, device: str, files: Files, size: tuple[int, int]) -> Pictures:
    """What the plain path draws of the same files in float32."""
    base = load_base(subject.place, device=device, dtype="fp32")
    return draw(base, PLAIN, files, size, [])


def _row(
    subject: Subject,
    path: EnginePath,
    pictures: tuple[Pictures, Pictures, Pictures],
    exact: Pictures | None,
    note: str,
) -> Row:
    made, plain, theirs = pictures
    alone, live, file = made[:1], made[1::2], made[2::2]
    own = _of_the_sum(made)
    rounding = None
    if exact is not None:
        rounding = far(own, _of_the_sum(exact))[0], far(theirs, _of_the_sum(exact))[0]
    return Row(
        subject.name,
        path.name,
        far(live, file),
        far(own, _of_the_sum(plain)),
        far(own, theirs),
        min(far(one[None], alone)[0] for one in live),
        rounding,
        note,
    )


def _of_the_sum(made: Pictures) -> Pictures:
    """The base alone and the live sum at both weights."""
    return np.concatenate([made[:1], made[1::2]])


def far(one: Pictures, other: Pictures) -> tuple[float, int]:
    """The mean and the largest difference, in levels."""
    apart = np.abs(one - other)
    return float(apart.mean()), int(apart.max())


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Inside the block float32 is float32: a GPU's convolutions do not round their inputs to TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def report(page: Path, rows: list[Row], device: torch.device, seconds: float) -> None:
    """Put the section of this device into ``page``."""
    good = sum(row.agrees for row in rows)
    lines = [
        f"{good} of {len(rows)} ways of drawing agree ({machine(device)}, {seconds:.0f} s).",
        _HOW,
        "",
        "| base | path | merge | patched | diffusers | control | float32 | | |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row.text() for row in rows),
    ]
    kind = "a GPU" if device.type == "cuda" else "a CPU"
    results_page.put(page, f"Pictures on {kind}", "\n".join(lines))


def main() -> None:
    """Compare all subjects and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--only", default="", help="subjects whose name has this text")
    args = parser.parse_args()
    cuda = torch.cuda.is_available()
    device, start, rows = torch.device("cuda:0" if cuda else "cpu"), time.perf_counter(), list[Row]()
    with tempfile.TemporaryDirectory() as folder, full_precision():
        for n, subject in enumerate(subjects(Path(folder), cuda)):
            if args.only not in subject.name:
                continue
            for row in compare(subject, device.type, Path(folder) / str(n)):
                rows.append(row)
                print(row.text(), flush=True)
            report(args.out, rows, device, time.perf_counter() - start)  # a run that is ended early keeps it
    if not all(row.agrees for row in rows):
        raise SystemExit("some paths differ")


if __name__ == "__main__":
    main()
