#!/usr/bin/env python3
"""TensorBoard reads the events of a run, and shows the numbers of metrics.jsonl.

    python3 -m venv venv && venv/bin/pip install -r tests/clients/requirements.txt
    venv/bin/python tests/clients/tensorboard.py

Three runs in one folder: one to its end, one that is stopped and resumed, one that is killed (-9) and resumed while
TensorBoard looks on. The events are read by EventAccumulator, and asked of TensorBoard's server on loopback, with its fast
loader and with its slow one. Every number of every line is there under its tag, once, at its step and time; the
samples are its texts. Exit 1 at the first difference. With `--reader`, EventAccumulator alone reads the first two
runs, without a server.
"""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

sys.path.pop(0)  # This file has the name of the package.
import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--layers 1 --heads 1 --width 16 --context 16 --batch 2 --tokenizer bytes --story-bytes 50000 --eval-interval 50 "
         "--checkpoint-every 100 --tensorboard -q").split()


def check(what, good, detail=""):
    print(("ok    " if good else "WRONG ") + what, detail)
    if not good:
        sys.exit(1)


def tag(name):
    """As src/report/tensorboard.rs has it."""
    for what in ("busy_seconds", "starved_seconds", "blocked_seconds", "queue", "room"):
        if name.startswith("stage_") and name.endswith("_" + what):
            return f"stage/{name[len('stage_'):-len('_' + what)]}/{what}"
    if name.startswith("spheres_"):
        return "spheres/" + name[len("spheres_"):]
    groups = {"loss": "loss/train", "val_loss": "loss/validation", "lr": "optimizer/lr",
              "grad_norm": "optimizer/grad_norm", "skipped_steps": "optimizer/skipped_steps"}
    return groups.get(name, "run/" + name)


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def expected(run):
    """Of each tag its (time, step, value), from the lines."""
    series = {}
    for line in map(json.loads, (run / "metrics.jsonl").open()):
        for name, value in line.items():
            if name not in ("step", "time"):
                series.setdefault(tag(name), []).append((line["time"], line["step"], f32(value)))
    return series


def texts(run):
    return [(s["step"], s["text"]) for s in map(json.loads, (run / "samples.jsonl").open())]


def train(run, *more):
    command = [ROOT / "target/release/twelvefold", "train", "--out", run, *SMALL, *map(str, more)]
    return subprocess.Popen(command)


def finish(process, code=0):
    if process.wait() != code:
        sys.exit(f"train: exit code {process.returncode}, not {code}")


def lines(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(what, condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            check(what, False, "waited in vain")
        time.sleep(0.1)


def accumulated(run):
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    wanted, name = expected(run), run.name
    check(f"{name}: EventAccumulator knows the tags", set(accumulator.Tags()["scalars"]) == set(wanted),
          f"{len(wanted)} of them")
    for one, series in wanted.items():
        found = [(e.wall_time, e.step, e.value) for e in accumulator.Scalars(one)]
        if found != series:
            check(f"{name}: {one}", False, f"{found[:3]} {series[:3]}")
    check(f"{name}: EventAccumulator has every number of every line", True, f"{len(wanted['run/seconds'])} steps")
    samples = accumulator.Tensors("sample") if "sample" in accumulator.Tags()["tensors"] else []
    found = [(e.step, make_ndarray(e.tensor_proto)[0].decode()) for e in samples]
    check(f"{name}: and the samples", found == texts(run), f"{len(found)} of them")


class Server:
    def __init__(self, folder, fast):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", str(self.port),
                   "--load_fast", fast, "--samples_per_plugin", "scalars=1000000,text=1000", "--reload_interval", "1"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def get(self, plugin, what, **query):
        url = f"http://127.0.0.1:{self.port}/data/plugin/{plugin}/{what}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def steps(self, name):
        series = self.get("scalars", "scalars", run=name, tag="loss/train")
        return [step for _, step, _ in series or []]

    def end(self):
        self.process.terminate()
        self.process.wait()


def shown(server, run, how):
    name, wanted = f"{run.name}/tensorboard", expected(run)
    count = len(wanted["run/seconds"])
    until(f"{name}: the server shows step {count} ({how})", lambda: server.steps(name)[-1:] == [count])
    known = server.get("scalars", "tags")[name]
    check(f"{name}: the server knows the tags ({how})", set(known) == set(wanted))
    for one, series in wanted.items():
        found = [tuple(point) for point in server.get("scalars", "scalars", run=name, tag=one)]
        if found != series:
            check(f"{name}: {one}", False, f"{found[:3]} {series[:3]}")
    check(f"{name}: the server shows every number of every line ({how})", True, f"{count} steps")
    found = server.get("text", "text", run=name, tag="sample")
    check(f"{name}: and the samples ({how})", [t["step"] for t in found] == [step for step, _ in texts(run)])


def main():
    print(f"tensorboard {tensorboard.__version__}, Python {sys.version.split()[0]}")
    subprocess.run(["cargo", "build", "-q", "--release", "--locked", "--bin", "twelvefold"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, stopped, killed = (folder / name for name in ("whole", "stopped", "killed"))
        finish(train(whole, "--steps", 300))
        process = train(stopped, "--steps", 3000)
        until("a run", lambda: lines(stopped) > 20)
        process.send_signal(signal.SIGINT)
        finish(process, 130)
        finish(train(stopped, "--steps", 3000, "--resume"))
        if "--reader" in sys.argv[1:]:
            accumulated(whole)
            accumulated(stopped)
            print("all agree")
            return
        # The slow loader reads about 1,000 steps a second.
        slow = ("--steps", 1000000, "--micro-batches", 128)
        for fast in ("true", "false"):
            how = {"true": "fast loader", "false": "slow loader"}[fast]
            server = Server(folder, fast)
            try:
                process = train(killed, *slow, "--overwrite")
                until("a checkpoint", lambda: any((killed / "checkpoints").glob("step-*")))
                until(f"killed: the server shows it while it goes ({how})",
                      lambda: len(server.steps("killed/tensorboard")) > 150)
                process.send_signal(signal.SIGKILL)
                finish(process, -signal.SIGKILL)
                process = train(killed, *slow, "--resume")
                until("a checkpoint", lambda: lines(killed) > 400)
                time.sleep(3)
                process.send_signal(signal.SIGTERM)
                finish(process, 130)
                for run in (whole, stopped, killed):
                    shown(server, run, how)
            finally:
                server.end()
        for run in (whole, stopped, killed):
            accumulated(run)
    print("all agree")


if __name__ == "__main__":
    main()
