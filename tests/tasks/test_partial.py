"""Partial fine-tuning: what learns, what rests, where gradients stop; and images of another size (Figure 9)."""

import pytest
import torch

from minimae.data.images import Images
from minimae.model.positions import resize_positions
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.tasks.evaluation import logits_of
from minimae.tasks.finetune import Classifier, Finetune, finetune, load_finetuned
from minimae.tasks.partial import HalfBlock, at_image
from minimae.tasks.probe_train import LinearProbe
from minimae.train.optim import layer_groups

SIZE = Size(16, 4, 2, 16, 1, 2, patch=4, image=8, channels=1)


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(SIZE)


def images(side: int = 8) -> Images:
    pixels = torch.randint(0, 256, (40, 1, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return Images("noise", pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))


def learned(classifier: Classifier) -> set[str]:
    return {n for n, p in classifier.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("blocks", [0, 0.5, 1, 2, 4])
def test_the_last_blocks_learn_and_nothing_below_them_moves(blocks: float) -> None:
    recipe = Finetune(epochs=2, warmup_epochs=0, batch=8, tune=blocks, base_lr=0.1, layer_decay=1.0)
    start = encoder()
    before = Classifier(start, 4).state_dict()
    classifier, _ = finetune(recipe, start, images(), images().statistics, quiet=True)
    moved = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    expected = {n for n in before if n.startswith(("norm", "head"))}
    if blocks == 0.5:
        expected |= {n for n in before if n.startswith(("encoder.blocks.3.norm2", "encoder.blocks.3.mlp"))}
    elif blocks == 4:
        expected = set(before)
    else:
        expected |= {n for n in before if any(n.startswith(f"encoder.blocks.{i}.") for i in range(4 - int(blocks), 4))}
    assert learned(classifier) == expected
    assert moved == expected


def test_frozen_parts_stay_in_eval_mode_and_drop_path_is_off_in_them() -> None:
    classifier = Classifier(encoder(), 4, drop_path=0.9, tune=1).train()
    assert [block.training for block in classifier.encoder.blocks] == [False, False, False, True]
    assert classifier.training and not classifier.eval().encoder.blocks[3].training
    x = torch.randn(6, 1, 8, 8)
    classifier.train()
    outputs = [classifier.encoder.features(x)[:3] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*outputs))
    assert not torch.equal(classifier.encoder(x), classifier.encoder(x)), "drop path is on in the block that learns"


def test_half_a_block_drops_its_mlp_only() -> None:
    classifier = Classifier(encoder(), 4, drop_path=0.5, tune=0.5).train()
    last = classifier.encoder.blocks[3]
    assert isinstance(last, HalfBlock)
    x = torch.randn(64, 5, 16)
    attended = x + last.attention(last.norm1(x))
    torch.manual_seed(1)
    change = (last(x) - attended).flatten(1).norm(dim=1)
    assert 10 < int((change < 1e-6).sum()) < 54
    original = encoder().blocks[3].eval()
    assert torch.equal(last.eval()(x), original(x)) and list(last.state_dict()) == list(original.state_dict())


@pytest.mark.parametrize(("blocks", "kept"), [(0, 0), (0.5, 1), (1, 1), (2, 2)])
def test_no_graph_is_built_below_the_first_part_that_learns(blocks: float, kept: int) -> None:
    classifier = Classifier(encoder(), 4, tune=blocks).train()
    outputs = classifier.encoder.features(torch.randn(2, 1, 8, 8))
    assert [x.requires_grad for x in outputs] == [False] * (4 - kept) + [True] * kept


@pytest.mark.parametrize("before", [0, 0.5, 1])
@pytest.mark.parametrize("after", [None, 0.5, 1])
def test_a_partly_tuned_classifier_is_trained_further_in_all_that_is_asked_for(before: float, after: float | None) -> None:
    once, again = Classifier(encoder(), 4, tune=before), Classifier(encoder(), 4, tune=after)
    further = Classifier(once.encoder, 4, tune=after)
    assert learned(further) == learned(again) and list(further.state_dict()) == list(again.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(further.encoder.eval()(x), again.encoder.eval()(x))
    assert learned(Classifier(LinearProbe(encoder(), 4).encoder, 4, tune=after)) == learned(again)


def test_layer_decay_keeps_the_layer_numbers() -> None:
    groups = layer_groups(Classifier(encoder(), 4, tune=1), 0.05, 0.5)
    assert {g["lr_scale"] for g in groups} == {1.0, 0.5}


@pytest.mark.parametrize(("blocks", "message"), [(5, "has 4 blocks; 5 cannot"), (1.5, "not 1.5"), (-1, "not -1")])
def test_impossible_numbers_of_blocks_are_refused(blocks: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(encoder(), 4, tune=blocks)


def test_a_partly_tuned_run_loads_as_a_classifier(tmp_path) -> None:
    recipe = Finetune(epochs=1, warmup_epochs=0, batch=8, tune=0.5)
    classifier, _ = finetune(recipe, encoder(), images(), images().statistics, tmp_path, quiet=True)
    loaded, about = load_finetuned(tmp_path)
    assert torch.equal(logits_of(loaded, images(), about["statistics"]), logits_of(classifier, images(), images().statistics))


def test_images_of_another_size_resize_the_positions_once() -> None:
    start = encoder()
    larger = at_image(start, 16)
    assert larger.size.grid == (4, 4) and larger.positions.shape == (17, 16) and start.size.grid == (2, 2)
    assert torch.equal(larger.positions, resize_positions(start.positions, (2, 2), (4, 4)))
    x = torch.randn(2, 1, 16, 16)
    assert torch.allclose(larger(x), start(x), atol=1e-6)
    with pytest.raises(ValueError, match="17"):
        at_image(start, 17)


def test_fine_tuning_at_a_larger_size_trains_and_tests_there() -> None:
    recipe = Finetune(epochs=1, warmup_epochs=0, batch=8, image=16)
    classifier, _ = finetune(recipe, encoder(), images(), images().statistics, quiet=True)
    assert classifier.encoder.positions.shape == (17, 16)
    seen = []
    classifier.encoder.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    assert logits_of(classifier, images(), images().statistics).shape[0] == 40
    assert set(seen) == {(40, 1, 16, 16)}
