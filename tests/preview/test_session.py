"""A second grid on the first one's base loads and encodes nothing again; its pictures are those of a fresh start."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.base.prompt import prompt_encoding
from loratools.base.prompt.prompt_encoding import PromptEncoder, encode_prompts
from loratools.blocks.presets import load_presets
from loratools.errors import BaseModelError
from loratools.preview import session as session_module
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.read_axes import build_arrangement
from loratools.preview.request.read_rows import NameLookup
from loratools.preview.request.request import GridRequest, ModelRequest, SamplingRequest
from loratools.preview.request.row_text import RowText
from loratools.preview.run import GridOutput, GridResult, render_request
from loratools.preview.session import Session
from tests.base.patching.test_patch import random_deltas
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def loras(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for name, seed in (("ink", 1), ("plain", 2)):
        write(random_deltas(base, seed=seed), folder / f"{name}.safetensors", family="sd1", dtype=torch.float32)
    return folder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of bases that are loaded from disk."""
    names: list[str] = []
    load = session_module.load_any_base

    def note(name: str, **options: Any) -> Base:
        names.append(Path(name).name)
        return load(name, **options)

    monkeypatch.setattr(session_module, "load_any_base", note)
    return names


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that are encoded."""
    texts: list[str] = []
    encode = prompt_encoding.encode_prompts

    def note(base: Base, some: list[str], *others: Any) -> Any:
        texts.extend(some)
        return encode(base, some, *others)

    monkeypatch.setattr(prompt_encoding, "encode_prompts", note)
    return texts


def render(
    folder: Path,
    loras: Path,
    out: Path,
    session: Session | None,
    *,
    lora: str = "ink",
    prompt: str = "1girl",
    **model: Any,
) -> GridResult:
    request = GridRequest(
        rows=[RowText.parse(str(loras / f"{lora}.safetensors"))],
        weights="0.5,1",
        prompts=[prompt],
        sampling=SamplingRequest(steps=1, sampler="DDIM"),
        model=ModelRequest(base=str(folder), device="cpu", **model),
    )
    names = NameLookup(Path, lambda _: None, load_presets(None))
    return render_request(request, build_arrangement(request, names), names, GridOutput(out), session)


def cells(out: Path) -> dict[str, bytes]:
    paths = sorted((out / "cells").rglob("*.png"))
    return {path.relative_to(out).as_posix(): np.asarray(Image.open(path)).tobytes() for path in paths}


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as made:
        yield made


def test_a_second_grid_loads_nothing_and_has_the_same_pictures(
    folder: Path, loras: Path, tmp_path: Path, session: Session, loaded: list[str], encoded: list[str]
) -> None:
    render(folder, loras, tmp_path / "first", session)
    assert loaded == ["tiny"] and encoded
    engine = session._drawer
    del encoded[:]
    render(folder, loras, tmp_path / "again", session)
    assert loaded == ["tiny"] and not encoded and session._drawer is engine
    render(folder, loras, tmp_path / "other", session, lora="plain", prompt="full body")
    assert loaded == ["tiny"] and session._drawer is engine and encoded
    render(folder, loras, tmp_path / "other alone", None, lora="plain", prompt="full body")
    assert cells(tmp_path / "again") == cells(tmp_path / "first") != cells(tmp_path / "other")
    assert cells(tmp_path / "other") == cells(tmp_path / "other alone")


@pytest.mark.parametrize("change", ["file", "dtype", "vae", "path", "offload"])
def test_another_model_takes_its_place_and_the_first_is_freed(
    folder: Path, loras: Path, tmp_path: Path, session: Session, loaded: list[str], change: str
) -> None:
    own = tmp_path / "base"
    shutil.copytree(folder, own)
    first = weakref.ref(session.load(str(own), ModelRequest(device="cpu")).unet)
    request = ModelRequest(device="cpu")
    if change == "file":  # of the same size
        shutil.rmtree(own)
        save_tiny_base(own, seed=7)
    elif change == "path":
        own = Path(shutil.copytree(own, tmp_path / "copy"))
    elif change == "vae":
        request = ModelRequest(device="cpu", vae=save_tiny_base(tmp_path / "vae", seed=3))
    elif change == "dtype":
        request = ModelRequest(device="cpu", dtype="bf16")
    base = session.load(str(own), request, offload=change == "offload")
    assert len(loaded) == 2 and first() is None and session.load(str(own), request, offload=change == "offload") is base
    render(own, loras, tmp_path / "grid", session, vae=request.vae, dtype=request.dtype)
    assert len(loaded) == (3 if change == "offload" else 2)


def test_a_base_that_cannot_be_loaded_leaves_nothing(folder: Path, tmp_path: Path, session: Session) -> None:
    first = weakref.ref(session.load(str(folder), ModelRequest(device="cpu")).unet)
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(BaseModelError):
        session.load(str(broken), ModelRequest(device="cpu"))
    assert first() is None and session._loaded is None
    with pytest.raises(BaseModelError, match="no base model"):
        session.load(str(tmp_path / "none"), ModelRequest(device="cpu"))


def test_the_base_is_called_as_it_is_named_now(folder: Path, tmp_path: Path, session: Session) -> None:
    link = tmp_path / "another name"
    link.symlink_to(folder, target_is_directory=True)
    base = session.load(str(folder), ModelRequest(device="cpu"))
    assert base.name == "tiny" and session.load(str(link), ModelRequest(device="cpu")) is base
    assert base.name == "another name"


def test_engines_are_kept_for_equal_options_and_never_after_an_error(base: Base, session: Session) -> None:
    with session.drawer(base, EngineOptions(), encode_prompts) as first:
        pass
    with session.drawer(base, EngineOptions(), PromptEncoder()) as again:
        assert again is first
    with session.drawer(base, EngineOptions(batch=2), encode_prompts) as other:
        assert other is not first
    with pytest.raises(KeyboardInterrupt), session.drawer(base, EngineOptions(batch=2), encode_prompts) as same:
        assert same is other
        raise KeyboardInterrupt
    with session.drawer(base, EngineOptions(batch=2), encode_prompts) as fresh:
        assert fresh is not other


def test_what_is_said_goes_to_who_asks_now(base: Base, session: Session) -> None:
    first: list[str] = []
    second: list[str] = []
    with session.drawer(base, EngineOptions(), encode_prompts, first.append):
        pass
    with session.drawer(base, EngineOptions(), encode_prompts, second.append) as engine:
        engine._memory.say("a")
        engine._decoder.say("b")
    assert (first, second) == ([], ["a", "b"])
    with session.drawer(base, EngineOptions(), encode_prompts) as engine:
        engine._decoder.say("to nobody")
    assert second == ["a", "b"]


def test_prompts_are_encoded_anew_with_other_embeddings(base: Base, session: Session) -> None:
    plain, other = PromptEncoder(), PromptEncoder(object())  # type: ignore[arg-type]
    found = []
    for encode in (plain, encode_prompts, PromptEncoder(), other, other, plain):
        with session.drawer(base, EngineOptions(), encode) as engine:
            found.append(bool(engine._prompts._guides))
            engine._prompts._guides["x"] = None  # type: ignore[assignment]
    assert found == [False, True, True, False, True, False]


def test_a_base_that_exceeds_the_device_rests_in_main_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    load = session_module.load_any_base

    def loading(name: str, **given: Any) -> Base:
        asked.append(given["parked"])
        if not given["parked"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return load(name, **given)

    monkeypatch.setattr(session_module, "load_any_base", loading)
    request = ModelRequest(device="cpu")
    assert session_module.load_model(str(folder), request).family == "sd1" and asked == [False, True]
