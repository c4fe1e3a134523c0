"""The memory that commands take on a LoRA file of 3 GB: a Flux.2 dev LoRA of every trained module, in fp16.

    python -m benchmarks.families.large_file --work /tmp/large

What counts is anonymous memory (``RssAnon`` of /proc/PID/status, Linux), looked at every 20 ms: pages of the file
itself that the system keeps can be dropped at any time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import results_page
from loratools.adapter.architectures.block_transformer import placed, stored_shape
from loratools.adapter.architectures.known_families import FAMILIES
from loratools.adapter.header import TensorInfo, encode_header

PAGE = Path("benchmarks/results/large_file.md")
FAMILY, RANK = "flux2", 256
COMMANDS = {
    "inspect": ("inspect", "{a}"),
    "convert --to diffusers": ("convert", "{a}", "--to", "diffusers", "-o", "{out}", "--force"),
    "merge of two": ("merge", "{a}:0.7,{b}:-0.4", "-o", "{out}", "--force"),
}


def generate(path: Path, rank: int, seed: int) -> Path:
    """Write random factors for every trained module, weight by weight, in kohya's spelling."""
    network = FAMILIES[FAMILY].network
    assert network is not None
    tensors: dict[str, tuple[int, ...]] = {}
    for weight in placed(network):  # type: ignore[arg-type]
        if weight.outer or not weight.weight.trained:
            continue
        rows, columns = stored_shape(weight.weight, network.sizes[0])  # type: ignore[union-attr]
        stem = f"lora_unet_{weight.originals[0].replace('.', '_')}"
        tensors |= {f"{stem}.alpha": (), f"{stem}.lora_down.weight": (rank, columns)}
        tensors[f"{stem}.lora_up.weight"] = (rows, rank)
    infos, position = {}, 0
    for key, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        infos[key], position = TensorInfo("F16", shape, position, position + size), position + size
    texts = {"modelspec.architecture": "Flux.2-dev/lora", "ss_network_dim": str(rank), "ss_network_alpha": str(rank)}
    generator = torch.Generator().manual_seed(seed)
    with open(path, "wb") as stream:
        stream.write(encode_header(texts, infos))
        for key, shape in tensors.items():
            stream.write(_values(key, shape, rank, generator).numpy().tobytes())
    return path


def _values(key: str, shape: tuple[int, ...], rank: int, generator: torch.Generator) -> Tensor:
    if key.endswith(".alpha"):
        return torch.tensor(float(rank), dtype=torch.float16)
    return torch.randn(shape, generator=generator).mul_(0.02).half()


def peak_of(command: list[str]) -> tuple[float, float]:
    """``(greatest anonymous memory in MB, seconds)`` of a command.

    Raises:
        RuntimeError: if it fails.
    """
    started, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            peak = max(peak, _anonymous(process.pid))
            time.sleep(0.02)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {output.read().decode()[-500:]}")
    return peak / 1000, time.monotonic() - started


def _anonymous(pid: int) -> int:
    """kB of anonymous memory; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def main() -> None:
    """Generate, measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder with 13 GB of room")
    parser.add_argument("--rank", type=int, default=RANK, help="a lower one for trying the script")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    names = {name: asked.work / f"{name}.safetensors" for name in ("a", "b", "out")}
    for seed, name in enumerate("ab"):
        generate(names[name], asked.rank, seed)
    size = names["a"].stat().st_size / 1e9
    rows = []
    for title, words in COMMANDS.items():
        filled = [word.format(**names) for word in words]
        peak, seconds = peak_of([sys.executable, "-m", "loratools", *filled])
        rows.append(f"| `{title}` | {peak:,.0f} | {seconds:.0f} |")
        print(rows[-1], flush=True)
    results_page.write(
        asked.page,
        f"""# LoRA files of {size:.1f} GB

A Flux.2 dev LoRA of every trained module at rank {asked.rank}, in fp16 ({size:.2f} GB), and another like it; a CPU of
{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch.
`python -m benchmarks.families.large_file --work FOLDER`.

| command | greatest anonymous memory, MB | seconds |
|---|---|---|
"""
        + "\n".join(rows),
    )


if __name__ == "__main__":
    main()
