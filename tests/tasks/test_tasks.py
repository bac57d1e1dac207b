"""Features, neighbours, probe, fine-tuning, comparison, reconstruction: against independent references."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from minimae_book.demo import compare
from minimae_book.photographs import reconstruction_figure
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from minimae import MinimaeError, make_mask
from minimae.data.augment import normalise
from minimae.data.images import Images
from minimae.random import permutation
from minimae.tasks.evaluation import logits_of
from minimae.tasks.features import extract, pixel_features
from minimae.tasks.finetune import Classifier, Finetune, finetune
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import Pretrain, Pretrained, baseline_loss, build, pretrain
from minimae.tasks.probe import PENALTIES, fit_linear, probe_predict, standardise
from minimae.tasks.reconstruct import caption, fit_to_model, read_picture, reconstruct_batch
from minimae.weights import load_pretrained

RECIPE = Pretrain(
    size="nano", width=16, depth=2, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2, patch=4, epochs=30,
    warmup_epochs=2, batch=16, base_lr=0.02, crop=None, flip=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def images() -> Images:
    """Four classes that a network can tell apart: which quarter of the image is bright."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 4
    angle, place = 6.28 * torch.rand(160, 1, 1, 1, generator=g), torch.linspace(-1, 1, 8)
    slope = angle.cos() * place.view(1, 1, 1, 8) + angle.sin() * place.view(1, 1, 8, 1)  # each image has its own direction of light
    pixels = (60 + 30 * slope + 5 * torch.rand(160, 1, 8, 8, generator=g)).byte()
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, 4 * (label // 2) : 4 * (label // 2) + 4, 4 * (label % 2) : 4 * (label % 2) + 4] += 120
    return Images("blobs", pixels, labels, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def trained(images: Images) -> Pretrained:
    model, _ = pretrain(RECIPE, images, quiet=True)
    return Pretrained(model, RECIPE, images.statistics)


def test_features_are_of_the_whole_image_and_batch_size_does_not_matter(images: Images, trained: Pretrained) -> None:
    encoder = trained.model.encoder
    for pool, width in (("mean", 16), ("class", 16), ("blocks", 32), ("tokens", 64)):
        features = extract(encoder, images, images.statistics, pool=pool)  # type: ignore[arg-type]
        assert features.shape == (160, width)
        assert torch.allclose(features, extract(encoder, images, images.statistics, pool=pool, batch=7), atol=1e-5)  # type: ignore[arg-type]
    tokens = encoder(normalise(images.pixels[:3], images.statistics))
    assert torch.allclose(extract(encoder, images.subset([0, 1, 2]), images.statistics), tokens[:, 1:].mean(1), atol=1e-6)


def test_trap_22_extracting_puts_the_encoder_in_eval_mode_and_leaves_no_gradient(images: Images, trained: Pretrained) -> None:
    trained.model.encoder.train()
    assert not extract(trained.model.encoder, images, images.statistics).requires_grad
    assert not trained.model.encoder.training


def test_neighbours_equal_scikit_learns() -> None:
    g = torch.Generator().manual_seed(0)
    train, test, labels = torch.randn(300, 12, generator=g), torch.randn(80, 12, generator=g), torch.arange(300) % 5
    centre = train.mean(0)
    reference = KNeighborsClassifier(9, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.07))
    reference.fit((train - centre).numpy(), labels.numpy())
    assert (knn_predict(train, labels, test, k=9).numpy() == reference.predict((test - centre).numpy())).mean() > 0.98
    with pytest.raises(ValueError, match="between 1 and the 300"):
        knn_predict(train, labels, test, k=301)


def test_the_probe_solves_the_same_problem_as_scikit_learn() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 4
    features = torch.randn(400, 10, generator=g) + 1.5 * torch.eye(4, 10)[labels]
    weight, bias = fit_linear(features, labels, 4, 0.01, iterations=200)
    # scikit-learn minimises ½‖W‖² + C · Σ losses; ours is mean loss + p · ‖W‖², so C = 1 / (2 p N)
    reference = LogisticRegression(C=1 / (2 * 0.01 * 400), tol=1e-8, max_iter=2000).fit(features.numpy(), labels.numpy())
    ours = (features @ weight.T + bias).softmax(1).numpy()
    assert np.abs(ours - reference.predict_proba(features.numpy())).max() < 1e-3


def test_the_probe_chooses_its_penalty_without_the_test_set() -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    features = torch.randn(200, 150, generator=g) + (2 * labels[:, None] - 1) * (torch.arange(150) < 3)
    predicted, penalty = probe_predict(features[:100], labels[:100], features[100:])
    order, rest = permutation(0, "split", 1, 100)[:20], permutation(0, "split", 1, 100)[20:]
    scores = {}
    for p in PENALTIES:
        reference = LogisticRegression(C=1 / (2 * p * 80), max_iter=500).fit(standardised(features)[rest].numpy(), labels[rest].numpy())
        scores[p] = reference.score(standardised(features)[order].numpy(), labels[order].numpy())
    assert scores[penalty] == max(scores.values())
    assert accuracy(predicted, labels[100:]) > 70


def standardised(features: torch.Tensor) -> torch.Tensor:
    return standardise(features[:100], features)[1]


def test_standardise_is_a_batch_norm_without_affine() -> None:
    x, y = torch.randn(50, 7) * 3 + 2, torch.randn(20, 7)
    norm = torch.nn.BatchNorm1d(7, affine=False, eps=1e-6, momentum=None)
    norm.train()
    theirs = norm(x)
    ours, _ = standardise(x, y)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_trap_21_the_classifier_leaves_the_class_token_out_and_norms_after_the_mean(trained: Pretrained, images: Images) -> None:
    classifier = Classifier(trained.model.encoder, 4).eval()
    torch.nn.init.normal_(classifier.head.weight)
    x = normalise(images.pixels[:5], images.statistics)
    tokens = trained.model.encoder.features(x)[-1]
    by_hand = torch.nn.functional.layer_norm(tokens[:, 1:].mean(1), (16,), eps=1e-6) @ classifier.head.weight.T
    assert torch.allclose(classifier(x), by_hand, atol=1e-5)


def test_trap_13_positions_are_frozen_in_pretraining_and_learned_in_fine_tuning(trained: Pretrained) -> None:
    assert not trained.model.encoder.positions.requires_grad
    classifier = Classifier(trained.model.encoder, 4)
    assert classifier.encoder.positions.requires_grad and not trained.model.encoder.positions.requires_grad


def test_fine_tuning_learns_and_leaves_the_given_encoder_alone(trained: Pretrained, images: Images) -> None:
    before = {k: v.clone() for k, v in trained.model.encoder.state_dict().items()}
    recipe = Finetune(epochs=20, warmup_epochs=1, batch=16, base_lr=0.05, crop=None, flip=False, drop_path=0.0)
    classifier, result = finetune(recipe, trained.model.encoder, images, images.statistics, quiet=True)
    assert accuracy(logits_of(classifier, images, images.statistics).argmax(1), images.labels) > 95
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(torch.equal(v, before[k]) for k, v in trained.model.encoder.state_dict().items())


def test_the_comparison_asks_everyone_the_same(trained: Pretrained, images: Images) -> None:
    recipe = Finetune(epochs=4, warmup_epochs=1, batch=16)
    found = compare(trained.model, images, images, images.statistics, recipe, recipe, labels=40)
    assert list(found.table) == ["k-NN", "probe, 160 labels", "probe, 40 labels", "tuned, 40 labels"]
    assert set(found.table["k-NN"]) == {"raw pixels", "random encoder", "MAE"}
    assert set(found.table["tuned, 40 labels"]) == {"from scratch", "MAE"}
    assert all(0 <= v <= 100 for column in found.table.values() for v in column.values())
    raw = knn_predict(pixel_features(images, images.statistics), images.labels, pixel_features(images, images.statistics))
    assert found.table["k-NN"]["raw pixels"] == pytest.approx(accuracy(raw, images.labels), abs=0.01)
    assert len({len(row) for row in found.rows()}) == 1


def test_pre_training_beats_predicting_the_mean(trained: Pretrained, images: Images) -> None:
    x = normalise(images.pixels, images.statistics)
    with torch.no_grad():
        loss = float(trained.model(x, make_mask(images.ids, (2, 2), ratio=0.75)).loss)
    assert loss < baseline_loss(trained.model, images)
    assert baseline_loss(build(RECIPE, images), images) == pytest.approx(15 / 16, abs=0.01)


@pytest.mark.parametrize("target", ["pixels", "normalised", "pca"])
def test_a_checkpoint_alone_is_enough_to_use_a_model(images: Images, tmp_path, target: str) -> None:
    model, _ = pretrain(replace(RECIPE, target=target, epochs=2), images, tmp_path, quiet=True)
    again = load_pretrained(tmp_path)
    assert again.recipe.target == target
    mask = make_mask(torch.arange(4), (2, 2), ratio=0.5)
    x = normalise(images.pixels[:4], again.statistics)
    for a, b in zip(vars(model.reconstruct(x, mask)).values(), vars(again.model.reconstruct(x, mask)).values(), strict=True):
        assert torch.equal(a, b)
    assert ("original" in caption(again, mask)) and ("50 %" in caption(again, mask))


def test_a_checkpoint_of_another_task_is_refused(images: Images, trained: Pretrained, tmp_path) -> None:
    finetune(Finetune(epochs=1, warmup_epochs=0, batch=16), trained.model.encoder, images, images.statistics, tmp_path, quiet=True)
    with pytest.raises(MinimaeError, match="is a classifier, and a pre-trained model is needed"):
        load_pretrained(tmp_path)
    with pytest.raises(MinimaeError, match="no weights at"):
        load_pretrained(tmp_path / "nowhere")


def test_reconstructions_paste_the_original_into_the_visible_patches(trained: Pretrained, images: Images) -> None:
    x, mask = normalise(images.pixels[:2], images.statistics), make_mask(torch.arange(2), (2, 2), ratio=0.5)
    pictures = trained.model.reconstruct(x, mask)
    hidden = mask.binary.view(2, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3).bool()
    assert torch.equal(pictures.inpainted[~hidden], x[~hidden]) and not torch.equal(pictures.inpainted[hidden], x[hidden])


@pytest.mark.parametrize(("side", "whole"), [(8, True), (12, False)])
def test_units_are_hidden_whole_where_they_fill_the_picture(side: int, whole: bool, images: Images) -> None:
    recipe = replace(RECIPE, patch=2, unit=2, ratio=0.5) if whole else replace(RECIPE, unit=2, ratio=0.5)
    untrained = Pretrained(build(replace(recipe, unit=1), images), recipe, images.statistics)
    triplets, _ = reconstruct_batch(untrained, torch.zeros(9, 1, side, side, dtype=torch.uint8))
    size = recipe.patch or 4
    hidden = torch.stack([seen[::size, ::size].sum(-1) > 1 for _, seen, _ in triplets])  # the colour of hidden patches, on black
    assert hidden.float().mean() == pytest.approx(0.5, abs=0.06)
    if whole:
        assert torch.equal(hidden, hidden[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (31, 90), (200, 17), (3, 3)])
def test_a_picture_of_any_size_can_be_reconstructed(trained: Pretrained, tmp_path, height: int, width: int) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    pixels = fit_to_model(read_picture(path, 1), trained)
    assert min(pixels.shape[-2:]) == 8 and all(side % 4 == 0 for side in pixels.shape[-2:])
    fig, _ = reconstruction_figure(trained, pixels)
    assert len(fig.axes) == 3


def test_what_is_not_a_picture_is_named(tmp_path) -> None:
    (tmp_path / "notes.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"notes.jpg cannot be read as a picture"):
        read_picture(tmp_path / "notes.jpg", 3)
    with pytest.raises(FileNotFoundError, match=r"no picture at .*absent.jpg"):
        read_picture(tmp_path / "absent.jpg", 3)
