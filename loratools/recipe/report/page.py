"""``report.html``: a run for people, in one file that needs no other and runs no script."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loratools.recipe.report.charts import loss_line, vector_bars
from loratools.recipe.run.estimate import size_text, time_text

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDEST, _TALLEST = 1600, 4000  # pixels of a picture inside the page
_STATES = {"made": "made", "cached": "cached", "failed": "failed", "not run": "skipped"}
_PICTURES = ("grid.png", "grid.webp", "grid.jpg")
_LONG = 400


def draw(facts: Mapping[str, Any], work: Path, run: str) -> str:
    """The page for the facts of :func:`loratools.recipe.report.facts.run_facts`; links are relative to ``work``,
    where ``run`` is the name of the file that holds the facts."""
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    steps: Sequence[Mapping[str, Any]] = facts["steps"]
    recipe = facts["recipe"]
    return template.substitute(
        title=_text(recipe["name"]),
        summary=_summary(facts),
        trouble="".join(_trouble(step) for step in steps if step["state"] == "failed"),
        pictures="".join(_pictures(step, work) for step in steps),
        rows="".join(_row(step, work) for step in steps),
        details="".join(_details(step, work) for step in steps),
        inputs="".join(_input(item) for item in facts["inputs"])
        or '<tr><td colspan="3">nothing but the base</td></tr>',
        file=_text(recipe["file"]),
        recipe=_text(recipe["text"]),
        includes="".join(
            f"<h3>{_text(name)}</h3><pre>{_text(text)}</pre>" for name, text in recipe["includes"].items()
        ),
        commands=_text("\n".join(facts["commands"])),
        run=_text(run),
        versions=_text(", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
    )


def _summary(facts: Mapping[str, Any]) -> str:
    steps = facts["steps"]
    counts = {state: sum(step["state"] == state for step in steps) for state in _STATES}
    listed = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    base = facts["recipe"]["base"]
    when = facts["finished"].replace("T", " ").replace("+00:00", " UTC")
    return _text(f"{len(steps)} steps: {listed} · {time_text(facts['seconds'])} · base {base} · {when}")


def _trouble(step: Mapping[str, Any]) -> str:
    return (
        f'<section class="trouble"><h2>{_text(step["step"])} failed</h2><p>{_text(step["error"])}</p>'
        "<p>What had been made stays. Mend this and run the recipe again; it goes on from here.</p>"
        "</section>"
    )


def _pictures(step: Mapping[str, Any], work: Path) -> str:
    """A grid, or a published preview: small inside the page, linked in full."""
    if step["state"] not in ("made", "cached"):
        return ""
    folder = work / step["out"]
    names = _PICTURES if step["kind"] == "grid" else ()
    if step["kind"] == "publish":
        names = tuple(name for name in step["files"] if name.endswith(".png"))
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    small = None if path is None else _embedded(path)
    if path is None or small is None:
        return ""
    page = folder / "grid.html"
    more = f' · <a href="{_link(page, work)}">zoom, compare and vote</a>' if page.is_file() else ""
    caption = f'{_text(step["step"])}: {_text(step["summary"])} · <a href="{_link(path, work)}">full size</a>{more}'
    return f'<figure><img src="{small}" alt="{_text(step["step"])}"><figcaption>{caption}</figcaption></figure>'


def _embedded(path: Path) -> str | None:
    """A picture as a data URI of bounded size; None if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.thumbnail((_WIDEST, _TALLEST))
            shrunk = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    stream = io.BytesIO()
    shrunk.save(stream, "WEBP", quality=82, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _row(step: Mapping[str, Any], work: Path) -> str:
    reads = ", ".join(dict.fromkeys(source["label"] for source in step["reads"])) or "-"
    there = (work / step["out"]).exists()
    out = f'<a href="{_link(work / step["out"], work)}">{_text(step["out"])}</a>' if there else _text(step["out"])
    time = time_text(step.get("seconds")) if "seconds" in step else "-"
    size = size_text(step.get("size")) if step.get("size") else "-"
    memory = size_text(step.get("memory")) if step.get("memory") else "-"
    summary = step.get("summary", step.get("error", ""))
    state = step["state"]
    return (
        f'<tr><th scope="row">{_text(step["step"])}</th><td>{_text(step["kind"])}</td>'
        f'<td><span class="state {_STATES[state]}">{state}</span></td><td class="n">{time}</td>'
        f'<td class="n">{size}</td><td class="n">{memory}</td><td>{_text(reads)}</td><td>{out}</td>'
        f"<td>{_text(summary)}</td></tr>"
    )


def _details(step: Mapping[str, Any], work: Path) -> str:
    """What there is to see of a step beside its line: losses, vectors, errors, options, digests."""
    parts = [*_losses(step, work), *_terms(step), *_errors(step), *_scores(step)]
    if step["options"]:
        parts.append(f"<details><summary>options</summary><pre>{_json(step['options'])}</pre></details>")
    files: Mapping[str, str] = step.get("files", {})
    if files:
        rows = "".join(
            f"<tr><td>{_text(name or step['out'])}</td><td><code>{_text(digest)}</code></td></tr>"
            for name, digest in list(files.items())[:_LONG]
        )
        parts.append(
            f"<details><summary>{len(files)} file{'s' * (len(files) != 1)}, sha256</summary>"
            f"<table>{rows}</table></details>"
        )
    head = f"<h3>{_text(step['step'])} <small>{_text(step['kind'])} · key <code>{step['key'][:12]}</code></small></h3>"
    return f'<section class="step">{head}{"".join(parts)}</section>'


def _losses(step: Mapping[str, Any], work: Path) -> Iterator[str]:
    losses = step.get("result", {}).get("losses")
    if not losses:
        return
    from loratools.train.output.read_log import read_log

    epoch = min((name for name in step["files"] if name.endswith(".safetensors")), default="")
    lines = [line for line in read_log(work / step["out"] / epoch) if _finite(line.get("step"))]
    steps = [(line["step"], line["loss"]) for line in lines if line.get("kind") == "step" and _finite(line.get("loss"))]
    ends = [line["step"] for line in lines if line.get("kind") == "epoch"]
    if len(ends) != len(losses):
        ends, steps = list(range(1, len(losses) + 1)), []
    means = [(end, loss) for end, loss in zip(ends, losses, strict=True) if _finite(loss)]
    drawn = loss_line(steps, means, f"losses of {step['step']}")
    yield f'<div class="chart">{drawn}<p>loss by step, and the mean of each epoch; lower is not always better</p></div>'


def _finite(value: object) -> bool:
    """Whether there is a place for it in a drawing: a log may hold null, or the NaN of a training that went wrong."""
    return isinstance(value, int | float) and math.isfinite(value)


def _terms(step: Mapping[str, Any]) -> Iterator[str]:
    for term in step.get("terms", ()):
        weight = float(term.get("weight", 1))
        split = "".join(f", {key} x {term[key]:g}" for key in ("te", "unet") if key in term)
        name = f"{term.get('name', '?')} x {weight:g}{split}"
        verb = "subtracted: " if weight < 0 else ""
        yield f"<p>{verb}<b>{_text(name)}</b>{'' if term.get('vector') else ', every block alike'}</p>"
        if isinstance(term.get("vector"), dict):
            shown = {block: weight * float(value) for block, value in term["vector"].items()}
            yield f'<div class="chart">{vector_bars(shown, f"weight by block of {name}")}</div>'
        if isinstance(term.get("rules"), dict):
            rules = ", ".join(f"{where} {weight * float(value):g}" for where, value in term["rules"].items())
            yield f"<p>of these blocks, kinds of layers with a weight of their own: {_text(rules)}</p>"


def _errors(step: Mapping[str, Any]) -> Iterator[str]:
    """How far the file is from what was asked for, and where most of that lies."""
    result = step.get("result", {})
    blocks = result.get("blocks")
    if not isinstance(result.get("error"), float | int) or not isinstance(blocks, dict):
        return
    worst = sorted(((_error(value), name) for name, value in blocks.items()), reverse=True)[:3]
    listed = ", ".join(f"{name} {error:.1e}" for error, name in worst if error > 0)
    yield (
        f"<p>relative error against the exact sum <b>{result['error']:.1e}</b>"
        f"{f'; most in {_text(listed)}' if listed else ''}</p>"
    )


def _error(value: Any) -> float:
    """A block's error: a number of its own, or one among other facts of the block."""
    error: Any = value.get("error") if isinstance(value, Mapping) else value
    return float(error) if _finite(error) else 0.0


def _scores(step: Mapping[str, Any]) -> Iterator[str]:
    scores = step.get("result", {}).get("scores")
    if not isinstance(scores, dict) or not isinstance(scores.get("rows"), list):
        return
    rows = [{"label": "base alone", **scores.get("base", {})}, *scores["rows"]]
    body = "".join(
        f'<tr><th scope="row">{_text(row.get("label", ""))}</th><td class="n">{row.get("style", 0):.2f}</td>'
        f'<td class="n">{100 * row.get("obedience", 0):.0f} %</td><td class="n">{row.get("defects", 0):.2f}</td></tr>'
        for row in rows
    )
    yield (
        f'<table class="scores"><tr><th>at weight {scores.get("weight", 1):g}</th><th>style '
        f"{_text(scores.get('style', ''))}</th><th>tags</th><th>defects</th></tr>{body}</table>"
    )


def _input(item: Mapping[str, Any]) -> str:
    return (
        f"<tr><td>{_text(item['label'])}</td><td>{_text(', '.join(item['read_by']))}</td>"
        f"<td><code>{_text(item['digest'])}</code></td></tr>"
    )


def _link(path: Path, work: Path) -> str:
    return html.escape(quote(Path(os.path.relpath(path, work)).as_posix()))


def _json(value: Any) -> str:
    return _text(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def _text(value: object) -> str:
    return html.escape(str(value))
