"""Parts of the previews benchmark about what one UNet call costs under every way of running it."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.previews.bench import Bench, Figure, Figures
from benchmarks.previews.random_models import stacks_on, xl_base
from loratools.base.compiled.blocks import KINDS, CompiledUNet
from loratools.base.compiled.store import CompiledStore
from loratools.base.fused.group_norm import triton_works
from loratools.base.fused.modules import FusedModules
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.summands import RowAdapters
from loratools.base.sampling.cuda_graph import capture_graph
from loratools.base.sampling.sample import UNet, decode_pixels, plain_unet

_KERNELS = 28  # lines of a profile
_CALLS = 10  # of the UNet, timed together


def compute(bench: Bench) -> Figures:
    """SD 1.5's UNet graph at batch 8 under every way of running it, and the decoder's."""
    yield from _ways(bench, bench.base, 8, "SD 1.5", _WAYS_SD1)
    yield from _decoding(bench, bench.base, 8)


def compute_xl(bench: Bench) -> Figures:
    """SDXL's UNet graph at 1024 x 1024 and batch 4 under every way of running it."""
    base = xl_base(bench)
    yield from _ways(bench, base, 4, "SDXL", _WAYS_XL)


def decoding_xl(bench: Bench) -> Figures:
    """SDXL's decoder in float32 at 1024 x 1024: torch's kernels, and channels last with fused norms."""
    yield from _decoding(bench, xl_base(bench), 4)


def restart(bench: Bench) -> Figures:
    """The first call of compiled blocks in a new process, once an earlier one has left them on disk."""
    base = bench.base
    for way in (_COMPILED[0], *_WAYS_SD1[6:]):
        run = CompiledUNet(base, CompiledStore(), lambda text: print("   said:", text, flush=True), kinds=way.kinds)
        layout = FusedModules([base.unet]).applied() if way.fused else contextlib.nullcontext()
        _lay_out(base, torch.channels_last if way.channels_last else torch.contiguous_format)
        with layout, _branched(bench, base, 8, way.shared), torch.no_grad():
            inputs = unet_inputs(base, 16)
            plain_unet(base)(*inputs)
            bench.sync()
            start = time.perf_counter()
            run(*inputs)
            bench.sync()
            yield Figure(f"first call, {way.text}", time.perf_counter() - start)


def start(bench: Bench) -> Figures:
    """What a first picture of SD 1.5 waits for: Triton's compiler, cuDNN's trials, the capture; in a new process."""
    base, calls = bench.base, 5
    plain_unet(base)(*unet_inputs(base, 2))  # CUDA and its libraries are there, for another shape
    bench.sync()
    begun = time.perf_counter()
    fused = triton_works(bench.device)
    yield Figure("Triton's kernels tried", time.perf_counter() - begun)
    inputs, run = unet_inputs(base, 16), plain_unet(base)
    with FusedModules([base.unet]).applied() if fused else contextlib.nullcontext(), torch.no_grad():
        begun = time.perf_counter()
        run(*inputs)
        bench.sync()
        yield Figure("the first call at batch 8, fused, its kernels compiled", time.perf_counter() - begun)
        if bench.device.type != "cuda":
            return
        for trials in (False, True):
            text = "with" if trials else "without"
            begun = time.perf_counter()
            graph, _ = capture_graph(lambda: run(*inputs), torch.cuda.graph_pool_handle(), trials=trials)
            bench.sync()
            yield Figure(f"its capture {text} cuDNN's trials", time.perf_counter() - begun)
            graph.replay()
            bench.sync()
            begun = time.perf_counter()
            for _ in range(calls):
                graph.replay()
            bench.sync()
            spent = (time.perf_counter() - begun) / calls * bench.scale.steps / 8
            yield Figure(f"that graph, captured {text} trials", spent, "s/image")
            del graph


@dataclass(frozen=True)
class _Way:
    """How the UNet is run: class names of the modules that are compiled, and what branches hang on it."""

    kinds: tuple[str, ...] = ()
    fused: bool = False
    channels_last: bool = False
    shared: bool | None = None

    @property
    def text(self) -> str:
        parts = [f"compiled {', '.join(self.kinds)}"] if self.kinds else []
        parts += [
            "fused" if self.fused else "torch's kernels, channels last" if self.channels_last else "torch's kernels"
        ]
        return f"{'; '.join(parts)}; branches: {_named(self.shared)}"


_WHOLE = ("UNet2DConditionModel",)
_RESNETS = (*KINDS, "ResnetBlock2D")
_PLAIN = _Way()
_FUSED = tuple(_Way(fused=True, shared=shared) for shared in (None, False, True))
_COMPILED = tuple(_Way(KINDS, fused=True, shared=shared) for shared in (None, False, True))
_WAYS_SD1 = (
    _PLAIN,
    *_FUSED,
    *_COMPILED,
    _Way(_RESNETS, fused=True, shared=True),
    _Way(_WHOLE, channels_last=True, shared=True),
)
_WAYS_XL = (_PLAIN, _FUSED[0], *_FUSED[2:], *_COMPILED[2:])


def _ways(bench: Bench, base: Base, batch: int, name: str, ways: Sequence[_Way]) -> Figures:
    """Seconds a picture of each way."""
    expected = None
    layout: contextlib.AbstractContextManager[None]
    for way in ways:
        said: list[str] = []
        run = CompiledUNet(base, CompiledStore(), said.append, kinds=way.kinds) if way.kinds else plain_unet(base)
        layout = FusedModules([base.unet]).applied() if way.fused else contextlib.nullcontext()
        _lay_out(base, torch.channels_last if way.channels_last else torch.contiguous_format)
        with layout, _branched(bench, base, batch, way.shared):
            start = time.perf_counter()
            seconds, output = graph_seconds(bench, base, run, batch, profiled=way.shared is True)
            first = time.perf_counter() - start
        note = f"{first:.1f} s in all; {' | '.join(said)}"
        if way.shared is None:
            expected = output if expected is None else expected
            note += f"; {float((output - expected).norm() / expected.norm()):.2g} from torch's"
        yield Figure(f"{name}, batch {batch}, {way.text}", seconds, "s/image", note=note)
        bench.clear()


def _lay_out(base: Base, layout: torch.memory_format) -> None:
    base.unet.to(memory_format=layout)


def _named(shared: bool | None) -> str:
    return {None: "none", True: "shared", False: "by row"}[shared]


@contextlib.contextmanager
def _branched(bench: Bench, base: Base, batch: int, shared: bool | None) -> Iterator[None]:
    """Branches of two LoRAs' weights on every row, as a grid's neighbours have them."""
    if shared is None:
        yield
        return
    stacks = stacks_on(base, bench.work, bench.scale.rank, batch)
    lora = BatchedLora(base, shared=shared)
    lora.register([[stack.unet_part for stack in stacks]])
    lora.reserve(2 * batch)
    lora.fill([RowAdapters(stack.unet_part, stack.weight) for stack in stacks], [*range(batch)] * 2)
    with lora.attached():
        yield
    lora.free()


def _decoding(bench: Bench, base: Base, batch: int) -> Figures:
    """Seconds a picture of the VAE's decoder."""
    latents = torch.randn(batch, 4, *(side // 8 for side in base.resolution), device=bench.device, dtype=bench.dtype)
    expected, calls = None, 5
    for fused in (False, True):
        layout = FusedModules([base.vae.decoder]).applied() if fused else contextlib.nullcontext()
        with layout, torch.no_grad():
            for _ in range(2):
                shown = decode_pixels(base, latents).short()
            bench.sync()
            start = time.perf_counter()
            for _ in range(calls):
                decode_pixels(base, latents)
            bench.sync()
            seconds = (time.perf_counter() - start) / calls / batch
        expected = shown if expected is None else expected
        apart = (shown - expected).abs()
        how, kind = "fused" if fused else "torch's kernels", str(base.vae.dtype).removeprefix("torch.")
        note = f"{float(apart.float().mean()):.3g} of 255 from torch's, {int(apart.max())} at most"
        yield Figure(f"decoding at batch {batch} in {kind}, {how}", seconds, "s/image", note=note)


def unet_inputs(base: Base, rows: int) -> tuple[Any, ...]:
    """Latents, time, hidden states and SDXL's added conditions of ``rows`` rows, random but repeatable."""
    torch.manual_seed(1)
    side, width = base.resolution[0] // 8, base.unet.config.cross_attention_dim

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=base.device, dtype=base.dtype)

    x, time, hidden = draw(rows, 4, side, side), torch.tensor(500, device=base.device), draw(rows, 77, width)
    if base.family != "sdxl":
        return x, time, hidden, None
    pooled = draw(rows, base.text_encoders[1].config.projection_dim)
    sizes = torch.full((rows, 6), float(base.resolution[0]), device=base.device, dtype=base.dtype)
    return x, time, hidden, {"text_embeds": pooled, "time_ids": sizes}


@torch.no_grad()
def graph_seconds(
    bench: Bench, base: Base, run: UNet, batch: int, *, profiled: bool = False
) -> tuple[float, torch.Tensor]:
    """Seconds a picture for all steps under CFG, the median of three runs, and the UNet's output in float32."""
    inputs = unet_inputs(base, 2 * batch)
    if bench.device.type != "cuda":
        return 0.001, run(*inputs).float()
    graph, output = capture_graph(lambda: run(*inputs), torch.cuda.graph_pool_handle())
    graph.replay()
    bench.sync()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(_CALLS):
            graph.replay()
        bench.sync()
        spent.append(time.perf_counter() - start)
    if profiled:
        _profile(graph)
    return sorted(spent)[1] / _CALLS * bench.scale.steps / batch, output.float().clone()


def _profile(graph: torch.cuda.CUDAGraph) -> None:
    """Print the kernels of one replay by the time that they take."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        graph.replay()
        torch.cuda.synchronize()
    times: dict[str, list[float]] = defaultdict(list)
    for event in record.events() or []:
        if str(event.device_type).endswith("CUDA"):
            times[event.name].append(event.device_time)  # microseconds
    whole = sum(sum(own) for own in times.values())
    print(f"   one replay: {whole / 1000:.2f} ms in {sum(map(len, times.values()))} kernels", flush=True)
    for name, own in sorted(times.items(), key=lambda item: -sum(item[1]))[:_KERNELS]:
        print(f"   {sum(own) / 1000:7.3f} ms {len(own):5d} x  {name[:130]}", flush=True)
