"""Every merge method against its paper's formula on dense float64 matrices, and what all of them have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loratools.adapter.algebra.lowrank import Dense, LowRank, Vector
from loratools.adapter.algebra.rank import Fixed
from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.errors import LoratoolsError, MergeStringError, OptionError
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.method import MergeMethod
from loratools.ops.merging.methods.build import build
from loratools.ops.merging.methods.declared import METHODS, PARAMETERS, find_method, method_table
from loratools.ops.merging.methods.elementwise import breadcrumbs, dare, ties
from loratools.ops.merging.methods.sphere import karcher
from loratools.ops.merging.terms import Term
from tests.loras import save
from tests.ops.conftest import CONV, LINEAR, POINT, TEXT, Made, dense, distance, terms

DOCS = Path(__file__).parents[3] / "docs"
TERMS = {"two": "A:0.8,B:0.5", "signs": "A:1:GP1,B:-0.6:GP2", "three": "A:0.5,B:0.7,C:0.4"}
OTHERS = [name for name in METHODS if name != "exact"]


# --- the papers' formulas, on whole matrices -----------------------------------------------------------------------


def by_core(matrices: Sequence[Tensor], strengths: Sequence[float], method: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """2509.17786: the reference bases are the singular vectors of all balanced factors side by side, which are the
    eigenvectors of ``sum (d d^T)^(1/2)`` and ``sum (d^T d)^(1/2)``; each difference in them, the method, and back."""
    plain = [matrix / strength for matrix, strength in zip(matrices, strengths, strict=True)]
    left, right = reference(plain), reference([matrix.T for matrix in plain])
    return left @ method([left.T @ m @ right for m in matrices]) @ right.T


def reference(matrices: Sequence[Tensor]) -> Tensor:
    total = torch.zeros(matrices[0].shape[0], matrices[0].shape[0], dtype=torch.float64)
    for matrix in matrices:
        u, s, _ = torch.linalg.svd(matrix, full_matrices=False)
        total += (u * s) @ u.T
    values, vectors = torch.linalg.eigh(total)
    return vectors[:, values > 1e-9 * values[-1]]


def ties_formula(matrices: Sequence[Tensor], density: float) -> Tensor:
    """2306.01708, entry by entry."""
    kept = []
    for matrix in matrices:
        bound = matrix.abs().flatten().sort(descending=True).values[math.ceil(density * matrix.numel()) - 1]
        kept.append(matrix * (matrix.abs() >= bound))
    result = torch.zeros_like(matrices[0])
    for place in torch.cartesian_prod(*map(torch.arange, result.shape)).tolist():
        values = [float(matrix[tuple(place)]) for matrix in kept]
        sign = math.copysign(1, sum(values))
        agreeing = [value for value in values if value * sign > 0]
        result[tuple(place)] = sum(agreeing) / len(agreeing) if agreeing else 0.0
    return result


def breadcrumbs_formula(matrices: Sequence[Tensor], density: float, gamma: float) -> Tensor:
    """2312.06795: of each, entries from the gamma-th to the (gamma + density)-th largest."""
    total = torch.zeros_like(matrices[0])
    for matrix in matrices:
        values = matrix.abs().flatten().sort(descending=True).values
        first = math.floor(gamma * len(values))
        last = min(first + math.ceil(density * len(values)), len(values))
        total += matrix * ((matrix.abs() <= values[first]) & (matrix.abs() >= values[last - 1]))
    return total


def knots_formula(matrices: Sequence[Tensor], density: float) -> Tensor:
    """2410.19735 on the whole matrices."""
    u, s, v = torch.linalg.svd(torch.cat(list(matrices), 1), full_matrices=False)
    known = s > 1e-9 * s[0]
    sides = (torch.diag(s[known]) @ v[known]).chunk(len(matrices), 1)
    return u[:, known] @ ties_formula(sides, density)


def iso_formula(matrices: Sequence[Tensor]) -> Tensor:
    """2502.04959: mean singular value on every direction of the sum."""
    u, s, v = torch.linalg.svd(sum(matrices, torch.zeros(())), full_matrices=False)
    known = s > 0.001 * s[0]
    return u[:, known] @ torch.diag(s[known].mean().expand(int(known.sum()))) @ v[known]


def tsv_formula(matrices: Sequence[Tensor], keep: float) -> Tensor:
    """2412.00081, orthogonalised by ``X (X^T X)^(-1/2)``."""
    parts = []
    for matrix in matrices:
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        rank = int((s > 1e-9 * s[0]).sum()) if float(s[0]) else 0
        parts.append((u, s, v, math.ceil(keep * rank)))
    if sum(part[3] for part in parts) > min(matrices[0].shape):
        parts = [(u, s, v, min(k, max(min(matrices[0].shape) // len(parts), 1))) for u, s, v, k in parts]
    values = torch.cat([s[:k] for _, s, _, k in parts])
    sides = [torch.cat([u[:, :k] for u, _, _, k in parts], 1), torch.cat([v[:k].T for _, _, v, k in parts], 1)]
    whitened = []
    for side in sides:
        squares, turn = torch.linalg.eigh(side.T @ side)
        assert float(squares[0]) > 1e-9
        whitened.append(side @ (turn / squares.sqrt()) @ turn.T)
    return whitened[0] @ torch.diag(values) @ whitened[1].T


def slerp_formula(a: Tensor, b: Tensor, way: float) -> Tensor:
    """Shoemake 1985, of unit vectors."""
    angle = torch.arccos((a * b).sum())
    return (torch.sin((1 - way) * angle) * a + torch.sin(way * angle) * b) / torch.sin(angle)


def karcher_formula(units: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Karcher 1977: steps on the sphere itself, in the space of whole matrices."""
    mean = sum((p * u for p, u in zip(shares, units, strict=True)), torch.zeros(()))
    for _ in range(300):
        mean = mean / mean.norm()
        tangent = torch.zeros_like(mean)
        for p, u in zip(shares, units, strict=True):
            near = (mean * u).sum()
            tangent += p * torch.arccos(near.clamp(-1, 1)) * (u - near * mean) / (u - near * mean).norm()
        size = tangent.norm()
        if size < 1e-13:
            break
        mean = torch.cos(size) * mean + torch.sin(size) * tangent / size
    return mean


def on_sphere(matrices: Sequence[Tensor], strengths: Sequence[float], name: str) -> Tensor:
    units = [matrix / matrix.norm() for matrix in matrices]
    shares = [abs(strength) / sum(map(abs, strengths)) for strength in strengths]
    mean = slerp_formula(units[0], units[1], shares[1]) if name == "slerp" else karcher_formula(units, shares)
    return mean * sum(float(matrix.norm()) for matrix in matrices)


def formula(name: str, matrices: Sequence[Tensor], strengths: Sequence[float]) -> Tensor:
    match name:
        case "ties":
            return by_core(matrices, strengths, lambda cores: ties_formula(cores, 0.6))
        case "breadcrumbs":
            return by_core(matrices, strengths, lambda cores: breadcrumbs_formula(cores, 0.7, 0.1))
        case "knots":
            return knots_formula(matrices, 0.6)
        case "iso-c":
            return iso_formula(matrices)
        case "tsv-m":
            return tsv_formula(matrices, 0.7)
    return on_sphere(matrices, strengths, name)


ASKED = {
    "ties": {"density": 0.6},
    "breadcrumbs": {"density": 0.7, "gamma": 0.1},
    "knots": {"density": 0.6},
    "iso-c": {"floor": 0.001},
    "tsv-m": {"keep": 0.7},
    "slerp": {},
    "karcher": {},
}


# --- the tests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plain LoRA, one of another rank without the text encoder, and a LoHa."""
    folder = tmp_path_factory.mktemp("files")
    return {
        "A": Made(rank=2, seed=1).save(folder / "A.safetensors"),
        "B": Made(rank=3, seed=2, names=(LINEAR, POINT, CONV)).save(folder / "B.safetensors"),
        "C": Made("loha", rank=2, seed=3, names=(LINEAR, CONV)).save(folder / "C.safetensors"),
        "D": Made("diff", seed=4).save(folder / "D.safetensors"),
        "K": Made("lokr", rank=1, seed=5).save(folder / "K.safetensors"),
    }


def parts(asked: Sequence[Term], name: str) -> list[tuple[float, Tensor]]:
    """Each term's strength and its difference as a matrix, of a module."""
    known = [(term.strength(name), dense(term.adapter.path)[name]) for term in asked if name in term.adapter]
    return [(strength, matrix) for strength, matrix in known if strength != 0]


@pytest.mark.parametrize("text", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("name", ASKED)
def test_a_method_is_its_papers_formula(files: dict[str, Path], name: str, text: str) -> None:
    if name == "slerp" and text.count(",") > 1:
        pytest.skip("slerp is between two")
    asked = terms(text, 1.0, **files)
    merged = build(find_method(name).name, asked, ASKED[name])
    assert set(merged) == {module for term in asked for module in term.adapter}
    for module in merged:
        given = parts(asked, module)
        matrices = [strength * matrix for strength, matrix in given]
        strengths = [strength for strength, _ in given]
        alone = len(given) == 1 and name in ("slerp", "karcher")
        wanted = matrices[0] if alone else formula(name, matrices, strengths)
        made = merged[module]
        assert made.shape == merged.shapes[module] and made.rank == merged.ranks[module]
        assert float((made.dense().flatten(1) - wanted).norm()) < 1e-6 * float(wanted.norm()), module


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", ["diff", "lokr"])
def test_every_kind_is_merged_as_what_it_adds(files: dict[str, Path], tmp_path: Path, name: str, kind: str) -> None:
    """A full difference and a LoKr are merged like the plain LoRA that has the same differences."""
    other = files["D" if kind == "diff" else "K"]
    tensors = {}
    adapter = read(other)
    for module in adapter:
        u, s, v = torch.linalg.svd(dense(other)[module], full_matrices=False)
        rank = int((s > 1e-6 * s[0]).sum())
        u, s, v = u[:, :rank], s[:rank], v[:rank]
        stem, ones = adapter.stem(module), (1,) * (len(adapter.shapes[module]) - 2)
        tensors[f"{stem}.lora_up.weight"] = (u * s).float().reshape(len(u), -1, *ones).contiguous()
        tensors[f"{stem}.lora_down.weight"] = v.float().reshape(-1, *adapter.shapes[module][1:]).contiguous()
    files = {"A": files["A"], "X": other, "Y": save(tmp_path / "Y.safetensors", tensors)}
    one, same = (MergeMethod(find_method(name).name).result(terms(f"A:1,{x}:0.5", **files)) for x in "XY")
    assert one is not None and same is not None
    for module in one:
        assert isinstance(one[module], Dense if kind == "diff" else LowRank)
        assert torch.allclose(one[module].dense(), same[module].dense(), atol=2e-5), module


@pytest.mark.parametrize("name", OTHERS)
def test_weights_scale_the_result_and_norms_and_biases_are_not_lost(tmp_path: Path, name: str) -> None:
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    for seed, letter in enumerate("AB"):
        path = Made(seed=seed, names=(LINEAR, CONV)).save(tmp_path / f"{letter}.safetensors")
        torch.manual_seed(seed)
        more = {f"{stem}.diff_b": torch.randn(6), "lora_unet_conv_norm_out.w_norm": torch.randn(4)}
        save_file({**load_file(path), **more}, path)
    files = {letter: tmp_path / f"{letter}.safetensors" for letter in "AB"}
    method = MergeMethod(find_method(name).name)
    once, thrice = (method.result(terms(text, **files)) for text in ("A:0.5,B:0.25", "A:1.5,B:0.75"))
    assert once is not None and thrice is not None
    vectors = [module for module in once if len(once.shapes[module]) == 1]
    assert set(vectors) == {"unet.conv_norm_out.weight", f"{CONV}.bias"}
    for module in once:
        assert torch.allclose(3 * once[module].dense(), thrice[module].dense(), atol=1e-5), module
    assert all(isinstance(once[module], Vector) and float(once[module].norm()) > 0 for module in vectors)
    report = merge_files(terms("A:0.5,B:0.25", **files), tmp_path / "o.safetensors", method=method)
    stored = read(report.path)
    assert set(vectors) < set(stored) and report.error < 1e-3
    for module in stored:
        assert float((stored[module].dense() - once[module].dense()).norm()) < 2e-3 * float(once[module].norm())


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_says_its_method_and_its_distance_from_the_sum(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    asked = terms("A:1,B:0.5", **files)
    method = MergeMethod(find_method(name).name)
    report = merge_files(asked, tmp_path / "o.safetensors", method=method, rule=Fixed(2))
    a, b = dense(files["A"]), dense(files["B"])
    exact = {module: a[module] + 0.5 * b[module] if module in b else a[module] for module in a}
    assert report.distance is not None and report.rank <= 2
    assert report.distance.error == pytest.approx(distance(report.path, exact), rel=1e-3)
    made = Provenance.from_metadata(read(report.path).metadata)
    assert made is not None
    own = {parameter.name: parameter.default for parameter in METHODS[name].parameters}
    assert {key: made.step[key] for key in ("method", *own)} == {"method": name, **own}
    best = method.result(asked)
    assert best is not None
    for module in best:  # the rank rule is the best approximation of what the method made
        whole = best[module].dense().flatten(1)
        lost = float(torch.linalg.svdvals(whole)[2:].norm())
        assert float((dense(report.path)[module] - whole).norm()) == pytest.approx(lost, abs=5e-3 * float(whole.norm()))


def test_dare_draws_by_seed_module_and_term_and_its_mean_is_the_sum(files: dict[str, Path]) -> None:
    asked = terms("A:1,B:1", **files)
    one, again, other = (build("dare", asked, {"density": 0.3, "seed": seed})[LINEAR].dense() for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.allclose(one, other)
    rest = terms("B:1,A:0:ALL,C:1", **files)  # a term that is switched off moves no other draw
    assert [term.label for term in rest] == ["B", "A", "C"]
    given = [matrix for _, matrix in parts(asked, LINEAR)]
    left, right = reference(given), reference([matrix.T for matrix in given])
    cores = [left.T @ matrix @ right for matrix in given]
    (drawn,) = [left.T @ one.flatten(1) @ right]
    sums = [0 * cores[0], cores[0] / 0.3, cores[1] / 0.3, (cores[0] + cores[1]) / 0.3]
    nearest = torch.stack([(drawn - value).abs() for value in sums]).min(0)
    assert float(nearest.values.max()) < 1e-4 and len(nearest.indices.unique()) == 4
    matrices = [torch.randn(4, 5, dtype=torch.float64) for _ in range(2)]
    many = torch.stack([dare(matrices, 0.5, seed, ["x\n0", "x\n1"]) for seed in range(4000)])
    total = matrices[0] + matrices[1]
    norm2 = float((matrices[0] ** 2 + matrices[1] ** 2).sum())
    assert float((many.mean(0) - total).norm()) < 4 * math.sqrt(norm2 / 4000)
    assert float(((many - total) ** 2).sum((1, 2)).mean()) == pytest.approx(norm2, rel=0.1)
    assert torch.equal(dare(matrices, 1.0, 3, ["x\n0", "x\n1"]), total)


def test_ties_of_plain_matrices() -> None:
    one = torch.tensor([[4.0, -1.0], [0.1, 2.0]])
    other = torch.tensor([[2.0, 3.0], [0.2, -5.0]])
    assert torch.equal(ties([one, other], 1.0), torch.tensor([[3.0, 3.0], [0.15000000596046448, -5.0]]))
    assert torch.equal(ties([one, other], 0.5), torch.tensor([[4.0, 3.0], [0.0, -5.0]]))


def test_breadcrumbs_of_a_plain_matrix() -> None:
    matrix = torch.tensor([[10.0, -1.0, 2.0, 3.0, -4.0], [0.5, -6.0, 7.0, 8.0, -9.0]])
    kept = breadcrumbs([matrix], 0.7, 0.1)
    assert torch.equal(kept, torch.where((matrix.abs() < 10) & (matrix.abs() >= 2), matrix, 0.0))
    assert torch.equal(breadcrumbs([matrix], 0.9, 0.1), torch.where(matrix.abs() < 10, matrix, 0.0))
    assert torch.equal(breadcrumbs([matrix, matrix], 1.0, 0.0), 2 * matrix)


@pytest.mark.parametrize("name", ["ties", "dare", "breadcrumbs", "knots", "iso-c", "tsv-m"])
def test_a_result_does_not_depend_on_how_factors_are_written(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    mixed: dict[str, Tensor] = load_file(files["A"])
    torch.manual_seed(0)
    for stem in {key.partition(".")[0] for key in mixed}:
        up, down = mixed[f"{stem}.lora_up.weight"], mixed[f"{stem}.lora_down.weight"]
        gauge = torch.randn(2, 2).double() + 3 * torch.eye(2).double()
        mixed[f"{stem}.lora_up.weight"] = (up.flatten(1).double() @ gauge).float().reshape(up.shape)
        mixed[f"{stem}.lora_down.weight"] = (
            torch.linalg.solve(gauge, down.flatten(1).double()).float().reshape(down.shape).contiguous()
        )
    files = {**files, "Z": save(tmp_path / "Z.safetensors", mixed)}
    one, other = (MergeMethod(find_method(name).name).result(terms(f"{x}:1,B:-0.5", **files)) for x in "AZ")
    assert one is not None and other is not None
    for module in one:
        first, second = one[module].dense(), other[module].dense()
        assert float((first - second).norm() / first.norm()) < 1e-4


@pytest.mark.parametrize("name", OTHERS)
def test_zeros_that_pad_a_file_change_nothing(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    padded = {
        key: torch.cat([tensor, torch.zeros_like(tensor)], 1 if "up" in key else 0) if ".lora_" in key else 2 * tensor
        for key, tensor in load_file(files["A"]).items()
    }
    files = {**files, "P": save(tmp_path / "P.safetensors", padded)}
    one, other = (MergeMethod(find_method(name).name).result(terms(f"{x}:1,B:0.5", **files)) for x in "AP")
    assert one is not None and other is not None
    for module in one:
        assert torch.allclose(one[module].dense(), other[module].dense(), atol=1e-5), module


@pytest.mark.parametrize("name", OTHERS)
def test_modules_that_are_zero_stay_zero_and_count_for_nothing(tmp_path: Path, name: str) -> None:
    """As clip skip leaves a text encoder: in one file, and in both."""
    files = {
        "A": Made(seed=1, zero=(TEXT, POINT)).save(tmp_path / "A.safetensors"),
        "B": Made(seed=2, zero=(TEXT,)).save(tmp_path / "B.safetensors"),
    }
    merged = MergeMethod(find_method(name).name).result(terms("A:1,B:0.5", **files))
    assert merged is not None and float(merged[TEXT].norm()) == 0
    assert bool(torch.isfinite(merged[POINT].dense()).all()) and float(merged[POINT].norm()) > 0
    if name in ("slerp", "karcher", "tsv-m"):
        assert torch.allclose(merged[POINT].dense().flatten(1), 0.5 * dense(files["B"])[POINT], atol=1e-5)


def test_what_the_registry_says_of_errors_holds(files: dict[str, Path], tmp_path: Path) -> None:
    """TIES of one at density 1, the variance of Iso-C, TSV-M of orthogonal LoRAs, and means of equal LoRAs."""
    alone = build("ties", terms("A:0.7", **files), {"density": 1.0})
    for module, matrix in dense(files["A"]).items():
        assert torch.allclose(alone[module].dense().flatten(1), 0.7 * matrix, atol=1e-5)
    asked = terms("A:1,B:1", **files)
    flat = build("iso-c", asked, {"floor": 0.0})[LINEAR].dense().flatten(1)
    whole = sum(matrix for _, matrix in parts(asked, LINEAR))
    s = torch.linalg.svdvals(whole)[:5]
    assert float((flat - whole).norm() ** 2) == pytest.approx(len(s) * float(s.var(correction=0)), rel=1e-4)
    q, r = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64)).Q, torch.linalg.qr(torch.randn(8, 4).double()).Q
    apart = {}
    for place, letter in enumerate("OP"):
        up, down = q[:, 2 * place :][:, :2], r[:, 2 * place :][:, :2].T
        stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
        factors = {
            f"{stem}.lora_up.weight": up.float().contiguous(),
            f"{stem}.lora_down.weight": down.float().contiguous(),
        }
        apart[letter] = save(tmp_path / f"{letter}.safetensors", factors)
    merged = build("tsv-m", terms("O:1,P:2", **apart), {"keep": 1.0})[LINEAR].dense()
    assert torch.allclose(merged, dense(apart["O"])[LINEAR] + 2 * dense(apart["P"])[LINEAR], atol=1e-5)
    for name in ("slerp", "karcher"):
        twice = MergeMethod(find_method(name).name).result(terms("A:0.25,A:0.5", **files))
        assert twice is not None
        for module, matrix in dense(files["A"]).items():
            assert torch.allclose(twice[module].dense().flatten(1), 0.75 * matrix, atol=1e-5)


def test_a_mean_on_the_sphere_keeps_strength_where_the_plain_mean_loses_it(files: dict[str, Path]) -> None:
    for name in ("slerp", "karcher"):
        merged = MergeMethod(find_method(name).name).result(terms("A:0.5,B:0.5", **files))
        assert merged is not None
        a, b = dense(files["A"])[LINEAR], dense(files["B"])[LINEAR]
        assert merged[LINEAR].norm() == pytest.approx((float(a.norm()) + float(b.norm())) / 2, rel=1e-5)
        assert float((a + b).norm()) / 2 < 0.9 * merged[LINEAR].norm()
    cosines = torch.tensor([[1.0, 0.3, -0.2], [0.3, 1.0, 0.1], [-0.2, 0.1, 1.0]], dtype=torch.float64)
    mean = karcher(cosines, torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))
    assert float(mean @ cosines @ mean) == pytest.approx(1)
    with pytest.raises(MergeStringError, match="opposite directions"):
        MergeMethod("slerp").result(terms("A:1,A:-1", **files))[LINEAR]  # type: ignore[index]
    with pytest.raises(MergeStringError, match="opposite directions"):
        MergeMethod("karcher").result(terms("A:1,A:-1", **files))[LINEAR]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "numbers", "says"),
    [
        ("tise", {}, "no merge method 'tise'.*did you mean 'ties'"),
        ("ties", {"density": 0.0}, "density 0 is out of range; it is a fraction above 0 and at most 1, such as 0.5"),
        ("dare", {"density": 1.5}, "density 1.5 is out of range"),
        ("dare", {"seed": -1}, "seed -1 is out of range; it is a whole number from 0"),
        ("dare", {"seed": 0.5}, "seed 0.5 is out of range"),
        ("breadcrumbs", {"gamma": 1.0}, "gamma 1 is out of range"),
        ("breadcrumbs", {"density": 0.9, "gamma": 0.2}, "add up to at most 1"),
        ("iso-c", {"floor": float("nan")}, "floor nan is out of range"),
        ("tsv-m", {"keep": 0}, "keep 0 is out of range"),
        ("exact", {"density": 0.5}, "density is no parameter of the merge method exact.*goes with ties and dare"),
        ("slerp", {"gamma": 0.1}, "gamma is no parameter of the merge method slerp, which takes no number; gamma goes"),
        ("ties", {"keep": 0.5}, "which takes density; keep goes with tsv-m"),
    ],
)
def test_a_wrong_number_is_one_sentence(name: str, numbers: dict[str, float], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        MergeMethod(name, **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METHODS)
def test_too_few_or_too_many_files_are_said(files: dict[str, Path], name: str) -> None:
    method = MergeMethod(find_method(name).name)
    for text, count in (("A:1", 1), ("A:1,B:1,C:1", 3)):
        allowed = METHODS[name].least <= count <= (METHODS[name].most or count)
        if allowed:
            method.result(terms(text, **files))
        else:
            with pytest.raises(LoratoolsError, match=f"merge method {name} is .*, and the merge has {count}"):
                method.result(terms(text, **files))


def test_the_registry_is_whole() -> None:
    fields = MergeMethod.__dataclass_fields__
    assert set(PARAMETERS) <= set(fields)
    for method in METHODS.values():
        assert all((method.title, method.what, method.when, method.error, method.paper))
        assert MergeMethod(method.name).settings == {one.name: one.default for one in method.parameters}
    assert method_table() in (DOCS / "adapters.md").read_text(encoding="utf-8")
