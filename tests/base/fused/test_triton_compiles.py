"""What Triton's compiler takes, seen without a GPU: its interpreter runs kernels that the compiler refuses."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[3] / "loratools/base/fused/triton_kernels.py"
HALF, FULL, NUMBER = "*fp16", "*fp32", "i32"
SIZES = {"pixels": NUMBER, "channels": NUMBER}
KERNELS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "_moments": (
        {"x": HALF, "added": HALF, "means": FULL, "squares": FULL, **SIZES},
        {"PIXELS": 128, "BLOCK": 64},
    ),
    "_affine": (
        {
            **dict.fromkeys(("means", "squares", "scale", "shift"), FULL),
            **dict.fromkeys(("weight", "bias", "added"), HALF),
            **SIZES,
            "chunks": NUMBER,
            "group_size": NUMBER,
            "eps": "fp32",
        },
        {"PIXELS": 128, "BLOCK": 64, "AT_ONCE": 16},
    ),
    "_apply": (
        {"x": HALF, "scale": FULL, "shift": FULL, "y": HALF, **SIZES},
        {"PIXELS": 32, "BLOCK": 64},
    ),
    "_residual": (
        {"x": HALF, "residual": HALF, "bias": HALF, "y": HALF, **SIZES},
        {"PIXELS": 32, "BLOCK": 64},
    ),
}


def kernels() -> list[ast.FunctionDef]:
    functions = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [own for own in functions if any(ast.unparse(each).startswith("triton.jit") for each in own.decorator_list)]


def test_every_kernel_is_listed() -> None:
    assert {own.name for own in kernels()} == set(KERNELS)


@pytest.mark.parametrize("kernel", kernels(), ids=lambda own: own.name)
def test_a_kernel_refers_to_its_arguments_and_to_triton_alone(kernel: ast.FunctionDef) -> None:
    """Triton's compiler refuses every other global name, in annotations too."""
    names = [node for node in ast.walk(kernel) if isinstance(node, ast.Name)]
    own = {argument.arg for argument in kernel.args.args}
    own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names if isinstance(node.ctx, ast.Load)} - own <= {"tl", "triton", "range"}


@pytest.mark.parametrize("kernel", kernels(), ids=lambda own: own.name)
def test_sizes_are_no_constants(kernel: ast.FunctionDef) -> None:
    """Each constant's value is compiled for anew, which takes a quarter of a second: a UNet has many sizes."""
    constants = {own.arg for own in kernel.args.args if own.annotation and "constexpr" in ast.unparse(own.annotation)}
    assert constants <= {"ADDED", "SILU", "PIXELS", "BLOCK", "AT_ONCE"}


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("name", list(KERNELS))
def test_a_kernel_compiles_for_an_h200(name: str, flag: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ahead of time, which takes no GPU; where Triton is installed."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from loratools.base.fused import triton_kernels

    kernel = getattr(triton_kernels, name)
    if type(kernel).__name__ != "JITFunction":
        pytest.skip("Triton's interpreter is on")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    signature, constants = KERNELS[name]
    constants = {**constants, **{own: flag for own in ("ADDED", "SILU") if own in kernel.arg_names}}
    source = ASTSource(kernel, {**signature, **dict.fromkeys(constants, "constexpr")}, constants)
    assert ".target sm_90" in triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
