from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratools.blocks.presets import load_presets
from loratools.errors import BlockError, FileError, FormatError, MergeStringError
from loratools.ops.merging.terms import TermSpec, parse_merge_string, resolve_terms
from tests.loras import TINY_XL, lora_tensors, save
from tests.oracle import GP1

INLINE = ",".join(map(str, GP1))
PRESETS = load_presets()
NAMES = ["unet.mid_block.attentions.0.proj_in"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Test0:1:GP1,BASE:-1:GP2", [TermSpec("Test0", 1, "GP1"), TermSpec("BASE", -1, "GP2")]),
        (" Test0 : 1 : GP1 , BASE : -1 ", [TermSpec("Test0", 1, "GP1"), TermSpec("BASE", -1)]),
        ("A", [TermSpec("A")]),
        ("A,B", [TermSpec("A"), TermSpec("B")]),
        ("A:0.5:te=0.3:unet=2", [TermSpec("A", 0.5, None, 0.3, 2)]),
        ("A:te=0", [TermSpec("A", 1, None, 0)]),
        ("A:1:GP1:UNET=0.5,B:1", [TermSpec("A", 1, "GP1", 1, 0.5), TermSpec("B")]),
        (
            f"A:0.8:{INLINE},B:-1:{INLINE}:te=0,C",
            [TermSpec("A", 0.8, INLINE), TermSpec("B", -1, INLINE, 0), TermSpec("C")],
        ),
        ("A:1:OUT03=0.8,MID=0.5,B:1", [TermSpec("A", 1, "OUT03=0.8,MID=0.5"), TermSpec("B")]),
        ("A:1:GP1,OUT03=0.8,B:1", [TermSpec("A", 1, "GP1,OUT03=0.8"), TermSpec("B")]),
        (
            r"C:\loras\a b.safetensors:1:GP1,D:/x.safetensors:-1",
            [TermSpec(r"C:\loras\a b.safetensors", 1, "GP1"), TermSpec("D:/x.safetensors", -1)],
        ),
        ("C:1", [TermSpec("C", 1)]),
        ('"a,b:c d.safetensors":1:GP1,"q""q":-1', [TermSpec("a,b:c d.safetensors", 1, "GP1"), TermSpec('q"q', -1)]),
        (r'"C:\x,y\a.safetensors":2', [TermSpec(r"C:\x,y\a.safetensors", 2)]),
        (
            "style@8:1,style@6-8:0.5,run@best",
            [TermSpec("style", 1, epoch="8"), TermSpec("style", 0.5, epoch="6-8"), TermSpec("run", epoch="best")],
        ),
        ("../a/b.safetensors:1e-1", [TermSpec("../a/b.safetensors", 0.1)]),
        ('"0.5":1', [TermSpec("0.5", 1)]),
    ],
)
def test_merge_strings(text: str, terms: list[TermSpec]) -> None:
    assert parse_merge_string(text) == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty term"),
        ("A:1,,B:1", "empty term"),
        ("A:1,", "empty term"),
        (":1", "empty term"),
        ("A:GP1", r"'GP1' stands where the weight of A should be.*write A:1:GP1"),
        ("A:", "stands where the weight"),
        ("A:1:", "empty block vector"),
        ("A:nan", "finite number"),
        ("A:inf", "finite number"),
        ("A:1:GP1:GP2", "one field too many"),
        ("A:1:te=x", "te= of A"),
        ("A:1:te=1:te=2", "one field too many"),
        ("A:1,0.5", "is a number, not a LoRA"),
        ('"A:1', "not closed"),
        ('x"A":1', "enclose a whole name"),
    ],
)
def test_merge_strings_that_cannot_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(MergeStringError, match=message):
        parse_merge_string(text)


REFS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda t: t == t.strip()
)
VECTORS = st.one_of(
    st.none(),
    st.sampled_from(["GP1", "ALL0.5", "OUT03=0.8,MID=0.5", "GP1,OUT03=0.8"]),
    st.lists(st.floats(-3, 3), min_size=1, max_size=30).map(lambda values: ",".join(map(repr, values))),
)
NUMBERS = st.floats(-100, 100)
SPECS = st.builds(
    TermSpec,
    REFS.filter(lambda t: "@" not in t),
    NUMBERS,
    VECTORS,
    NUMBERS,
    NUMBERS,
    st.sampled_from([None, "8", "6-8", "best"]),
)


@given(st.lists(SPECS, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_any_terms_are_read_back_from_their_text(specs: list[TermSpec]) -> None:
    assert parse_merge_string(",".join(spec.text() for spec in specs)) == specs


@given(st.text(st.sampled_from('ab1,:"=.-@\\/ GP'), max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_terms_or_a_named_error(text: str) -> None:
    try:
        assert parse_merge_string(text)
    except MergeStringError as error:
        assert "\n" not in str(error)


def test_terms_are_resolved_with_their_strengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "style.safetensors", lora_tensors(rank=1))
    monkeypatch.chdir(tmp_path)
    (term,) = resolve_terms(parse_merge_string("style:-2:GP1:te=0.5:unet=3"), presets=PRESETS)
    assert term.strength("text_encoder.text_model.encoder.layers.0.mlp.fc1") == -2 * 1.0 * 0.5
    assert term.strength("unet.down_blocks.0.attentions.0.proj_in") == -2 * 0.6 * 3
    assert term.strength("unet.conv_out") == -2 * 3 and term.label == "style"


def test_epochs_are_resolved_and_averaged(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save(tmp_path / f"ink-{number:06d}.safetensors", lora_tensors(names=NAMES, rank=1, seed=number))

    def resolve(text: str) -> list[tuple[str, float, str]]:
        terms = resolve_terms(parse_merge_string(text), lambda ref: tmp_path, presets=PRESETS, best=lambda run: 2)
        return [(term.label, term.weight, term.adapter.path.name) for term in terms]

    assert resolve("ink@2:3") == [("ink@2", 3, "ink-000002.safetensors")]
    assert resolve("ink") == [("ink@3", 1, "ink-000003.safetensors")] and resolve("ink@best")[0][0] == "ink@2"
    assert resolve("ink@2-3") == [("ink@2", 0.5, "ink-000002.safetensors"), ("ink@3", 0.5, "ink-000003.safetensors")]
    with pytest.raises(FileError, match="no training run"):
        resolve_terms(parse_merge_string("x@2"), lambda ref: tmp_path / "ink-000001.safetensors", presets=PRESETS)


def test_a_short_vector_on_a_locon_says_what_one_and_zero_do(tmp_path: Path) -> None:
    path = save(tmp_path / "locon.safetensors", lora_tensors(rank=1, conv=True))
    specs = parse_merge_string("x:2:GP1")
    with pytest.raises(BlockError, match=r"22 modules .*IN03.*--missing 1 keeps them .* --missing 0 removes them"):
        resolve_terms(specs, lambda ref: path, presets=PRESETS)
    for missing, strength in ((1.0, 2.0), (0.0, 0.0)):
        (term,) = resolve_terms(specs, lambda ref: path, presets=PRESETS, missing=missing)
        assert term.strength("unet.down_blocks.0.downsamplers.0.conv") == strength
        assert term.strength("unet.down_blocks.0.resnets.0.conv1") == 2 * 0.6 and len(term.unlisted()) == 22
    resolve_terms(parse_merge_string("x:1:" + ",".join(["0.5"] * 26)), lambda ref: path, presets=PRESETS)


def test_vectors_of_another_family_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1, sizes=TINY_XL))
    with pytest.raises(BlockError, match="'GP1' is for SD1/SD2"):
        resolve_terms(parse_merge_string("x:1:GP1"), lambda ref: path, presets=PRESETS)
    with pytest.raises(FileError, match="no LoRA 'none'"):
        resolve_terms(parse_merge_string("none:1"), presets=PRESETS)
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 9)
    with pytest.raises(FormatError, match="junk"):
        resolve_terms(parse_merge_string("junk:1"), lora_dirs=[tmp_path], presets=PRESETS)
