"""A recipe on two hosts: two network namespaces of this machine, each with an address of its own, and a shared folder.

    sudo python -m benchmarks.launch_hosts --out benchmarks/results/launch_hosts.txt

It needs root and ``ip`` (iproute2), because only root may make namespaces; both are removed at the end. ``loratools
run`` is started on the first host, with a script as its ``--launch`` that starts torchrun on both, as one would over
ssh. The processes talk by gloo on the CPU. What is checked: that each host had one process of every step, and that the
results are those of two processes of one host (bit for bit) and of one process (pictures bit for bit, a training up to
rounding).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import own_environment
from loratools.adapter.files.file import read
from loratools.files import sha256, write_text

HOSTS = ("lt-host1", "lt-host2")
ADDRESSES = ("10.213.0.1", "10.213.0.2")
LINK = "lt0"
PORT = 29511
RECIPE = """\
version: 1
base: pocket
steps:
  pictures: {draw: {style: ink, count: 4}}
  style: {train: {images: pictures, epochs: 2, dim: 4, batch_size: 2, dtype: fp32}}
  drawn: {grid: {rows: LORA, weights: "0,0.5,1", prompts: [1girl, "1girl, smile"], seeds: [1, 2, 3, 4], steps: 4}}
"""
SCRIPT = """\
#!/bin/sh
# "$@" is what loratools puts at the end; `ip netns exec` stands for ssh
common="--nnodes 2 --nproc-per-node 1 --master-addr {address} --master-port {port}"
ip netns exec {second} {torchrun} $common --node-rank 1 "$@" &
{torchrun} $common --node-rank 0 "$@"
status=$?
wait
exit $status
"""


@contextlib.contextmanager
def two_hosts() -> Iterator[None]:
    """Two namespaces that are joined by a virtual cable."""
    _remove()
    try:
        for host in HOSTS:
            _ip("netns", "add", host)
        _ip("link", "add", LINK, "netns", HOSTS[0], "type", "veth", "peer", "name", LINK, "netns", HOSTS[1])
        for host, address in zip(HOSTS, ADDRESSES, strict=True):
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", LINK)
            _ip("-n", host, "link", "set", LINK, "up")
            _ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        _remove()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _remove() -> None:
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], check=False, stderr=subprocess.DEVNULL)


@dataclass(frozen=True)
class Seen:
    """A process that was seen while a job ran: the job's number, its rank, and the host that it was on."""

    job: str
    rank: int
    host: str


def run(folder: Path, work: str, *more: str, host: str | None = None) -> tuple[set[Seen], float, str]:
    """Run the recipe; the launched processes that were seen, the seconds that it took, and what it printed."""
    place = ["ip", "netns", "exec", host] if host else []
    command = [*place, sys.executable, "-m", "loratools", "run", "r.yaml", "-o", work, "--device", "cpu", *more]
    environment = own_environment(OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME=LINK)
    if host is None:
        environment.pop("GLOO_SOCKET_IFNAME")
    begun, seen = time.perf_counter(), set[Seen]()
    with open(folder / f"{work}.txt", "w+", encoding="utf-8") as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            seen |= _processes(folder / work)
            time.sleep(0.1)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    return seen, time.perf_counter() - begun, text


def _processes(work: Path) -> set[Seen]:
    """The launched processes that are alive, with the host that each is on by its network namespace."""
    places = {host: Path("/run/netns") / host for host in HOSTS}
    names = {place.stat().st_ino: host for host, place in places.items() if place.exists()}
    seen = set()
    for path in work.glob(".loratools/launch/*/*/*.started"):
        with contextlib.suppress(OSError, ValueError):  # it has ended at this moment
            pid = json.loads(path.read_text(encoding="utf-8"))["pid"]
            host = names.get(Path(f"/proc/{pid}/ns/net").stat().st_ino, "this machine")
            seen.add(Seen(path.parent.name, int(path.stem), host))
    return seen


def digests(work: Path) -> dict[str, str]:
    """Of the trained files by their tensors, and of the pictures."""
    trained = {path.name: read(path).digest for path in sorted((work / "style").glob("*.safetensors"))}
    return trained | {
        str(path.relative_to(work)): sha256(path) for path in sorted((work / "drawn/cells").rglob("*.png"))
    }


def apart(one: Path, two: Path) -> float:
    """``|a - b| / |a|`` over all modules of the last epochs of two runs."""
    first, second = (read(max((work / "style").glob("*.safetensors"))) for work in (one, two))
    rest = sum(float((delta.dense() - second[name].dense()).norm()) ** 2 for name, delta in first.items())
    return float((rest / sum(delta.norm() ** 2 for delta in first.values())) ** 0.5)


def report(folder: Path) -> Iterator[str]:
    """Run the recipe in the three ways, line by line of the report."""
    script = folder / "both.sh"
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    text = SCRIPT.format(address=ADDRESSES[0], port=PORT, second=HOSTS[1], torchrun=torchrun)
    write_text(script, text)
    script.chmod(0o755)
    yield f"the recipe:\n{(folder / 'r.yaml').read_text(encoding='utf-8')}\nboth.sh:\n{text}"
    _, seconds, said = run(folder, "one")
    yield f"one process ({seconds:.0f} s):\n{said}"
    _, seconds, _ = run(folder, "two", "--launch", f"{torchrun} --standalone --nproc-per-node 2")
    yield f"two processes of one host, --launch 'torchrun --standalone --nproc-per-node 2': {seconds:.0f} s"
    with two_hosts():
        seen, seconds, said = run(folder, "hosts", "--launch", str(script), host=HOSTS[0])
    yield f"\ntwo hosts, {HOSTS[0]} ({ADDRESSES[0]}) and {HOSTS[1]} ({ADDRESSES[1]}) ({seconds:.0f} s):\n{said}"
    for job in sorted({one.job for one in seen}):
        took = ", ".join(f"process {one.rank + 1} on {one.host}" for one in sorted(seen, key=str) if one.job == job)
        yield f"step {job} that was launched: {took}"
    checks = list(_checks(folder, seen))
    yield "\n".join(f"{'yes' if good else 'NO '}  {name}" for name, good in checks)
    if not all(good for _, good in checks):
        raise SystemExit("\n".join(f"failed: {name}" for name, good in checks if not good))


def _checks(folder: Path, seen: set[Seen]) -> Iterator[tuple[str, bool]]:
    jobs = {one.job for one in seen}
    pairs = [{(one.rank, one.host) for one in seen if one.job == job} for job in jobs]
    yield "the training and the grid were launched", len(jobs) == 2
    yield (
        "each had process 1 on the first host and process 2 on the second",
        all(pair == {(0, HOSTS[0]), (1, HOSTS[1])} for pair in pairs),
    )
    one, two, hosts = (digests(folder / work) for work in ("one", "two", "hosts"))
    yield f"all {len(hosts)} results have the digests of two processes of one host", hosts == two
    pictures = [name for name in one if name.endswith(".png")]
    yield f"the {len(pictures)} pictures have those of one process too", all(one[p] == hosts[p] for p in pictures)
    far = apart(folder / "one", folder / "hosts")
    yield f"the training is {far:.1e} from that of one process (rounding: below 1e-3)", far < 1e-3


def save_lora(path: Path) -> None:
    """The grid's LoRA: what the recipe itself does not train, so that its pictures are the same ones in each way."""
    command = [sys.executable, "-m", "loratools", "basestyle", "pocket", "--images-per-framing", "1", "--epochs", "1"]
    with tempfile.TemporaryDirectory() as scratch:
        environment = own_environment()
        subprocess.run([*command, "--dim", "4", "-o", scratch, "--device", "cpu"], check=True, env=environment)
        shutil.copyfile(next(Path(scratch).glob("*.safetensors")), path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report here too")
    args = parser.parse_args(arguments)
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("ip") is None:
        raise SystemExit("this makes network namespaces, which needs root and `ip` of iproute2 on Linux")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_lora(folder / "lora.safetensors")
        write_text(folder / "r.yaml", RECIPE.replace("LORA", "lora"))
        lines = ["python -m benchmarks.launch_hosts", ""]
        for line in report(folder):
            print(line, flush=True)
            lines.append(line.replace(scratch, "SHARED").replace(sys.prefix, "VENV"))
    if args.out:
        write_text(args.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
