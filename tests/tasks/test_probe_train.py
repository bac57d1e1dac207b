"""The linear probe as the paper trains it: what is frozen, how it starts, and that it finds what can be found (Table 10)."""

import pytest
import torch

from minimae.data.images import Images
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import extract
from minimae.tasks.knn import accuracy
from minimae.tasks.probe import probe_predict
from minimae.tasks.probe_train import LinearProbe, Probe, ProbeTask, train_probe
from minimae.train.lars import LARS

SMALL = Probe(batch=160, epochs=400, warmup_epochs=20, base_lr=10.0, crop=None, flip=False, pool="mean", log_every=10)


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Size(32, 2, 2, 16, 1, 2, patch=4, image=8, channels=1), drop=0.5)


@pytest.fixture(scope="module")
def images() -> Images:
    """Four classes that differ in which quarter of the image is bright."""
    g, labels = torch.Generator().manual_seed(0), torch.arange(160) % 4
    pixels = (60 * torch.rand(160, 1, 8, 8, generator=g)).byte()
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 120
    return Images("blobs", pixels, labels, ("a", "b", "c", "d"))


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_trap_22_the_encoder_is_frozen_and_in_eval_mode(images: Images, pool: str) -> None:
    start = encoder()
    probe, result = train_probe(Probe(batch=32, epochs=2, warmup_epochs=1, pool=pool), start, images, images.statistics, quiet=True)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(probe.encoder.state_dict().values(), start.state_dict().values()))
    assert not any(p.requires_grad for p in probe.encoder.parameters())
    probe.train()
    assert probe.norm.training and not any(m.training for m in probe.encoder.modules())
    x = torch.randn(9, 1, 8, 8)
    tokens = start.eval()(x)
    features = tokens[:, 0] if pool == "class" else tokens[:, 1:].mean(1)
    probe.eval()
    by_hand = (features - probe.norm.running_mean) / (probe.norm.running_var + 1e-6).sqrt() @ probe.head.weight.T + probe.head.bias
    assert torch.allclose(probe(x), by_hand, atol=1e-5)
    assert result.steps == 10


def test_it_starts_as_in_table_10() -> None:
    probe = LinearProbe(encoder(), 1000)
    assert float(probe.head.weight.detach().std()) == pytest.approx(0.01, rel=0.02) and not probe.head.bias.any()
    assert not probe.norm.affine and probe.norm.eps == 1e-6
    recipe = Probe()
    assert (recipe.batch, recipe.epochs, recipe.warmup_epochs, recipe.base_lr, recipe.weight_decay) == (16384, 90, 10, 0.1, 0)


def test_its_optimizer_is_lars_on_the_head_alone(images: Images) -> None:
    probe = LinearProbe(encoder(), 4)
    optimizer = ProbeTask(SMALL, images, images.statistics, probe).optimizer(6.4)
    assert isinstance(optimizer, LARS)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["trust"], group["weight_decay"]) == (6.4, 0.9, 0.001, 0.0)
    assert {id(p) for p in group["params"]} == {id(probe.head.weight), id(probe.head.bias)}


def test_it_finds_what_the_exact_solver_finds(images: Images) -> None:
    start = encoder()
    probe, _ = train_probe(SMALL, start, images, images.statistics, quiet=True)
    features = extract(start, images, images.statistics, pool="mean")
    exact, _ = probe_predict(features, images.labels, features)
    trained = evaluate(probe, images, images.statistics).top1
    assert accuracy(exact, images.labels) > 90 and trained > accuracy(exact, images.labels) - 5


def test_it_resumes_to_the_bit(images: Images, tmp_path, monkeypatch) -> None:
    recipe = Probe(batch=32, epochs=3, warmup_epochs=1, save_every=0.0, log_every=1)
    whole, _ = train_probe(recipe, encoder(), images, images.statistics, tmp_path / "a", quiet=True)
    loss, calls = ProbeTask.loss, []

    def dies(*given):
        calls.append(1)
        if len(calls) > 8:
            raise RuntimeError("the power is gone")
        return loss(*given)

    monkeypatch.setattr(ProbeTask, "loss", dies)
    with pytest.raises(RuntimeError, match="power"):
        train_probe(recipe, encoder(), images, images.statistics, tmp_path / "b", quiet=True)
    monkeypatch.undo()
    again, _ = train_probe(recipe, encoder(), images, images.statistics, tmp_path / "b", resume=True, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))


def test_another_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="not 'max'"):
        LinearProbe(encoder(), 4, pool="max")
