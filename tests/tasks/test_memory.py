"""Features that do not fit are not tried: the estimate is what is measured, the choice is explained, and a refusal names the sizes."""

from __future__ import annotations

import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minimae import MinimaeError
from minimae.cli import main
from minimae.data.photos import make_folder
from minimae.data.stream import open_folder
from minimae.model.sizes import size
from minimae.model.vit import Encoder
from minimae.tasks import memory
from minimae.tasks.features import extract
from minimae.tasks.loading import LoaderConfig, features_of, in_memory
from minimae.tasks.memory import Need, feature_width, free_memory
from minimae.tasks.probe import probe_predict

SMALL = size("nano", patch=8, image=16, channels=3, width=16, depth=3, heads=2)


class Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)):
            storage = tensor.untyped_storage()
            if (address := storage.data_ptr()) and address not in self.alive:
                self.alive[address] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.freed, address)
        return made

    def freed(self, address: int) -> None:
        self.now -= self.alive.pop(address, 0)


@pytest.mark.parametrize(("train", "test", "classes"), [(20, 20, 500), (2000, 1000, 10)])
def test_the_estimate_is_what_a_probe_takes(train: int, test: int, classes: int) -> None:
    shape = size("nano", patch=8, image=32, width=16, heads=2)
    known, asked, labels = torch.randn(train, 256), torch.randn(test, 256), torch.arange(train) % classes
    labels[-1] = classes - 1
    with Allocated() as allocated:
        probe_predict(known, labels, asked, penalties=(1e-2, 1e-1))
    whole = allocated.peak + 4 * (known.numel() + asked.numel())
    assert feature_width(shape, "tokens") == 256
    assert 0.6 < whole / Need(shape, train, test, classes).bytes("tokens") < 1


@pytest.mark.parametrize("pool", ["mean", "class", "blocks", "tokens"])
def test_the_width_of_a_pool_is_that_of_its_features(pool: memory.Pool) -> None:
    pixels = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    made = extract(Encoder(SMALL), pixels, (torch.zeros(3), torch.ones(3)), pool=pool)
    assert made.shape == (2, feature_width(SMALL, pool))


def test_twenty_images_of_a_thousand_classes_are_probed_with_a_pool_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(size("base"), 20, 20, 1000)
    assert need.bytes("tokens") > 20e9, "what the command took before, 36 times 602 MB, on any machine"
    monkeypatch.setattr(memory, "free_memory", lambda: int(64e9))
    pool, why = need.choose()
    assert pool == "blocks" and need.bytes(pool) < 4e9
    assert why.startswith("pool blocks: tokens features of 20 + 20 images at 150,528 values each and a layer of 1,000 classes take about")
    assert Need(SMALL, 1000, 1000, 10).choose() == ("tokens", "")


def test_what_does_not_fit_is_refused_with_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: int(14e9))
    with pytest.raises(MinimaeError, match=r"take about 23.0 GB, and 14.0 GB are free: use --pool blocks \(1.4 GB\), or --pool mean"):
        Need(size("base"), 20, 20, 1000).check("tokens")
    with pytest.raises(MinimaeError, match=r"tokens features of 1,281,167 \+ 50,000 images at 150,528 values each take about [\d,.]+ GB"):
        Need(size("base"), 1_281_167, 50_000).check("tokens")
    with pytest.raises(MinimaeError, match="mean features of 1,281,167 .* more than 4.0 GB: use fewer images"):
        Need(size("base"), 1_281_167, 50_000, 1000).choose()


def test_the_limit_of_a_control_group_or_of_ulimit_counts() -> None:
    import resource

    program = "from minimae.tasks.memory import free_memory; print(free_memory())"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, preexec_fn=limited)
    assert 0 < int(done.stdout) < 6 * 2**30 and free_memory() > 0


@pytest.mark.parametrize(("most", "used", "cache"), [
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
])  # fmt: skip
def test_files_that_were_read_are_no_used_memory(most: str, used: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in ((most, "1000\n"), (used, "900\n"), (f"{Path(most).parent}/memory.stat", f"anon 100\n{cache} 700\nslab 50\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert free_memory() == 800
    (tmp_path / most).write_text("max\n")
    assert free_memory() > 1000, "no limit"


def test_features_of_files_and_of_memory_are_those_of_the_images(tmp_path: Path) -> None:
    """In parts, from files, and with an image left out: one row for each image, in order."""
    stream = open_folder(make_folder(tmp_path, classes=3, train=5, val=1, share=0.1))
    encoder, reading = Encoder(SMALL), LoaderConfig(workers=0, skip_corrupt=True)
    whole = in_memory(stream, image=(16, 16))
    expected = extract(encoder, whole, stream.statistics, pool="tokens")
    for source in (stream, whole):
        features, labels = features_of(encoder, source, stream.statistics, reading, pool="tokens")
        assert torch.allclose(features, expected, atol=1e-5) and torch.equal(labels, whole.labels)
    stream.path_of(4).write_bytes(b"broken")
    features, labels = features_of(encoder, stream, stream.statistics, reading, pool="tokens")
    left = torch.tensor([i for i in range(15) if i != 4])
    assert torch.allclose(features, expected[left], atol=1e-5) and torch.equal(labels, whole.labels[left])
    with pytest.raises(ValueError, match="has no labels"):
        features_of(encoder, replace(whole, labels=None), stream.statistics)


def test_the_command_says_what_it_chose(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["--weights", "fashion-nano", "--data", "fashion", "--limit", "60", "--device", "cpu"]
    monkeypatch.setattr(memory, "ROOM", 5e6)
    assert main(["probe", *weights]) == 0
    told = capsys.readouterr().out
    assert "pool blocks: tokens features of 60 + 60 images" in told and "linear probe, blocks features" in told
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    assert main(["probe", *weights, "--pool", "tokens"]) == 2
    assert main(["knn", *weights, "--pool", "tokens"]) == 2
    assert capsys.readouterr().err.count("GB are free: use fewer images (--limit)") == 2
