"""The parts of Table 9 in the step of fine-tuning: in their order, off by default, and as the sum of their own functions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minimae.augment import Augmentation, augment, normalise
from minimae.data.source import Images
from minimae.recipes.imagenet import RAW, TUNED
from minimae.sizes import Size
from minimae.tasks.finetune import Classifier, Finetune, FinetuneTask, finetune
from minimae.tasks.mixing import Mixing, draw_shares, mix_images
from minimae.tasks.strong import erase, randaugment
from minimae.vit import Encoder

PLACES, EPOCHS = torch.tensor([5, 3, 8, 1]), torch.tensor([0, 0, 1, 1])


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(Size(16, 2, 2, 16, 1, 2, patch=4, image=8, channels=3))


def images() -> Images:
    pixels = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"), ids=torch.arange(40) + 1000)


def task(recipe: Finetune) -> FinetuneTask:
    model = Classifier(encoder(), 4)
    torch.nn.init.normal_(model.head.weight)
    return FinetuneTask(recipe, images(), images().statistics, model)


def test_by_default_nothing_is_added() -> None:
    plain = task(Finetune())
    source, r = images(), Finetune()
    x = augment(source.pixels[PLACES], source.ids[PLACES], Augmentation(scale=r.crop), seed=0, epoch=EPOCHS, size=(8, 8))
    expected = F.cross_entropy(plain.model(normalise(x, source.statistics)), source.labels[PLACES], label_smoothing=0.1)
    assert torch.equal(plain.loss(source.at(PLACES, EPOCHS)), expected)


def test_with_everything_the_loss_is_that_of_the_parts_in_order() -> None:
    full = task(replace(TUNED, batch=4, accumulate=1, seed=3))
    source, stats = images(), images().statistics
    ids, labels = source.ids[PLACES], source.labels[PLACES]
    x = augment(source.pixels[PLACES], ids, Augmentation(scale=(0.08, 1.0)), seed=3, epoch=EPOCHS, size=(8, 8))
    x = erase(normalise(randaugment(x, ids, (9.0, 0.5), seed=3, epoch=EPOCHS), stats), ids, 0.25, seed=3, epoch=EPOCHS)
    shares = draw_shares(Mixing(0.8, 1.0), ids, (8, 8), seed=3, epoch=EPOCHS)
    scores = -full.model(mix_images(x, shares)).log_softmax(1)
    loss = 0.0
    for i in range(4):
        for label, weight in ((labels[i], shares.own[i]), (labels[i ^ 1], 1 - shares.own[i])):
            loss += weight * (0.9 * scores[i, label] + 0.1 * scores[i].mean()) / 4
    assert torch.allclose(full.loss(source.at(PLACES, EPOCHS)), loss, atol=1e-5)


def test_the_batch_may_be_cut_into_even_parts() -> None:
    full = task(replace(TUNED, batch=4, accumulate=1))
    source = images()
    halves = [full.loss(source.at(PLACES[i : i + 2], EPOCHS[i : i + 2])) for i in (0, 2)]
    assert torch.allclose(full.loss(source.at(PLACES, EPOCHS)), sum(halves) / 2, atol=1e-6)


@pytest.mark.parametrize("recipe", [TUNED, RAW], ids=["Table 9", "Table 11"])
def test_the_papers_recipes_train(recipe: Finetune) -> None:
    small = replace(recipe, batch=8, accumulate=2, epochs=2, warmup_epochs=1, log_every=1)
    model, result = finetune(small, encoder(), images(), images().statistics, quiet=True)
    assert result.steps == 5 and all(p.isfinite().all() for p in model.parameters())


def test_with_an_average_the_classifier_returned_is_the_average() -> None:
    recipe = Finetune(epochs=2, warmup_epochs=0, batch=8, drop_path=0.0)
    last, _ = finetune(recipe, encoder(), images(), images().statistics, quiet=True)
    kept, _ = finetune(replace(recipe, ema=0.0), encoder(), images(), images().statistics, quiet=True)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(last.state_dict().values(), kept.state_dict().values()))
    slow, _ = finetune(replace(recipe, ema=0.99999), encoder(), images(), images().statistics, quiet=True)
    assert torch.allclose(slow.encoder.project.weight, encoder().project.weight, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mixup": 0.8, "batch": 7}, "must be even, not 7"),
        ({"cutmix": 2.0}, "cutmix is the α"),
        ({"erasing": 1.5}, "erasing is a share"),
        ({"randaugment": (11.0, 0.5)}, "magnitude between 0 and 10"),
        ({"ema": 1.0}, "ema is a decay"),
        ({"tune": 1.5}, "not 1.5"),
    ],
)
def test_impossible_recipes_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Finetune(**wrong)
