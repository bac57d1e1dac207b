"""What only a GPU can show: that training never waits for it, that a recorded step is the ordinary one, and that its numbers are a CPU's.

    PYTHONPATH=. python tests/gpu/check_gpu.py --out gpu.json

Takes about two minutes on a data-centre GPU, needs no network and no data, prints a line for each check and writes a JSON entry for it.
The same checks are tests where CUDA is available: pytest tests/gpu. ``--device cpu`` tries the script itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from minimae.data.augment import normalise
from minimae.data.files import resize
from minimae.data.images import Images
from minimae.devices import to_device
from minimae.errors import Interrupted
from minimae.model.masking import make_mask
from minimae.tasks.evaluation import logits_of
from minimae.tasks.features import extract
from minimae.tasks.finetune import Classifier, Finetune, FinetuneTask, finetune
from minimae.tasks.knn import knn_predict
from minimae.tasks.loading import LoaderConfig
from minimae.tasks.pretrain import Pretrain, Pretrained, PretrainTask, baseline_loss, build, pretrain
from minimae.tasks.probe import probe_predict
from minimae.tasks.probe_train import Probe, ProbeTask, train_probe
from minimae.tasks.reconstruct import reconstruction_triplets
from minimae.train.checkpoint import load_checkpoint
from minimae.train.precision import backends, resolve
from minimae.train.task import exact_inputs
from minimae.weights import load_pretrained
from minimae.weights.export import FeatureModel

STEPS, BATCH, IMAGES = 20, 32, 128
SHAPE: dict[str, Any] = {
    "size": "nano", "image": 32, "patch": 4, "width": 64, "depth": 3, "heads": 2,
    "decoder_width": 48, "decoder_depth": 2, "decoder_heads": 2,
}  # fmt: skip
LENGTH: dict[str, Any] = {"batch": BATCH, "epochs": STEPS * BATCH / IMAGES, "warmup_epochs": 1.0, "base_lr": 4e-3}
LENGTH |= {"log_every": 7, "save_every": 1e9}


@dataclass
class Report:
    """What a check found: ok, figures, and what went wrong, a line for each."""

    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def claim(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.faults.append(otherwise)

    def moved(self, name: str, found: Tensor, wanted: Tensor, start: Tensor, tolerance: float) -> None:
        """How far two trainings are apart, as a share of how far the second one went."""
        share = float((found - wanted).norm() / (wanted - start).norm())
        self.figures[name] = share
        self.claim(share <= tolerance, f"{name}: weights differ by {share:.2g} of their way, more than {tolerance:g}")

    def near(self, name: str, found: Tensor, wanted: Tensor, tolerance: float) -> None:
        """The largest difference, as a share of the largest value, is a figure, and at most the tolerance."""
        found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
        if found.shape != wanted.shape:
            self.faults.append(f"{name}: shapes {tuple(found.shape)} and {tuple(wanted.shape)}")
            return
        difference = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))
        self.figures[name] = difference
        self.claim(difference <= tolerance, f"{name} differs by {difference:.2g}, more than {tolerance:g}")


def images(seed: int = 0) -> Images:
    """Smooth random colours with labels that can be learnt: uint8 of 40 by 36 pixels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(IMAGES) % 4
    rough = torch.rand(IMAGES, 3, 5, 5, generator=generator)
    rough[torch.arange(IMAGES), labels % 3, labels] += 1
    smooth = nn.functional.interpolate(rough, (40, 36), mode="bicubic").clamp(0, 1)
    return Images("made", (smooth * 255).to(torch.uint8), labels, ("a", "b", "c", "d"))


def runs(device: str) -> dict[str, tuple[type, Callable[..., Any]]]:
    """Every way to train, by name: the class of its task, and a function that trains (with other fields of the recipe, if any)."""
    source = images()
    encoder = build(Pretrain(**SHAPE, **LENGTH), source).to(device).encoder
    reading = LoaderConfig(workers=2)

    def pre(**how: Any) -> tuple[type, Callable[..., Any]]:
        recipe = Pretrain(**SHAPE, **(LENGTH | how))
        return PretrainTask, lambda out=None, **more: pretrain(replace(recipe, **more), source, out, device=device, quiet=True)

    def fine(**how: Any) -> tuple[type, Callable[..., Any]]:
        recipe = Finetune(**(LENGTH | how))
        arguments = (encoder, source, source.statistics)
        return FinetuneTask, lambda out=None, **more: finetune(replace(recipe, **more), *arguments, out, quiet=True, reading=reading)

    def probe(**how: Any) -> tuple[type, Callable[..., Any]]:
        recipe = Probe(**(LENGTH | how))
        return ProbeTask, lambda out=None, **more: train_probe(replace(recipe, **more), encoder, source, source.statistics, out, quiet=True)

    return {
        "pretrain": pre(),
        "pretrain, pixels, block, jitter": pre(target="pixels", sampling="block", jitter=0.4),
        "pretrain, pca, grid, fixed crop, all": pre(target="pca", sampling="grid", crop=None, fixed_crop=0.875, loss_on="all"),
        "pretrain, mask tokens, no crop": pre(mask_tokens_in_encoder=True, crop=None),
        "pretrain, accumulate, views, clip": pre(accumulate=2, repeats=2, batch=16, clip=1.0),
        "pretrain, fp32": pre(precision="fp32"),
        "pretrain, fp16": pre(precision="fp16"),
        "pretrain, graph": pre(graph=True),
        "finetune": fine(),
        "finetune, mixing, erasing, average": fine(mixup=0.8, cutmix=1.0, erasing=0.25, ema=0.99),
        "finetune, mixing by batch": fine(mixup=0.8, cutmix=1.0, mix_by="batch"),
        "finetune, randaugment": fine(randaugment=(9.0, 0.5), erasing=0.25),
        "finetune, last blocks": fine(tune=0.5),
        "finetune, fp16, clip": fine(precision="fp16", clip=1.0),
        "finetune, graph": fine(graph=True, mixup=0.8, ema=0.99),
        "finetune, graph, randaugment": fine(graph=True, randaugment=(9.0, 0.5)),
        "probe": probe(),
        "probe, mean token, fp16": probe(pool="mean", precision="fp16"),
        "probe, graph": probe(graph=True),
    }


@contextlib.contextmanager
def watched(task: type, mode: str) -> Iterator[None]:
    """From the second step of a run on, torch reports when the host waits for the GPU: as an error, or with warnings."""
    original, gpu = task.after_step, torch.cuda.is_available()  # type: ignore[attr-defined]

    def after_step(self: Any) -> None:
        original(self)
        if gpu:
            torch.cuda.set_sync_debug_mode(mode)

    try:
        with mock.patch.object(task, "after_step", after_step):
            yield
    finally:
        if gpu:
            torch.cuda.set_sync_debug_mode("default")


def place(error: BaseException) -> str:
    """Where in the package an error came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "minimae" in Path(f.filename).parts]
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))


def check_waits(name: str, device: str) -> Report:
    """Steps 2 to 20 of a run never make the host wait, but where the loss is read and where it is saved."""
    report, (task, train) = Report(), runs(device)[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            with watched(task, "error"):
                _, result = train(Path(folder, "run"))
        except RuntimeError as error:
            report.faults.append(f"{str(error).splitlines()[0][:200]} at {place(error)}")
            with warnings.catch_warnings(record=True) as seen, watched(task, "warn"):
                warnings.simplefilter("always")
                with contextlib.suppress(Exception):
                    train(None)
            where = {f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)}
            report.figures["every wait"] = sorted(where)
            return report
    losses = [point["loss"] for point in result.history]
    report.figures |= {"first loss": losses[0], "last loss": losses[-1], "images/s": round(result.history[-1]["images_per_s"])}
    report.claim(result.steps >= STEPS, f"only {result.steps} steps")
    report.claim(losses[-1] < losses[0] * 1.1, f"the loss rose from {losses[0]:.3f} to {losses[-1]:.3f}")
    return report


def weights_of(model: nn.Module) -> Tensor:
    """All weights in a row, but biases of queries, keys and values: a key's has no effect, so Adam scales up the noise of its gradient."""
    return torch.cat([p.detach().double().flatten().cpu() for name, p in model.named_parameters() if not name.endswith("qkv.bias")])


def trained(task: type, train: Callable[..., Any], **how: Any) -> tuple[Tensor, Tensor, list[Tensor], Any]:
    """Weights after a run and before, everything that its task prepared, and its result."""
    original, prepared, start = task.inputs, [], []  # type: ignore[attr-defined]

    def prepare(self: Any, batch: Any) -> tuple[Tensor, ...]:
        if not start:
            start.append(weights_of(getattr(self.model, "average", self.model)))
        made: tuple[Tensor, ...] = original(self, batch)
        prepared.extend(x.clone() for x in made)
        return made

    with mock.patch.object(task, "inputs", prepare):
        model, result = train(**how)
    return weights_of(model), start[0], prepared, result


def check_graph(name: str, device: str) -> Report:
    """A recorded step trains on the same images, to the same weights: as near as the ordinary step is to itself when it runs twice."""
    report, (task, train) = Report(), runs(device)[name]
    graph = device != "cpu"
    for precision in ("fp32", "bf16"):
        first, start, seen, result = trained(task, train, precision=precision, graph=False, log_every=1)
        again, *_ = trained(task, train, precision=precision, graph=False, log_every=1)
        recorded, _, also, other = trained(task, train, precision=precision, graph=graph, log_every=1)
        pairs = list(zip(seen, also, strict=True))
        report.claim(len(pairs) > 0 and all(torch.equal(a, b) for a, b in pairs), f"{precision}: it trains on other images")
        losses = [abs(a["loss"] - b["loss"]) for a, b in zip(result.history, other.history, strict=True)]
        report.moved(f"{precision}, run twice", again, first, start, 0.05)
        report.moved(f"{precision}, recorded", recorded, first, start, max(0.02, 5 * report.figures[f"{precision}, run twice"]))
        report.figures |= {f"{precision}, largest difference": float((recorded - first).abs().max())}
        report.figures |= {f"{precision}, first loss": losses[0], f"{precision}, last loss": losses[-1]}
        report.claim(losses[0] < (1e-5 if precision == "fp32" else 1e-3), f"{precision}: the first loss differs by {losses[0]:.2g}")
        report.figures[f"{precision}, images/s"] = [round(r.history[-1]["images_per_s"]) for r in (result, other)]
    return report


def stops_at(step: int, task: type) -> Any:
    """Ctrl-C in this step."""
    original, calls = task.after_step, []  # type: ignore[attr-defined]

    def after_step(self: Any) -> None:
        original(self)
        calls.append(1)
        if len(calls) == step:
            signal.raise_signal(signal.SIGINT)

    return mock.patch.object(task, "after_step", after_step)


def check_checkpoint(name: str, device: str) -> Report:
    """A run that was stopped on the GPU goes on there as if nothing had happened, and its checkpoint is read and resumed on a CPU."""
    report, source = Report(), images()
    how: dict[str, Any] = {"precision": "fp32", "graph": device != "cpu"} if name == "graph" else {"precision": name}
    recipe = Pretrain(**SHAPE, **LENGTH, **how)
    start = weights_of(build(recipe, source))
    with tempfile.TemporaryDirectory() as root:
        whole, result = pretrain(recipe, source, device=device, quiet=True)
        for place_ in (device, "cpu"):
            out = Path(root, place_.replace(":", "-"))
            try:
                with stops_at(10, PretrainTask):
                    pretrain(recipe, source, out, device=device, quiet=True)
                report.faults.append("it was not stopped")
            except Interrupted:
                pass
            state = load_checkpoint(out / "checkpoint.pt", "pretrain")
            tensors = [x for x in flat(state) if isinstance(x, Tensor)]
            report.claim(all(x.device.type == "cpu" for x in tensors), "a tensor of the checkpoint is not on the CPU")
            report.claim(state["step"] == 10, f"stopped at step {state['step']}, not at 10")
            report.claim(bool(state["scaler"]) == (name == "fp16"), f"scaler state: {state['scaler']}")
            read = load_pretrained(out)
            features = read.features(source.pixels[:, :, :32, :32])
            report.claim(features.device.type == "cpu" and bool(features.isfinite().all()), "features of the loaded model are not finite")
            changes = {"graph": False} if place_ == "cpu" else {}
            resumed, again = pretrain(replace(recipe, **changes), source, out, resume=True, device=place_, quiet=True)
            report.claim(again.steps == result.steps, f"{again.steps} steps, not {result.steps}")
            report.moved(f"resumed on {place_}", weights_of(resumed), weights_of(whole), start, 0.3 if place_ == "cpu" else 0.1)
    return report


def flat(value: Any) -> Iterator[Any]:
    """Everything in nested dictionaries, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from flat(part)
    else:
        yield value


def check_precision(name: str, device: str) -> Report:
    """What auto means on this GPU, and on one without bf16 units."""
    report, gpu = Report(), torch.device(device)
    report.figures["auto"] = resolve("auto", gpu)
    if gpu.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        report.figures |= {"GPU": torch.cuda.get_device_name(), "capability": torch.cuda.get_device_capability(), "bf16 units": native}
        report.claim(resolve("auto", gpu) == ("bf16" if native else "fp16"), "auto is neither bf16 nor fp16 as this GPU wants")
        with mock.patch.object(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation):
            report.claim(resolve("auto", gpu) == "fp16" and resolve("auto", gpu, scaler=False) == "fp32", "an old GPU would emulate bf16")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    runs(device)["pretrain, fp32"][1]()
    after = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    report.claim(before == after, f"torch's switches were {before} and are {after}")
    return report


def check_pixels(name: str, device: str) -> Report:
    """What the model is given, made on the GPU inside autocast and TF32, is what a CPU makes."""
    report, source, gpu = Report(), images(), torch.device(device)
    recipes: dict[str, Any] = {
        "crop, flip, jitter": Pretrain(**SHAPE, **LENGTH, jitter=0.4),
        "fixed crop, grid": Pretrain(**SHAPE, **LENGTH, crop=None, fixed_crop=0.875, sampling="grid"),
        "whole, block": Pretrain(**SHAPE, **LENGTH, crop=None, sampling="block"),
        "mixing, erasing": Finetune(**LENGTH, mixup=0.8, cutmix=1.0, erasing=0.5),
        "randaugment": Finetune(**LENGTH, randaugment=(9.0, 0.5)),
    }
    for what, recipe in recipes.items():
        made = []
        for where in (torch.device("cpu"), gpu):
            model: Any = build(Pretrain(**SHAPE, **LENGTH), source)
            if isinstance(recipe, Finetune):
                classifier = Classifier(model.encoder, 4).to(where)
                task: Any = FinetuneTask(recipe, source, source.statistics, classifier, reading=LoaderConfig(workers=0))
            else:
                task = PretrainTask(recipe, source, model.to(where))
            batch = next(iter(task.loader(iter([(torch.arange(BATCH), torch.arange(BATCH) % 3)]))))
            with backends(where), torch.autocast(where.type, torch.bfloat16):
                made.append(exact_inputs(task, batch))
        for i, (there, here) in enumerate(zip(made[1], made[0], strict=True)):
            report.claim(there.device.type == gpu.type, f"{what}: tensor {i} is on {there.device}")
            if here.is_floating_point():
                report.near(f"{what}, tensor {i}", there, here, 2e-3 if what == "randaugment" else 5e-5)
            else:
                report.claim(torch.equal(there.cpu(), here), f"{what}: indices {i} differ")
    return report


def check_numbers(name: str, device: str) -> Report:
    """Statistics, features, classes, neighbours, probe, reconstructions and the baseline: on the GPU as on a CPU."""
    report, source, gpu = Report(), images(), torch.device(device)
    there = source.to(gpu)
    for a, b in zip(there.statistics, source.statistics, strict=True):
        report.claim(a.device.type == "cpu" and torch.equal(a, b), "statistics of images on the GPU differ")
    chosen = [images.balanced_subset(40).ids.cpu() for images in (there, source)]
    report.claim(torch.equal(*chosen), "other images are chosen on the GPU")
    recipe, square = Pretrain(**SHAPE, **LENGTH), source.pixels[:, :, :32, :32]
    model = pretrain(recipe, source, quiet=True)[0].eval()
    copy = build(recipe, source).to(gpu).eval()
    copy.load_state_dict(model.state_dict())
    for pool in ("mean", "class", "blocks", "tokens"):
        wanted = extract(model.encoder, square, source.statistics, pool=pool)
        for precision, tolerance in (("fp32", 5e-3), ("auto", 5e-2)):
            for pixels in (square, square.to(gpu)):
                found = extract(copy.encoder, pixels, source.statistics, pool=pool, precision=precision)
                report.claim(found.device.type == "cpu" and found.dtype == torch.float32, f"features are {found.dtype} on {found.device}")
                report.near(f"features, {pool}, {precision}", found, wanted, tolerance)
    assert source.labels is not None
    features = extract(model.encoder, square, source.statistics)
    for temperature in (0.07, 0.001):
        votes = [knn_predict(f[:96], source.labels[:96], f[96:], k=10, temperature=temperature) for f in (features, features.to(gpu))]
        same = float((votes[0] == votes[1].cpu()).float().mean())
        report.figures[f"k-NN at {temperature}, same answers"] = same
        report.claim(same > 0.9, f"k-NN at {temperature}: {same:.0%} of the answers agree")
    lines = [probe_predict(f[:96], source.labels[:96], f[96:])[0].cpu() for f in (features, features.to(gpu))]
    report.figures["probe, same answers"] = float((lines[0] == lines[1]).float().mean())
    report.claim(report.figures["probe, same answers"] > 0.9, "the probe answers otherwise")
    tuned = Finetune(**LENGTH)
    classifier, _ = finetune(tuned, model.encoder, source, source.statistics, quiet=True)
    wanted = logits_of(classifier, source, source.statistics).argmax(1)
    found = logits_of(classifier.to(gpu), there, source.statistics).argmax(1)
    report.figures["classes, same answers"] = float((wanted == found).float().mean())
    report.claim(report.figures["classes, same answers"] > 0.95, "the classifier answers otherwise")
    mask = make_mask(torch.arange(8), (8, 8), seed=1)
    pair = [Pretrained(m, recipe, source.statistics) for m in (model, copy)]
    pictures = [reconstruction_triplets(trained_, square[:8], mask) for trained_ in pair]
    report.near("reconstruction", *(torch.stack([torch.as_tensor(row[2]) for row in rows]) for rows in reversed(pictures)), 5e-2)
    resized = [resize(x, (32, 32)) for x in (there.pixels[:4], source.pixels[:4])]
    report.claim(resized[0].device.type == gpu.type and torch.equal(resized[0].cpu(), resized[1]), "resize() gives other pixels there")
    program = FeatureModel(pair[1])
    report.claim({x.device.type for x in (*program.parameters(), *program.buffers())} == {"cpu"}, "an exported program is not for a CPU")
    report.claim(next(copy.parameters()).device.type == gpu.type, "exporting moved the model")
    report.near("exported", program(square[:4].float() / 255), extract(model.encoder, square[:4], source.statistics), 5e-3)
    report.near("baseline", *(torch.tensor([baseline_loss(m, source)]) for m in (copy, model)), 1e-4)
    return report


def check_sending(name: str, device: str) -> Report:
    """Page-locked copies arrive whole although the host does not wait, and a tensor that is freed at once is not overwritten."""
    report, gpu = Report(), torch.device(device)
    if gpu.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        sent = [to_device(torch.full((1 << 16,), float(i)), gpu) for i in range(200)]
        normalise(sent[0][:12].view(1, 3, 2, 2), (torch.rand(3), torch.ones(3)))
    finally:
        if gpu.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    report.claim(all(bool((x == i).all()) for i, x in enumerate(sent)), "a copy was overwritten before it arrived")
    return report


Check = Callable[[str, str], Report]


def checks() -> dict[str, tuple[Check, str]]:
    """Every check by its name: a function, and what it is given."""
    named: dict[str, tuple[Check, str]] = {"precision": (check_precision, ""), "pixels": (check_pixels, ""), "sending": (check_sending, "")}
    named |= {f"no waits: {name}": (check_waits, name) for name in runs("cpu")}
    named |= {f"graph: {name}": (check_graph, name) for name in ("pretrain", "finetune", "probe")}
    named |= {f"checkpoint: {name}": (check_checkpoint, name) for name in ("bf16", "fp16", "graph")}
    return named | {"numbers": (check_numbers, "")}


def carry_out(name: str, device: str) -> dict[str, Any]:
    """One check; whatever it raises is a fault of it."""
    check, what = checks()[name]
    started = time.perf_counter()
    try:
        report = check(what, device)
    except Exception as error:
        report = Report([f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''} at {place(error)}"])
    return {"ok": not report.faults, "faults": report.faults, "figures": report.figures, "seconds": round(time.perf_counter() - started, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", default="", help="checks whose name contains this word")
    parser.add_argument("--seconds", type=float, default=150.0, help="no check begins after this time")
    given = parser.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        print("no GPU here")
        return 2
    started, results = time.perf_counter(), {}
    for name in checks():
        if given.only not in name:
            continue
        if time.perf_counter() - started > given.seconds:
            results[name] = {"ok": False, "faults": ["not begun: out of time"], "figures": {}, "seconds": 0.0}
        else:
            results[name] = carry_out(name, given.device)
        one = results[name]
        figures = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in one["figures"].items())
        print(f"{'ok   ' if one['ok'] else 'FAULT'} {one['seconds']:5.1f} s  {name}: {figures}", flush=True)
        print(*(f"      {fault}\n" for fault in one["faults"]), sep="", end="", flush=True)
        if given.out is not None:
            gpu = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
            found = {"torch": torch.__version__, "device": gpu, "checks": results}
            given.out.write_text(json.dumps(found, indent=1) + "\n")
    failed = [name for name, one in results.items() if not one["ok"]]
    print(f"{len(results) - len(failed)} of {len(results)} checks hold, {time.perf_counter() - started:.0f} s", *failed, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
