"""Folders that PEFT itself saves: what it adds to each weight is what we read."""

from pathlib import Path

import pytest
import torch
from torch import nn

from loratools.adapter.files.file import read

peft = pytest.importorskip("peft")


class Block(nn.Module):
    """Two layers under names that SD1 has."""

    def __init__(self) -> None:
        super().__init__()
        attention = nn.Module()
        attention.to_q, attention.to_k = nn.Linear(8, 6), nn.Linear(8, 6)
        self.mid_block = nn.ModuleDict({"attentions": nn.ModuleList([nn.Module()])})
        block = nn.Module()
        block.attn1 = attention
        self.mid_block["attentions"][0].transformer_blocks = nn.ModuleList([block])  # type: ignore[index]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("patterns", [{}, {"rank_pattern": {"to_k": 3}, "alpha_pattern": {"attn1.to_k": 5}}])
def test_what_peft_saves_reads_as_it_merges(
    tmp_path: Path, rslora: bool, dora: bool, patterns: dict[str, dict[str, int]]
) -> None:
    torch.manual_seed(1)
    model = Block()
    config = peft.LoraConfig(
        r=2,
        lora_alpha=6,
        target_modules=["to_q", "to_k"],
        use_rslora=rslora,
        use_dora=dora,
        lora_bias=not dora,
        **patterns,
    )
    before = {f"unet.{key}": value.detach().clone() for key, value in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, config)
    for key, parameter in wrapped.named_parameters():
        if "lora_" in key:
            nn.init.normal_(parameter)
    wrapped.save_pretrained(tmp_path / "adapter")
    adapter = read(tmp_path / "adapter", base=before)
    after = {f"unet.{key}": value for key, value in wrapped.merge_and_unload().state_dict().items()}
    assert {name for name in adapter if not name.endswith("bias")} == {
        k.removesuffix(".weight") for k in before if k.endswith("weight")
    }
    for name in adapter:
        key = name if name.endswith("bias") else f"{name}.weight"
        asked = after[key].double() - before[key].double()
        assert float((adapter[name].dense() - asked).norm() / asked.norm()) < 2e-6


@pytest.mark.parametrize("kind", ["LoKr", "LoHa"])
@pytest.mark.parametrize("rank", [2, 64])
@pytest.mark.parametrize("patterns", [{}, {"rank_pattern": {"to_k": 3}, "alpha_pattern": {"attn1.to_k": 5}}])
def test_what_peft_saves_of_other_kinds_reads_as_it_merges(
    tmp_path: Path, kind: str, rank: int, patterns: dict[str, dict[str, int]]
) -> None:
    """PEFT scales a LoKr of two whole matrices too, which LyCORIS does not."""
    torch.manual_seed(2)
    model = Block()
    config = getattr(peft, f"{kind}Config")(
        r=rank, alpha=6, target_modules=["to_q", "to_k"], init_weights=False, **patterns
    )
    before = {f"unet.{key}": value.detach().clone() for key, value in model.state_dict().items()}
    wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path / "unet")
    adapter = read(tmp_path / "unet")
    after = {f"unet.{key}": value for key, value in wrapped.merge_and_unload().state_dict().items()}
    assert len(adapter) == 2
    for name in adapter:
        asked = after[f"{name}.weight"].double() - before[f"{name}.weight"].double()
        assert float((adapter[name].dense() - asked).norm() / asked.norm()) < 1e-5
