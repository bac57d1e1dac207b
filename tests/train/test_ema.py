"""The moving average of the weights: the formula, what runs when, and that a resumed run goes on with it."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from minimae import Interrupted
from minimae.data.images import Images
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.tasks.finetune import Finetune, finetune, load_finetuned
from minimae.train.ema import Averaged

RECIPE = Finetune(epochs=3, warmup_epochs=1, batch=8, ema=0.8, mixup=0.8, cutmix=1.0, erasing=0.5, save_every=0.0, log_every=1)


def noise() -> Images:
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Size(16, 2, 2, 16, 1, 2, patch=4, image=8, channels=1))


def test_it_is_the_geometric_sum_of_all_weights_so_far() -> None:
    model = nn.Linear(3, 2).double()
    averaged, history = Averaged(model, 0.9), [model.weight.detach().clone()]
    for _ in range(7):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        averaged.update()
        history.append(model.weight.detach().clone())
    expected = 0.9**7 * history[0] + sum(0.1 * 0.9 ** (7 - t) * history[t] for t in range(1, 8))
    assert torch.allclose(averaged.average.weight, expected, rtol=1e-12)


def test_it_is_torch_s_average_begun_at_the_initial_weights() -> None:
    model = nn.Linear(3, 2)
    averaged, theirs = Averaged(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.n_averaged.fill_(1)  # torch's would otherwise begin at the weights after the first step
    for _ in range(7):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        averaged.update()
        theirs.update_parameters(model)
    assert torch.equal(averaged.average.weight, theirs.module.weight)


def test_training_runs_the_model_and_eval_the_average_which_learns_nothing() -> None:
    averaged, x = Averaged(nn.Linear(3, 2), 0.5), torch.randn(4, 3)
    with torch.no_grad():
        averaged.model.weight.zero_()
    assert torch.equal(averaged.train()(x), averaged.model(x)) and torch.equal(averaged.eval()(x), averaged.average(x))
    assert not torch.equal(averaged(x), averaged.model(x))
    assert not any(p.requires_grad for p in averaged.average.parameters())


def test_buffers_are_those_of_the_model() -> None:
    averaged = Averaged(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)), 0.5)
    averaged.train()(torch.randn(9, 3) + 5)
    averaged.update()
    assert torch.equal(averaged.average[1].running_mean, averaged.model[1].running_mean) and averaged.average[1].running_mean.any()


def test_a_resumed_run_with_every_part_of_the_recipe_has_the_same_average_to_the_bit(tmp_path, monkeypatch) -> None:
    images = noise()
    whole, _ = finetune(RECIPE, encoder(), images, images.statistics, tmp_path / "a", quiet=True)
    calls = []
    step = Averaged.update

    def stops(self) -> None:
        step(self)
        calls.append(1)
        if len(calls) == 7:
            raise Interrupted("stopped", 15)

    monkeypatch.setattr(Averaged, "update", stops)
    with pytest.raises(Interrupted):
        finetune(RECIPE, encoder(), images, images.statistics, tmp_path / "b", quiet=True)
    monkeypatch.undo()
    again, _ = finetune(RECIPE, encoder(), images, images.statistics, tmp_path / "b", resume=True, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values()))
    loaded, about = load_finetuned(tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), loaded.state_dict().values()))
    assert about["classes"] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay of a moving average"):
        Averaged(nn.Linear(2, 2), decay)
