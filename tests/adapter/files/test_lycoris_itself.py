"""Files that LyCORIS itself makes: what its forward pass adds to each weight is what we read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from loratools.adapter.files.file import read
from tests.loras import save

LYCORIS: list[tuple[str, dict[str, object]]] = [
    ("LoConModule", {}),
    ("LoConModule", {"use_tucker": True}),
    ("LohaModule", {}),
    ("LohaModule", {"use_tucker": True}),
    ("LokrModule", {}),
    ("LokrModule", {"decompose_both": True, "lora_dim": 1}),
    ("LokrModule", {"lora_dim": 1000}),
    ("LokrModule", {"use_tucker": True}),
    ("LokrModule", {"decompose_both": True, "lora_dim": 1, "use_tucker": True}),
    ("LokrModule", {"use_scalar": True}),
    ("FullModule", {}),
]
LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.mid_block.resnets.0.conv1"


def trained(kind: str, conv: bool, options: Mapping[str, object]) -> Any:
    """One LyCORIS module on a tiny layer, with random parameters."""
    try:
        modules = pytest.importorskip("lycoris.modules")
    except ValueError as error:  # its operators are declared in a way that an older torch does not know
        pytest.skip(f"this LyCORIS needs a newer torch: {error}")
    torch.manual_seed(3)
    layer: nn.Module = nn.Conv2d(8, 12, 3, padding=1) if conv else nn.Linear(8, 12)
    factor = {"factor": 4} if kind == "LokrModule" else {}
    module = getattr(modules, kind)("stem", layer, 1.0, **{"lora_dim": 2, "alpha": 1.5, **factor, **options})
    if kind == "FullModule":
        module.apply_to()  # from then on it holds whole weights, and stores their differences
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def stored(module: Any, conv: bool, place: Path) -> Path:
    stem = f"lora_unet_{(CONV if conv else LINEAR).removeprefix('unet.').replace('.', '_')}"
    tensors = {f"{stem}.{k}": v.detach().clone().contiguous() for k, v in module.custom_state_dict().items()}
    return save(place, tensors)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize(("kind", "options"), LYCORIS)
def test_what_lycoris_makes_reads_as_it_runs(
    tmp_path: Path, kind: str, options: Mapping[str, object], conv: bool
) -> None:
    """Against what its forward pass adds; ``get_diff_weight`` of its LoHa and LoKr scales by alpha / rank once more."""
    module = trained(kind, conv, options)
    adapter, name = read(stored(module, conv, tmp_path / "a.safetensors")), CONV if conv else LINEAR
    with torch.no_grad():
        module.eval()
        if kind in ("LohaModule", "LokrModule"):
            asked = (module.get_weight(module.shape) * module.scalar).double()
        else:
            asked = module.get_diff_weight(1.0)[0].double()
    assert float((adapter[name].dense().reshape(asked.shape) - asked).norm() / asked.norm()) < 1e-6
    assert (f"{name}.bias" in adapter) == (kind == "FullModule")


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("on_out", [False, True])
@pytest.mark.parametrize("kind", ["LoConModule", "LohaModule", "LokrModule"])
def test_lycoris_dora_reads_as_it_runs(tmp_path: Path, kind: str, on_out: bool, conv: bool) -> None:
    module, name = trained(kind, conv, {"weight_decompose": True, "wd_on_out": on_out}), CONV if conv else LINEAR
    base = module.org_module[0].weight.detach()
    adapter = read(stored(module, conv, tmp_path / "a.safetensors"), base={f"{name}.weight": base})
    with torch.no_grad():
        plain = module.make_weight() * module.scale if kind == "LoConModule" else module.get_weight(module.shape)
        scaled = plain if kind == "LoConModule" else plain * module.scalar
        asked = (module.apply_weight_decompose(base + scaled.reshape(base.shape), 1) - base).double()
    assert float((adapter[name].dense() - asked).norm() / asked.norm()) < 2e-6
