"""Where a base lies is found out in one place, and a VAE's scale factor too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.base.base_path import BaseKind, base_path, is_hub_id, locate_base
from loratools.base.model import Base
from loratools.base.picture_size import check_size, latent_shape, scale_factor_of_folder, vae_scale_factor
from loratools.errors import BaseModelError, GridError
from loratools.pocket import weights_folder


def test_each_kind_of_base_has_its_path_and_label(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "Some Model.safetensors"
    file.write_bytes(b"")
    located = [locate_base(name) for name in ("pocket", folder, file)]
    assert [own.kind for own in located] == [BaseKind.POCKET, BaseKind.FOLDER, BaseKind.FILE]
    assert [own.path for own in located] == [weights_folder(), folder, file]
    assert [own.label for own in located] == ["pocket", folder.stem, "Some Model"]
    assert (base_path("pocket"), base_path("no/where")) == (weights_folder(), Path("no/where"))
    with pytest.raises(BaseModelError, match="there is no base model"):
        locate_base(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "hub"),
    [("owner/model", True), ("models/x.safetensors", False), ("x", False), ("a/b/c", False), ("owner/my.model", True)],
)
def test_a_hub_id_is_no_files_name(name: str, hub: bool) -> None:
    assert is_hub_id(name) is hub


def test_a_mistyped_path_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("models/sd15") and is_hub_id("other/sd15")


@pytest.mark.parametrize(("levels", "factor"), [(1, 1), (3, 4), (4, 8), (5, 16)])
def test_every_level_of_a_vae_but_the_last_halves_the_picture(tmp_path: Path, levels: int, factor: int) -> None:
    config = {"block_out_channels": [8] * levels}
    assert vae_scale_factor(config) == factor
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps(config))
    assert scale_factor_of_folder(tmp_path) == factor
    assert latent_shape((factor * 3, factor * 5), factor) == (1, 4, 3, 5)
    check_size((factor * 3, factor), factor)
    if factor > 1:
        with pytest.raises(GridError, match=f"must be multiples of {factor}"):
            check_size((factor * 3, factor + 1), factor)


def test_without_a_vaes_config_the_factor_is_the_families_own(base: Base, folder: Path, tmp_path: Path) -> None:
    assert scale_factor_of_folder(tmp_path) == scale_factor_of_folder(tmp_path / "x.safetensors") == 8
    assert scale_factor_of_folder(folder) == base.vae_scale_factor == 8
