"""Small taggers with known answers: what a graph says of a picture is a formula of the mean colour of its input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.dataset.onnx_graphs import node, save_graph

WD_TAGS = [
    ("general", 9),
    ("sensitive", 9),
    ("questionable", 9),
    ("explicit", 9),
    ("1girl", 0),
    ("blue_hair", 0),
    (">_<", 0),
    ("long_hair", 0),
    ("hatsune_miku", 4),
    ("miku_(vocaloid)", 4),
]
# each output of the WD graph is a share of blue, green or red (its input is BGR, 0 to 255), or a constant
WD_ROWS = [
    ("b", 0.9),
    ("g", 0.9),
    ("r", 0.8),
    ("one", 0.0),
    ("one", 0.95),
    ("b", 0.7),
    ("g", 0.6),
    ("one", 0.3),
    ("r", 0.9),
    ("one", 0.06),
]


def wd_tagger(folder: Path, side: int | None = 8, batch: int | None = None, tags: int = len(WD_TAGS)) -> Path:
    """A WD tagger: probabilities of NHWC BGR values from 0 to 255."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((3, len(WD_ROWS)), dtype=np.float32)
    bias = np.zeros(len(WD_ROWS), dtype=np.float32)
    for column, (colour, value) in enumerate(WD_ROWS):
        if colour == "one":
            bias[column] = value
        else:
            weights["bgr".index(colour), column] = value / 255
    nodes = [
        node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        node("Gemm", ["mean", "weights", "bias"], ["probabilities"]),
    ]
    size = "side" if side is None else side
    path = save_graph(
        folder / "model.onnx",
        nodes,
        ["batch" if batch is None else batch, size, size, 3],
        {"weights": weights, "bias": bias},
        {"probabilities": ["n", len(WD_ROWS)]},
    )
    lines = [f"{number},{name},{category},100" for number, (name, category) in enumerate(WD_TAGS[:tags])]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *lines]) + "\n")
    return path


CL_TAGS = [
    ("general", "Rating"),
    ("explicit", "Rating"),
    ("smile", "General"),
    ("hat", "General"),
    ("hatsune_miku", "Character"),
    ("vocaloid", "Copyright"),
    ("someone", "Artist"),
    ("highres", "Meta"),
    ("best_quality", "Quality"),
    ("bad_quality", "Quality"),
]
CL_LOGITS = np.array([2, -2, 0, 0, 3, 1, 4, 3, 1, -1], dtype=np.float32)


def cl_tagger(folder: Path, *, nested: bool = True) -> Path:
    """A CL tagger: logits of NCHW BGR values from -1 to 1; ``smile`` is 4 x blue, ``hat`` 4 x red."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((3, len(CL_TAGS)), dtype=np.float32)
    weights[0, 2] = weights[2, 3] = 4
    nodes = [
        node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
        node("Gemm", ["mean", "weights", "bias"], ["logits"]),
    ]
    path = save_graph(
        folder / "model_optimized.onnx",
        nodes,
        ["batch", 3, 8, 8],
        {"weights": weights, "bias": CL_LOGITS},
        {"logits": ["n", len(CL_TAGS)]},
    )
    data: dict[str, object] = {str(index): {"tag": tag, "category": kind} for index, (tag, kind) in enumerate(CL_TAGS)}
    if not nested:
        data = {
            "idx_to_tag": {str(index): tag for index, (tag, _) in enumerate(CL_TAGS)},
            "tag_to_category": dict(CL_TAGS),
        }
    (folder / "tag_mapping.json").write_text(json.dumps(data))
    return path


def deepdanbooru(folder: Path) -> Path:
    """DeepDanbooru in deepghs' layout: probabilities of NHWC RGB values from 0 to 1, which are the mean red, the mean
    green, and a safe rating."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32)
    nodes = [
        node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        node("Gemm", ["mean", "weights", "bias"], ["probabilities"]),
    ]
    bias = np.array([0, 0, 0.9], dtype=np.float32)
    path = save_graph(
        folder / "deepdanbooru.onnx",
        nodes,
        [1, 16, 16, 3],
        {"weights": weights, "bias": bias},
        {"probabilities": [1, 3]},
    )
    (folder / "deepdanbooru_tags.csv").write_text(
        "name,real_name,category\nred_dress,red dress,0\ngreen_eyes,green eyes,0\nrating:safe,rating:safe,9\n"
    )
    return path
