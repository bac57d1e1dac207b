"""The parts of Table 9 in the step of fine-tuning: in their order, off by default, and as the sum of their own functions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from apart import apart
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay

from minimae.data.augment import Augmentation, augment, flipped, normalise
from minimae.data.images import Images
from minimae.data.loader import Loader
from minimae.data.mixing import Mixing, draw_one_share, draw_shares, erase, mix_images
from minimae.data.photos import make_folder
from minimae.data.randaugment import RandAugment, mean_colour
from minimae.data.stream import open_folder
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.recipes.imagenet import RAW, TUNED
from minimae.tasks.finetune import Classifier, Finetune, FinetuneTask, finetune
from minimae.tasks.loading import LoaderConfig
from minimae.train.optim import layer_groups

PLACES, EPOCHS = torch.tensor([5, 3, 8, 1]), torch.tensor([0, 0, 1, 1])


def unchanged(crops: torch.Tensor, ids: torch.Tensor, epochs: torch.Tensor) -> torch.Tensor:
    return crops


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
    assert torch.equal(plain.loss_of(source.batch(PLACES, EPOCHS)), expected)


@pytest.mark.parametrize("mix_by", ["image", "batch"])
def test_with_everything_the_loss_is_that_of_the_parts_in_order(mix_by: str) -> None:
    full = task(replace(TUNED, batch=4, accumulate=1, seed=3, mix_by=mix_by))
    source, stats = images(), images().statistics
    ids, labels = source.ids[PLACES], source.labels[PLACES]
    crops = Loader(source, [(PLACES, EPOCHS)], image=8, augmentation=Augmentation(scale=(0.08, 1.0)), seed=3, transform=unchanged)
    x = RandAugment((9.0, 0.5), 3, mean_colour(stats))(next(crops).pixels.movedim(1, -1), ids, EPOCHS).movedim(-1, 1) / 255
    x = flipped(x, ids, seed=3, epoch=EPOCHS)
    x = erase(normalise(x, stats), ids, 0.25, seed=3, epoch=EPOCHS)
    draw = draw_shares
    if mix_by == "batch":
        order = torch.tensor([0, 3, 1, 2])
        x, labels, draw = x[order], labels[order], draw_one_share
    shares = draw(Mixing(0.8, 1.0), ids, (8, 8), seed=3, epoch=EPOCHS)
    scores = -full.model(mix_images(x, shares)).log_softmax(1)
    loss = 0.0
    for i in range(4):
        for label, weight in ((labels[i], shares.own[i]), (labels[i ^ 1], 1 - shares.own[i])):
            loss += weight * (0.9 * scores[i, label] + 0.1 * scores[i].mean()) / 4
    assert torch.allclose(full.loss_of(next(full.loader(iter([(PLACES, EPOCHS)])))), loss, atol=1e-5)


def test_the_batch_may_be_cut_into_even_parts() -> None:
    full = task(replace(TUNED, batch=4, accumulate=1, mix_by="image"))
    whole, *halves = (full.loss_of(next(full.loader(iter([(PLACES[s], EPOCHS[s])])))) for s in (slice(4), slice(2), slice(2, 4)))
    assert torch.allclose(whole, sum(halves) / 2, atol=1e-6)


@pytest.mark.parametrize("recipe", [TUNED, RAW], ids=["Table 9", "Table 11"])
def test_the_papers_recipes_train(recipe: Finetune) -> None:
    small = replace(recipe, batch=8, accumulate=2, epochs=2, warmup_epochs=1, log_every=1)
    model, result = finetune(small, encoder(), images(), images().statistics, quiet=True)
    assert result.steps == 5 and all(p.isfinite().all() for p in model.parameters())


def test_workers_make_what_one_process_makes() -> None:
    """Images in memory and RandAugment: workers crop and change them, so no step waits for the host."""
    full = task(replace(TUNED, batch=4, accumulate=1, seed=3))
    order = [(PLACES, EPOCHS), (PLACES + 20, EPOCHS)]
    how = {"image": full.image, "augmentation": full.augmentation, "seed": 3, "transform": full.transform}
    alone, several = (list(Loader(full.dataset, order, workers=workers, **how)) for workers in (0, 2))
    for one, other, (index, epochs) in zip(alone, several, order, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert torch.equal(one.labels, full.dataset.labels[index]) and torch.equal(one.epochs, epochs)


def test_randaugment_and_crops_on_the_device_do_not_go_together(tmp_path: Path) -> None:
    stream = open_folder(make_folder(tmp_path, classes=1, train=1, val=1, share=0.1))
    with pytest.raises(ValueError, match="leave out --crop-on device"):
        FinetuneTask(TUNED, stream, images().statistics, Classifier(encoder(), 4), reading=LoaderConfig(crop_on="device"))


def test_with_an_average_the_classifier_returned_is_the_average() -> None:
    recipe = Finetune(epochs=2, warmup_epochs=0, batch=8, drop_path=0.0)
    last, _ = finetune(recipe, encoder(), images(), images().statistics, quiet=True)
    kept, _ = finetune(replace(recipe, ema=0.0), encoder(), images(), images().statistics, quiet=True)
    assert apart(last.state_dict(), kept.state_dict()) < 1e-6
    slow, _ = finetune(replace(recipe, ema=0.99999), encoder(), images(), images().statistics, quiet=True)
    assert torch.allclose(slow.encoder.project.weight, encoder().project.weight, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mixup": 0.8, "batch": 7}, "must be even, not 7"),
        ({"cutmix": 2.0}, "cutmix is the α"),
        ({"erasing": 1.5}, "erasing is a share"),
        ({"layer_decay": 0.0}, "layer_decay is a factor"),
        ({"layer_decay": 1.5}, "layer_decay is a factor"),
        ({"randaugment": (11.0, 0.5)}, "magnitude between 0 and 10"),
        ({"mix_by": "pair"}, "mix_by is 'image' or 'batch', not 'pair'"),
        ({"ema": 1.0}, "ema is a decay"),
        ({"tune": 1.5}, "not 1.5"),
    ],
)
def test_impossible_recipes_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Finetune(**wrong)


def test_every_layer_has_the_learning_rate_and_weight_decay_that_timm_gives_it() -> None:
    ours, theirs = Classifier(encoder(), 4), VisionTransformer(8, 4, embed_dim=16, depth=2, num_heads=2, num_classes=4, global_pool="avg")

    def table(model: torch.nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        return {names[id(p)]: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}

    found = table(ours, layer_groups(ours, 0.05, 0.65))
    right = table(theirs, param_groups_layer_decay(theirs, 0.05, theirs.no_weight_decay(), layer_decay=0.65))
    pairs = {"positions": "pos_embed", "class_token": "cls_token", "project": "patch_embed.proj"}
    pairs |= {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2", "attention": "attn", "attn.out": "attn.proj"}
    for name, value in found.items():
        other = "fc_norm" + name.removeprefix("norm") if name.startswith("norm.") else name.removeprefix("encoder.")
        for mine, yours in pairs.items():
            other = other.replace(mine, yours)
        assert value == right[other], name
    assert len(found) == len(right)
