"""A server that says what the studio's page may hear, from memory: for tests of the page alone.

Every answer is one of the contract's own models, so that the page is tested against what a server may say. Pictures
are flat: their colour is a function of the stack, and their frames come after ``delay`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image, ImageDraw
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import SD1_17
from loratools.studio.api import jobs as j
from loratools.studio.api import models as m
from loratools.studio.api import stacks as s
from loratools.studio.api.words import Failure, plain, quoted, words

DIST = Path(__file__).parents[2] / "loratools" / "studio" / "page" / "dist"
EPOCHS, WEIGHTS, PROMPTS, SEEDS = 8, (0.0, 0.25, 0.5, 0.75, 1.0), ("a girl, smile", "a castle by the sea"), range(1, 14)
"""The grid has 8 x 5 x 2 x 13 = 1,040 cells."""


@dataclass
class Stub:
    """What the server knows, what it was asked, and how it behaves; a test changes it as it likes."""

    delay: float = 0.005
    refuse_socket: bool = False
    failing: dict[str, Failure] = field(default_factory=dict)  # path -> what it answers instead
    asked: list[tuple[str, Any]] = field(default_factory=list)  # (path, JSON) of every POST
    draws: list[dict[str, Any]] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    watches: list[int] = field(default_factory=list)
    unacknowledged: int = 0  # the most frames that were under way in one stream
    empty: bool = False
    jobs: list[j.Job] = field(default_factory=list)
    sockets: list[WebSocket] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None
    events: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    evidence: s.Evidence = field(default_factory=lambda: EVIDENCE)  # of every search

    def tell(self, event: str, data: dict[str, Any], number: int | None = None) -> None:
        """Send an event to every open page."""
        text = {"type": "event", "id": next(self.events) if number is None else number, "event": event, "data": data}
        for socket in self.sockets:
            asyncio.run_coroutine_threadsafe(socket.send_json(text), self._loop()).result(10)

    def tell_job(self, job: j.Job) -> None:
        self.jobs = [*(one for one in self.jobs if one.id != job.id), job]
        self.tell("job", job.model_dump(mode="json"))

    def hang_up(self) -> None:
        """Close every socket, as a server that is killed does."""
        for socket in list(self.sockets):
            with contextlib.suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(socket.close(1011), self._loop()).result(10)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            raise RuntimeError("no page was opened")
        return self.loop


def job(number: int, **more: Any) -> j.Job:
    """A job of the queue; the newest has the highest number."""
    fields: dict[str, Any] = {
        "id": f"job{number}",
        "kind": "train",
        "title": f"ink {number}",
        "state": "running",
        "heavy": True,
        "progress": j.Progress(done=120, total=800, unit="step", left_seconds=341.0, note="epoch 2"),
        "command": "loratools train ink.yaml",
        "step": "style:\n  train: {images: images/ink, epochs: 8}",
        "created": 1.8e9 + number,
        "started": 1.8e9 + number,
        "ended": None,
        "error": None,
        "results": [],
        "position": number,
        "can": ["pause", "stop", "stop-after-epoch"],
    }
    own = {**fields, **more}
    return j.Job(**{**own, "says": plain(own["title"])})


def _group(name: str) -> str:
    return {"B": "BASE", "I": "IN", "M": "MID", "O": "OUT"}[name[0]]


SCHEME = m.Scheme(
    family="sd1",
    blocks=[
        m.Block(
            name=name,
            group=_group(name),
            norm_share=(1 + (3 * n) % 7) / 64,
            kinds=() if name == "BASE" else tuple(f"{name}/{kind}" for kind in ("proj_", "attn1", "attn2", "ff")),
        )
        for n, name in enumerate(SD1_17.names)
    ],
)
BASE = m.BaseInfo(id="pocket", name="pocket", family="sd1", size=(128, 128))
ROOT = m.Root(id="root", name="demo")
LORAS = [
    *(
        m.Lora(
            id=f"ink{n}",
            name=f"ink-{n:06d}",
            root="root",
            path=f"runs/ink/ink-{n:06d}.safetensors",
            family="sd1",
            rank=8,
            bytes=1_300_000,
            changed=1.8e9,
            run="ink",
            epoch=n,
            trigger="inkstyle",
        )
        for n in range(1, EPOCHS + 1)
    ),
    m.Lora(
        id="basestyle",
        name="base_style",
        root="root",
        path="base_style.safetensors",
        family="sd1",
        rank=4,
        bytes=700_000,
        changed=1.8e9,
    ),
    m.Lora(
        id="xl",
        name="other",
        root="root",
        path="other_xl.safetensors",
        family="sdxl",
        rank=16,
        bytes=90_000_000,
        changed=1.8e9,
    ),
]
RUN = m.Run(
    id="ink",
    name="ink",
    root="root",
    path="runs/ink",
    state="done",
    base="pocket",
    step=800,
    steps=800,
    updated=1.8e9,
    epochs=[m.RunEpoch(number=n, lora=f"ink{n}") for n in range(1, EPOCHS + 1)],
)
SENTENCE = "epoch 6: 7 and 8 are as good within noise, 9 copies 014.png (5 of 32 pictures)"


EVIDENCE = s.Evidence(
    sentence=words("evidence.sentence", searched=40, held=24),
    rows=[s.EvidenceRow(measure="hands", better="lower", before="0.31 ± 0.02", after="0.18 ± 0.02")],
    vector={**dict.fromkeys(SD1_17.names, 1.0), "IN07": 0.4, "OUT05/attn1": 0.3, "OUT05/ff": -0.2, "OUT08/attn2": 1.4},
    amount=None,
    picture=None,
    notes=[quoted("the style is kept")],
)


FOLDERS = [
    m.PictureFolder(id="f1", name="ink", root=ROOT.id, path="images/ink", pictures=40, captions=38),
    m.PictureFolder(id="f2", name="10_face", root=ROOT.id, path="faces", pictures=12, captions=12),
]
PRESETS = [
    m.TrainPreset(name="default", source="the middle road", settings={"epochs": "10", "dim": "32"}),
    m.TrainPreset(name="pocket-style", source="guide 004, small", settings={"epochs": "8", "dim": "32"}),
]


def _run() -> m.RunDetail:
    loss = [m.Point(at=n, value=0.09 + 0.06 / (1 + n / 90) + 0.02 * ((n * 7919) % 13 - 6) / 6) for n in range(1, 801)]
    verdict = m.Verdict(
        epoch=6,
        sentence=SENTENCE,
        says=[
            words("verdict.as good", epochs="7-8"),
            words("verdict.defects", epochs="1-2, 4", figure="hands"),
            words("verdict.no gain", figure="style"),
        ],
        epochs=[
            m.VerdictEpoch(epoch=n, figures={"style": (0.4 + 0.05 * n, 0.02), "tags": (0.9, None)}, note=plain(""))
            for n in range(1, EPOCHS + 1)
        ],
    )
    known = {
        "loss": loss,
        "epoch_loss": [m.Point(at=n, value=0.1 + 0.04 / n) for n in range(1, EPOCHS + 1)],
        "validation": [m.Point(at=n, value=0.105 + 0.03 / n + 0.0006 * n * n) for n in range(1, EPOCHS + 1)],
        "rate": 4.2,
        "samples": [
            m.Sample(epoch=n, step=100 * n, prompt=prompt, picture=f"s{n}_{p}")
            for n in range(EPOCHS + 1)
            for p, prompt in enumerate(PROMPTS)
        ],
        "verdict": verdict,
    }
    return m.RunDetail(**{**RUN.model_dump(), **known})


def _grid() -> m.GridDetail:
    cells = [
        m.GridCell(row=r, epoch=r + 1, weight=w, prompt=p, seed=s, picture=f"g{r}_{w}_{p}_{s}", key=f"k{r}_{w}_{p}_{s}")
        for r in range(EPOCHS)
        for w in WEIGHTS
        for p in range(len(PROMPTS))
        for s in SEEDS
    ]
    grid = m.Grid(
        id="grid",
        name="epochs",
        root="root",
        path="grids/epochs",
        rows=[f"ink@{n}" for n in range(1, EPOCHS + 1)],
        weights=list(WEIGHTS),
        prompts=list(PROMPTS),
        seeds=list(SEEDS),
        size=(128, 128),
        cells=len(cells),
        changed=1.8e9,
    )
    pair = m.Pair(left=cells[40].key, right=cells[300].key, left_picture="left", right_picture="right")
    return m.GridDetail(grid=grid, cells=cells, standings=[], pair=pair, pairs_seen=0)


def _json(value: BaseModel | list[Any] | dict[str, Any]) -> Response:
    if isinstance(value, list):
        return JSONResponse([one.model_dump(mode="json") for one in value])
    return JSONResponse(value.model_dump(mode="json") if isinstance(value, BaseModel) else value)


def picture(name: str, size: tuple[int, int] = (128, 128)) -> Image.Image:
    """A flat picture whose colour is its name's, with a lighter disc."""
    seed = sum(ord(letter) * (n + 3) for n, letter in enumerate(name))
    color = (60 + seed % 120, 60 + seed // 3 % 120, 60 + seed // 7 % 120)
    made = Image.new("RGB", size, color)
    box = (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4)
    ImageDraw.Draw(made).ellipse(box, fill=tuple(value + 60 for value in color))
    return made


def _encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def stack_color(stack: dict[str, Any]) -> tuple[int, int, int]:
    """What a stack's picture is filled with: red is the strength, green the weight of OUT03, blue that of BASE."""
    term = next(iter(stack["terms"]), None)
    vector = (term or {}).get("vector") or {}
    parts = (term["weight"] if term else 0.0, vector.get("OUT03", 1.0), vector.get("BASE", 1.0))
    red, green, blue = (round(40 + 90 * max(-0.4, min(2.0, part))) for part in parts)
    return red, green, blue


def make(stub: Stub) -> Starlette:
    """The application."""
    presets = [
        m_preset
        for name, variants in load_presets().items()
        if not isinstance(variants, str)
        for vector in variants
        if vector.scheme.name == SD1_17.name
        for m_preset in [s.Preset(name=name, weights=dict(vector.weights))]
    ]
    symptoms = [
        s.Symptom(name=name, help=f"{name} are wrong", steps=["lower something"])
        for name in ("style", "limbs", "hands", "face", "clothes", "chaos")
    ]

    def get(value: Any, *, hidden: bool = False) -> Any:
        async def answer(request: Request) -> Response:
            path = request.url.path
            if path in stub.failing:
                return JSONResponse(stub.failing[path].model_dump(), 500)
            return _json([] if hidden and stub.empty else value(request) if callable(value) else value)

        return answer

    def lora(request: Request) -> m.LoraDetail:
        entry = next(one for one in LORAS if one.id == request.path_params["id"])
        return m.LoraDetail(**entry.model_dump(), scheme=SCHEME, metadata={})

    async def post(request: Request) -> Response:
        body, path = await request.json(), request.url.path
        stub.asked.append((path, body))
        if path in stub.failing:
            return JSONResponse(stub.failing[path].model_dump(), 507)
        return _json(_answer(stub, path, body))

    async def pictures(request: Request) -> Response:
        return Response(_encoded(picture(request.path_params["id"])), media_type="image/png")

    state = m.State(
        version="1",
        roots=[ROOT],
        bases=[BASE],
        device=m.Device(kind="cpu", name="2 cores", memory=None),
        demo=True,
        prompts={"sd1": list(PROMPTS)},
        last_event=0,
    )
    log = j.JobLog(lines=[j.LogLine(number=n, text=f"step {n}: loss 0.1{n:02d}") for n in range(1, 60)], more=False)
    api = [
        Route("/state", get(state)),
        Route("/loras", get(LORAS, hidden=True)),
        Route("/loras/{id}", get(lora)),
        Route("/runs", get([RUN], hidden=True)),
        Route("/runs/{id}", get(lambda request: _run())),
        Route("/grids", get([_grid().grid], hidden=True)),
        Route("/grids/{id}", get(lambda request: _grid())),
        Route("/recipes", get([], hidden=True)),
        Route("/catalog", get(s.Catalog(scheme=SCHEME, presets=presets, symptoms=symptoms, samplers=["DDIM"]))),
        Route("/folders", get(FOLDERS, hidden=True)),
        Route("/presets", get(PRESETS)),
        Route("/jobs", get(lambda request: stub.jobs)),
        Route("/jobs/{id}/log", get(log)),
        Route("/jobs/{id}/evidence", get(lambda request: stub.evidence)),
        Route("/jobs/{id}/round", get(lambda request: _round(stub))),
        Route("/pictures/{id}", pictures),
        WebSocketRoute("/live", _live(stub)),
        Route("/{path:path}", post, methods=["POST"]),
    ]
    return Starlette(routes=[Mount("/api", routes=api), Mount("/", StaticFiles(directory=DIST, html=True))])


def _round(stub: Stub) -> s.Round:
    """What a search by choices asks: six pairs of eight are enough."""
    answered = sum(path.endswith("/round") for path, _ in stub.asked)
    pair = m.Pair(left=f"l{answered}", right=f"r{answered}", left_picture=f"l{answered}", right_picture=f"r{answered}")
    return s.Round(number=1, pairs=8, answered=answered, enough=answered >= 6, pair=pair if answered < 8 else None)


def _answer(stub: Stub, path: str, body: dict[str, Any]) -> BaseModel:
    match path:
        case "/api/vector":
            weights = body.get("weights") or dict.fromkeys(SD1_17.names, 0.5)
            numbers = ",".join(str(weights[name]) for name in SD1_17.names)
            rules = "".join(f",{name}={weight}" for name, weight in weights.items() if "/" in name)
            short = "ALL" if set(weights.values()) == {1} else numbers + rules
            numbers = "" if rules else numbers
            texts = s.VectorTexts(numbers=numbers, lbw=numbers and f"X:{numbers}", short=short)
            return s.VectorAnswer(weights=weights, texts=texts, preset="ALL" if short == "ALL" else None)
        case "/api/stack/explain":
            heat = [s.HeatCell(block=name, change=0.0, cosine=1.0) for name in SD1_17.names]
            return s.ExplainAnswer(shares={b.name: b.norm_share or 0 for b in SCHEME.blocks}, norm=1.0, heat=heat)
        case "/api/write":
            command = f'loratools merge "ink@6:1" -o {body["to"].get("name", "recipe")}.safetensors'
            return s.Started(command=command, step=f"{body['to'].get('name')}:\n  merge: ink@6:1", job=None)
        case "/api/symptom" if body["kind"] == "fix":
            stack = s.Stack(**body["stack"])
            vector = {**dict.fromkeys(SD1_17.names, 1.0), "IN05": 0.9}
            stack = stack.model_copy(update={"terms": [stack.terms[0].model_copy(update={"vector": vector})]})
            turn = body["options"]["turn"] + 1
            return s.Started(
                command="loratools merge ...", step="", job=None, says=[quoted("lower it")], stack=stack, turn=turn
            )
        case "/api/symptom":
            running = job(len(stub.jobs) + 1, kind="tune", title="search: hands")
            stub.jobs.append(running)
            return s.Started(command="loratools blocks tune ...", step="tune: {}", job=running.id)
        case "/api/jobs/command":
            return s.Started(command=f"loratools train --name {body['name']}", step="ink: {}", job=None)
        case "/api/jobs" if body["kind"] == "train":
            stub.jobs.append(job(len(stub.jobs) + 1, title=f"train {body['name']}"))
            return stub.jobs[-1]
        case "/api/votes":
            detail = _grid()
            standings = [m.Standing(row="ink@6", wins=1, shown=1, rating=40.0, stars=0)]
            return m.VoteAnswer(standings=standings, pair=detail.pair, pairs_seen=1)
        case _ if path.endswith("/round"):
            return _round(stub)
        case "/api/marks":
            return m.MarkAnswer(**body)
        case _:
            return m.Done()


def frame(image: Image.Image, stream: int, seq: int, *, preview: bool) -> bytes:
    """A picture as it goes over the socket."""
    data = _encoded(image, "JPEG" if preview else "PNG")
    head = struct.pack("<BBHIHHI", 1 if preview else 2, int(preview), stream, seq, *image.size, len(data))
    return head + data


def _live(stub: Stub) -> Any:
    async def live(socket: WebSocket) -> None:
        if stub.refuse_socket:
            await socket.close(1008)
            return
        await socket.accept()
        stub.loop = asyncio.get_running_loop()
        stub.sockets.append(socket)
        tasks: dict[int, asyncio.Task[None]] = {}
        under_way: dict[int, int] = {}

        async def draw(message: dict[str, Any]) -> None:
            await asyncio.sleep(stub.delay * (1 if message["quality"] == "drag" else 4))
            stream = message["stream"]
            image = Image.new("RGB", (64, 64), stack_color(message["stack"]))
            under_way[stream] = under_way.get(stream, 0) + 1
            stub.unacknowledged = max(stub.unacknowledged, under_way[stream])
            await socket.send_bytes(frame(image, stream, message["seq"], preview=message["quality"] == "drag"))

        try:
            while True:
                message = await socket.receive_json()
                match message["type"]:
                    case "draw":
                        stub.draws.append({**message, "at": time.monotonic()})
                        if (task := tasks.get(message["stream"])) is not None:
                            task.cancel()
                        tasks[message["stream"]] = asyncio.create_task(draw(message))
                    case "ack":
                        stub.acks.append(message)
                        under_way[message["stream"]] -= 1
                    case "watch":
                        stub.watches.append(message["after"])
        except (WebSocketDisconnect, RuntimeError):
            stub.sockets.remove(socket)

    return live


@contextlib.contextmanager
def serve(stub: Stub, prefix: str = "") -> Iterator[str]:
    """The address of a running stub, with a slash at its end; ``prefix`` is what a proxy would put before it."""
    app = make(stub)
    inner = Starlette(routes=[Mount(prefix, app)]) if prefix else app
    server = uvicorn.Server(uvicorn.Config(inner, port=0, log_level="error", ws_per_message_deflate=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        if time.monotonic() > deadline:
            raise TimeoutError("the stub did not start")
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}{prefix}/"
    finally:
        server.should_exit = True
        thread.join(20)
