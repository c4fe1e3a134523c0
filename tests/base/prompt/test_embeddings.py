from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.prompt.embeddings import Embeddings, read_embedding, read_embeddings
from loratools.base.prompt.prompt import sections
from loratools.base.prompt.prompt_chunks import split_chunks
from loratools.base.prompt.prompt_encoding import encode_prompts, used_embeddings
from loratools.errors import FileError, FormatError, LoratoolsError, PromptError
from tests.base.tiny_xl import save_tiny_xl

WIDTH = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each kind, one in a folder below, and one for another base."""
    folder = tmp_path_factory.mktemp("embeddings")
    torch.manual_seed(0)
    torch.save(
        {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": torch.nn.Parameter(torch.randn(3, WIDTH))},
            "name": "other",
            "step": 1,
        },
        folder / "badink.pt",
    )
    torch.save({"<hat>": torch.randn(WIDTH)}, folder / "hatty.bin")
    (folder / "more").mkdir()
    save_file({"emb_params": torch.randn(2, WIDTH).half()}, folder / "more" / "badink-v2.safetensors")
    save_file({"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}, folder / "xlstyle.safetensors")
    (folder / "readme.txt").write_text("not one")
    return folder


@pytest.fixture(scope="module")
def known(files: Path, base: Base) -> Embeddings:
    return read_embeddings(files, base)


def vectors(known: Embeddings, name: str) -> Tensor:
    return next(one.vectors[0] for one in known if one.name == name)


def embedded(base: Base, known: Embeddings, text: str) -> Tensor:
    """What the text encoder's first layer reads of the first chunk."""
    seen: list[Tensor] = []
    embeddings = getattr(base.text_encoder, "text_model", base.text_encoder).embeddings
    handle = embeddings.register_forward_hook(lambda _m, _i, out: seen.append(out))
    try:
        encode_prompts(base, [text], 4, embeddings=known)
    finally:
        handle.remove()
    places: Tensor = embeddings.position_embedding.weight
    return seen[0][0] - places[:77]


def test_files_of_every_kind_are_read(known: Embeddings, files: Path) -> None:
    assert {one.name: tuple(one.vectors[0].shape) for one in known} == {
        "badink": (3, 16),
        "hatty": (1, 16),
        "badink-v2": (2, 16),
        "xlstyle": (2, 768),
    }
    one = next(one for one in known if one.name == "badink")
    assert one.digest == sha256((files / "badink.pt").read_bytes()).hexdigest()
    assert [tuple(own.shape) for own in read_embedding(files / "xlstyle.safetensors").vectors] == [(2, 768), (2, 1280)]


def test_vectors_stand_where_the_name_stood(base: Base, known: Embeddings) -> None:
    got = embedded(base, known, "red, BadInk hat")
    plain = embedded(base, known, "red, ")
    torch.testing.assert_close(got[:3], plain[:3])
    torch.testing.assert_close(got[3:6], vectors(known, "badink"), rtol=1e-5, atol=1e-5)
    assert len(base.text_encoder.get_input_embeddings()._forward_hooks) == 0
    torch.testing.assert_close(embedded(base, known, "(badink-v2:1.2)")[1:3], vectors(known, "badink-v2"))


def test_a_chunk_never_tears_an_embedding(base: Base, known: Embeddings) -> None:
    assert [len(one) for one in split_chunks(base.tokenizer, sections("hat " * 73 + "badink"), known.finder(0))] == [
        73,
        3,
    ]
    assert [len(one) for one in split_chunks(base.tokenizer, sections("hat " * 72 + "badink"), known.finder(0))] == [75]
    moved = split_chunks(base.tokenizer, sections("hat " * 70 + ", badink hat hat"), known.finder(0))
    assert [len(one) for one in moved] == [71, 5]
    assert [slot.vector is not None for slot in moved[1]] == [True] * 3 + [False] * 2


def test_who_is_named_at_any_step(base: Base, known: Embeddings) -> None:
    names = [one.name for one in used_embeddings(["a [hat:badink:0.5] AND hatty", "badink-v2, badink"], 4, known)]
    assert names == ["badink", "hatty", "badink-v2"]
    assert used_embeddings(["bad ink"], 4, known) == ()


def test_one_for_another_base_is_an_error_where_it_is_named(base: Base, known: Embeddings) -> None:
    assert encode_prompts(base, ["hat"], 4, embeddings=known)
    with pytest.raises(PromptError, match=r"'xlstyle' is for SDXL \(768\+1280\).*width 16"):
        encode_prompts(base, ["hat, xlstyle"], 4, embeddings=known)


def test_sdxl_takes_a_vector_for_each_encoder(tmp_path: Path) -> None:
    xl = load_base(save_tiny_xl(tmp_path / "xl"), device="cpu")
    folder = tmp_path / "embeddings"
    folder.mkdir()
    save_file({"clip_l": torch.ones(1, 16), "clip_g": torch.full((1, 16), 2.0)}, folder / "both.safetensors")
    seen: list[Tensor] = []
    handles = [
        encoder.get_input_embeddings().register_forward_hook(lambda _m, _i, out: seen.append(out), prepend=False)
        for encoder in xl.text_encoders
    ]
    known = read_embeddings(folder, xl)
    (chunk,) = split_chunks(xl.tokenizer, sections("both"), known.finder(1))
    assert chunk[0].vector is not None and chunk[0].vector.unique().tolist() == [2.0]
    with_it, without = (encode_prompts(xl, ["both"], 4, embeddings=own)[0].conjuncts[0].at(0) for own in (known, None))
    for handle in handles:
        handle.remove()
    differing = (with_it.hidden - without.hidden).abs().amax((0, 1))
    assert differing[:16].max() > 1e-3 and differing[16:].max() > 1e-3
    assert with_it.pooled is not None and not torch.equal(with_it.pooled, without.pooled)


def broken(path: Path) -> None:
    path.write_bytes(b"not a file of tensors")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.safetensors", broken, "cannot be read as an embedding"),
        ("a.pt", broken, "cannot be read as an embedding"),
        ("a.pt", lambda path: path.write_bytes(b""), "cannot be read as an embedding"),
        ("a.pt", lambda path: torch.save([1], path), "holds no tensors by name"),
        ("a.pt", lambda path: torch.save({"x": Path}, path), "cannot be read as an embedding"),  # code is never run
        ("a.safetensors", lambda path: save_file({"a": torch.ones(1, 4), "b": torch.ones(1, 4)}, path), "2 tensors"),
        ("a.safetensors", lambda path: save_file({"a": torch.ones(2, 2, 4)}, path), "should be"),
        ("a.safetensors", lambda path: save_file({"a": torch.full((1, 4), torch.nan)}, path), "NaN"),
        (
            "a.safetensors",
            lambda path: save_file({"clip_l": torch.ones(1, 4), "clip_g": torch.ones(2, 4)}, path),
            "as many",
        ),
    ],
)
def test_bad_files_are_told(tmp_path: Path, name: str, write, message: str) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path / name)
    with pytest.raises(FormatError, match=message):
        read_embedding(tmp_path / name)


def test_bad_folders_are_told(tmp_path: Path, base: Base) -> None:
    with pytest.raises(FileError, match="no folder of embeddings"):
        read_embeddings(tmp_path / "none", base)
    with pytest.raises(FileError, match="holds no embedding"):
        read_embeddings(tmp_path, base)
    for name in ("one.pt", "ONE.bin"):
        torch.save({"x": torch.ones(WIDTH)}, tmp_path / name)
    with pytest.raises(LoratoolsError, match="two embeddings are called"):
        read_embeddings(tmp_path, base)
    (tmp_path / "one.pt").unlink()
    torch.save({"x": torch.ones(80, WIDTH)}, tmp_path / "ONE.bin")
    with pytest.raises(PromptError, match="has 80 vectors, and 75"):
        encode_prompts(base, ["one"], 4, embeddings=read_embeddings(tmp_path, base))
