"""Weights of timm, of transformers and in the authors' layout: the same outputs at every block, and the same bits on the way back."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from oracles import images_for, scrambled, small
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

import minimae
from minimae import MAE, MinimaeError, weights
from minimae.cli.program import main
from minimae.model.masking import keep_count, mask_from_noise
from minimae.model.positions import resize_positions
from minimae.tasks.finetune import Classifier
from minimae.tasks.pretrain import Pretrain, Pretrained
from minimae.weights import Classified

STATISTICS = (torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4]))


def trained(**changes: Any) -> Pretrained:
    """A pre-trained model whose every parameter differs from its start."""
    size = small(**changes)
    names = ("width", "depth", "heads", "decoder_width", "decoder_depth", "decoder_heads", "patch", "image")
    recipe = Pretrain(size="nano", target="normalised", ratio=0.6, **{name: getattr(size, name) for name in names})
    mean, deviation = (x[:1].expand(size.channels).clone() if size.channels != 3 else x for x in STATISTICS)
    return Pretrained(scrambled(MAE(size)).eval(), recipe, (mean, deviation))  # type: ignore[arg-type]


def equal(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def near(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


# --- there and back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "name"), [("minimae", "a.safetensors"), ("official", "a.pth"), ("official", "a.safetensors"), ("huggingface", "a")]
)
@pytest.mark.parametrize(
    "changes", [{}, {"channels": 1, "width": 48, "heads": 3}, {"patch": (4, 2), "image": (16, 24)}], ids=["rgb", "grey", "wide"]
)
def test_there_and_back_to_the_bit(layout: Any, name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    before = trained(**changes)
    if layout == "huggingface" and "patch" in changes:
        with pytest.raises(MinimaeError, match=r"takes square patches in its config, not 4×2"):
            weights.save(before, tmp_path / name, layout)
        assert not list(tmp_path.iterdir())
        return
    weights.save(before, tmp_path / name, layout)
    after = minimae.load(tmp_path / name)
    assert isinstance(after, Pretrained) and equal(after.model, before.model) and after.model.size == before.model.size
    assert after.recipe == before.recipe and after.decoder
    assert all(torch.equal(a, b) for a, b in zip(after.statistics, before.statistics, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_compiled_part_has_its_own_names(tmp_path: Path) -> None:
    before, model = trained(), trained().model
    model.load_state_dict(before.model.state_dict())
    model.encoder = torch.compile(model.encoder)  # type: ignore[assignment]
    weights.save(replace(before, model=model), tmp_path / "a.pth", "official")
    assert equal(minimae.load(tmp_path / "a.pth").model, before.model)


def test_an_encoder_alone(tmp_path: Path) -> None:
    before = trained()
    for layout, name in (("official", "a.pth"), ("timm", "b.safetensors"), ("huggingface", "c")):
        weights.save(before, tmp_path / name, layout, encoder_only=True)  # type: ignore[arg-type]
        after = minimae.load(tmp_path / name)
        assert isinstance(after, Pretrained) and equal(after.model.encoder, before.model.encoder) and not after.decoder
    with pytest.raises(MinimaeError, match="cannot reconstruct"):
        from minimae.tasks.reconstruct import reconstruct_batch

        reconstruct_batch(after, torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    weights.save(after, tmp_path / "d.safetensors", "minimae")
    assert not minimae.load(tmp_path / "d.safetensors").decoder, "our own file remembers it"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pool", "layout", "name"), [("mean", "official", "a.pth"), ("mean", "timm", "b.safetensors"), ("class", "huggingface", "c")]
)
def test_classifiers(pool: Any, layout: Any, name: str, tmp_path: Path) -> None:
    classifier = scrambled(Classifier(trained().model.encoder, 5, pool=pool)).eval()
    before = Classified(classifier, STATISTICS, ("a", "b", "c", "d", "e"), "pets")  # type: ignore[arg-type]
    weights.save(before, tmp_path / name, layout)
    after = minimae.load(tmp_path / name)
    assert isinstance(after, Classified) and equal(after.classifier, classifier) and after.classifier.pool == pool
    assert after.classes == before.classes and after.data == "pets"
    with pytest.raises(MinimaeError, match="is a classifier, and a pre-trained model is needed"):
        minimae.weights.load_pretrained(tmp_path / name)


# --- from others ----------------------------------------------------------------------------------------------------------


def big(**changes: Any) -> ViTMAEForPreTraining:
    """A ViTMAE of transformers with positions (from a config alone it may have none) and noise in every weight."""
    fields = dict(
        image_size=16, patch_size=4, num_channels=3, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        decoder_hidden_size=16, decoder_num_hidden_layers=2, decoder_num_attention_heads=2, decoder_intermediate_size=64,
        layer_norm_eps=1e-6, norm_pix_loss=True,
    )  # fmt: skip
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**{**fields, **changes}))
    with torch.no_grad():
        for place in (theirs.vit.embeddings.position_embeddings, theirs.decoder.decoder_pos_embed):
            place.copy_(torch.randn_like(place))
    return scrambled(theirs).eval()  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["folder", "live", "tensors"])
def test_transformers_vitmae(how: str, tmp_path: Path) -> None:
    theirs = big()
    theirs.save_pretrained(tmp_path / "theirs")
    if how == "tensors":
        ours = weights.load(theirs.state_dict(), heads=4, decoder_heads=2)
    else:
        ours = weights.load(theirs if how == "live" else tmp_path / "theirs")
    assert isinstance(ours, Pretrained) and ours.decoder and ours.recipe.target == "normalised"
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    mask = mask_from_noise(noise, keep_count(16, 0.75))
    with torch.no_grad():
        expected = theirs(images, noise=noise, output_hidden_states=True)
        found = ours.model(images, mask)
        near(found.loss, expected.loss)
        near(found.latent, theirs.vit(images, noise=noise).last_hidden_state)
        near(ours.model.decoder(found.latent, mask, every=True), expected.logits)
        blocks = ours.model.encoder.features(images, mask)
        theirs_blocks = theirs.vit(images, noise=noise, output_hidden_states=True).hidden_states
    for one, other in zip(blocks, theirs_blocks[-len(blocks) :] if theirs_blocks else [], strict=bool(theirs_blocks)):
        near(one, other)


def test_transformers_opens_what_we_write(tmp_path: Path) -> None:
    ours = trained()
    weights.save(ours, tmp_path / "whole", "huggingface")
    weights.save(ours, tmp_path / "encoder", "huggingface", encoder_only=True)
    theirs, info = ViTMAEForPreTraining.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and theirs.config.norm_pix_loss and theirs.config.mask_ratio == 0.6
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    with torch.no_grad():
        near(ours.model(images, mask_from_noise(noise, keep_count(16, 0.6))).loss, theirs.eval()(images, noise=noise).loss)
        body = ViTMAEModel.from_pretrained(tmp_path / "encoder").eval()
        latent = ours.model.encoder(images, mask_from_noise(noise, keep_count(16, 0.6)))
        near(latent, body(images, noise=noise).last_hidden_state)
    again = json.loads((tmp_path / "whole" / "preprocessor_config.json").read_text())
    assert again["image_mean"] == pytest.approx([0.4, 0.5, 0.6])


def test_older_names_of_transformers(tmp_path: Path) -> None:
    """What transformers 4 wrote, and what the published files hold, whichever version is installed."""
    weights.save(trained(), tmp_path / "old", "huggingface")
    from safetensors import safe_open

    with safe_open(tmp_path / "old" / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    assert {"vit.encoder.layer.1.attention.attention.query.weight", "decoder.decoder_layers.0.attention.output.dense.bias"} <= names
    assert {"vit.embeddings.patch_embeddings.projection.weight", "decoder.decoder_pos_embed", "vit.layernorm.bias"} <= names


def test_transformers_classifier(tmp_path: Path) -> None:
    config = ViTConfig(
        image_size=16, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, layer_norm_eps=1e-6,
        id2label={0: "cat", 1: "dog", 2: "owl"}, label2id={"cat": 0, "dog": 1, "owl": 2},
    )  # fmt: skip
    theirs = scrambled(ViTForImageClassification(config)).eval()
    theirs.save_pretrained(tmp_path)
    for source in (tmp_path, theirs):
        ours = weights.load(source)
        assert isinstance(ours, Classified) and ours.classes == ("cat", "dog", "owl") and ours.classifier.pool == "class"
        images = torch.randn(2, 3, 16, 16)
        with torch.no_grad():
            near(ours.classifier(images), theirs(images).logits)


def timm_model(**changes: Any) -> Any:
    fields = dict(img_size=16, patch_size=4, embed_dim=48, depth=3, num_heads=3, num_classes=0)
    return scrambled(timm.models.vision_transformer.VisionTransformer(**{**fields, **changes})).eval()


@pytest.mark.parametrize("how", ["live", "file"])
def test_a_vit_of_timm(how: str, tmp_path: Path) -> None:
    theirs = timm_model()
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    ours = weights.load(theirs if how == "live" else tmp_path / "a.pth", **({} if how == "live" else {"heads": 3}))
    assert isinstance(ours, Pretrained) and not ours.decoder
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        near(ours.model.encoder(images), theirs.forward_features(images))
        theirs_blocks = theirs.forward_intermediates(
            images, return_prefix_tokens=True, intermediates_only=True, output_fmt="NLC", norm=False
        )
        for one, (patches, prefix) in zip(ours.model.encoder.features(images), theirs_blocks, strict=True):
            near(one, torch.cat([prefix, patches], dim=1))


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_classifier_of_timm_there_and_back(pool: str, tmp_path: Path) -> None:
    theirs = timm_model(num_classes=7, global_pool=pool)
    ours = weights.load(theirs)
    assert isinstance(ours, Classified)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        near(ours.classifier(images), theirs(images))
    weights.save(ours, tmp_path / "back.safetensors", "timm")
    from safetensors.torch import load_file

    again = load_file(tmp_path / "back.safetensors")
    assert again.keys() == theirs.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in theirs.state_dict().items())


def test_timm_s_own_models_of_the_paper() -> None:
    theirs = timm.create_model("vit_base_patch16_224", num_classes=0, depth=1).eval()
    ours = weights.load(theirs, original_image=224)
    assert isinstance(ours, Pretrained) and ours.model.size.heads == 12 and ours.model.size.grid == (14, 14)
    assert ours.statistics[0].tolist() == pytest.approx([0.5, 0.5, 0.5]), "its own statistics, not ImageNet's"


# --- the authors' files ---------------------------------------------------------------------------------------------------


def official(trained_model: Pretrained) -> dict[str, Tensor]:
    """The names and shapes of the authors' code, written down by hand."""
    own, s = trained_model.model.state_dict(), trained_model.model.size
    found = {}
    for name, value in own.items():
        name = name.removeprefix("encoder.").replace("decoder.blocks", "decoder_blocks").replace("decoder.embed", "decoder_embed")
        name = (
            name.replace("decoder.predict", "decoder_pred")
            .replace("decoder.norm", "decoder_norm")
            .replace("decoder.mask_token", "mask_token")
        )
        name = name.replace("attention.qkv", "attn.qkv").replace("attention.out", "attn.proj").replace("mlp.up", "mlp.fc1")
        name = name.replace("mlp.down", "mlp.fc2").replace("class_token", "cls_token").replace("project.", "patch_embed.proj.")
        if name.endswith("positions"):
            name, value = {"positions": "pos_embed", "decoder.positions": "decoder_pos_embed"}[name], value[None]
        if name == "patch_embed.proj.weight":
            value = value.reshape(len(value), 4, 4, s.channels).permute(0, 3, 1, 2)
        found[name] = value.clone()
    return found


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_their_pre_training(wrapped: bool, whole: bool, tmp_path: Path) -> None:
    before = trained()
    tensors = {k: v for k, v in official(before).items() if whole or not (k.startswith("decoder") or k == "mask_token")}
    beside = {"model": tensors, "epoch": 799, "args": Namespace(blr=1.5e-4, mask_ratio=0.75), "optimizer": {"state": {}}, "scaler": {}}
    torch.save(beside if wrapped else tensors, tmp_path / "theirs.pth")
    after = weights.load(tmp_path / "theirs.pth", heads=4, **({"decoder_heads": 2} if whole else {}))
    assert isinstance(after, Pretrained) and after.decoder == whole
    assert equal(after.model.encoder, before.model.encoder) and equal(after.model.decoder, before.model.decoder) == whole
    assert after.statistics[0].tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_their_fine_tuning(tmp_path: Path) -> None:
    before = trained()
    classifier = Classifier(before.model.encoder, 6).eval()
    for part in (classifier.norm, classifier.head):
        scrambled(part)
    named = {name: value for name, value in official(before).items() if not name.startswith(("decoder", "mask_token", "norm."))}
    named |= {f"fc_norm.{name}": value for name, value in classifier.norm.state_dict().items()}
    named |= {f"head.{name}": value for name, value in classifier.head.state_dict().items()}
    torch.save({"model": named}, tmp_path / "tuned.pth")
    after = weights.load(tmp_path / "tuned.pth", heads=4)
    assert isinstance(after, Classified) and after.classifier.pool == "mean" and equal(after.classifier, classifier)


def test_the_paper_s_sizes_are_known_where_the_source_states_them() -> None:
    for name, heads in (("base", 12), ("large", 16), ("huge", 16)):
        size = minimae.size(name)
        tensors = {
            "cls_token": torch.zeros(1, 1, size.width), "pos_embed": torch.zeros(1, 1 + size.grid[0] ** 2, size.width),
            "patch_embed.proj.weight": torch.zeros(size.width, 3, size.patch, size.patch), 
            "decoder_embed.weight": torch.zeros(512, size.width), "decoder_blocks.0.mlp.fc1.weight": torch.zeros(2048, 1),
            "blocks.0.mlp.fc1.weight": torch.zeros(4 * size.width, 1),
            **{f"blocks.{i}.x": torch.zeros(1) for i in range(size.depth)}, **{f"decoder_blocks.{i}.x": torch.zeros(1) for i in range(8)},
        }  # fmt: skip
        from minimae.weights.official import NAMES, facts_of_args, facts_of_name

        named = facts_of_name(f"mae_pretrain_vit_{name}_full.pth", size.width)
        stated = facts_of_args({"model": f"mae_vit_{name}_patch{size.patch}", "norm_pix_loss": True, "mask_ratio": 0.75})
        assert stated.target == "normalised" and stated.ratio == 0.75
        for facts in (named, stated):
            assert NAMES.size_of(tensors, facts, "theirs.pth") == size and facts.heads == heads
        with pytest.raises(MinimaeError, match=rf"give heads= \(--heads\). {heads} is usual at this width"):
            NAMES.size_of(tensors, replace(named, heads=None), "theirs.pth")


# --- another image, and what does not go ------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [32, (16, 24)])
@pytest.mark.parametrize("name", ["ours.safetensors", "theirs.pth"])
def test_another_image_size_only_when_asked(image: Any, name: str, tmp_path: Path) -> None:
    before = trained()
    weights.save(before, tmp_path / name, "minimae" if name.startswith("ours") else "official")
    assert minimae.load(tmp_path / name).model.size.image == 16  # type: ignore[union-attr]
    after = minimae.load(tmp_path / name, image=image)
    assert isinstance(after, Pretrained) and after.model.size.image == image
    for part in ("encoder", "decoder"):
        old, new = (getattr(model.model, part) for model in (before, after))
        assert torch.equal(new.positions, resize_positions(old.positions, (4, 4), after.model.size.grid))
    images = images_for(after.model.size)
    assert torch.equal(after.model.encoder(images), before.model.encoder(images)), "as the encoder does it by itself"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch": 8}, "has patches of 4×4 pixels, and a projection of no others; for 8×8 take other ones"),
        ({"channels": 1}, r"takes 3 channels, not 1: convert the images"),
        ({"image": 18}, "18"),
        ({"statistics": ([0.5], [0.5])}, r"means and stds are needed for 3 channels, not for 1 and 1"),
        ({"heads": 4}, r"how many heads a decoder of width 16 with 2 blocks has .* give decoder_heads= \(--decoder-heads\)"),
        ({"decoder_heads": 4}, "how many heads an encoder of width 32 with 2 blocks has cannot be seen in its weights: give heads= "),
        ({"original_image": 20}, "an image of 20×20 has 25 patches; there are 16 positions"),
    ],
)
def test_what_does_not_go_is_explained(options: dict[str, Any], said: str) -> None:
    known = {"heads": 4, "decoder_heads": 2} if len(options) == 1 and not {"heads", "decoder_heads"} & options.keys() else {}
    with pytest.raises(MinimaeError, match=said):
        weights.load(official(trained()), **known, **options)


def test_what_is_missing_or_left_over_is_listed() -> None:
    tensors = official(trained())
    del tensors["norm.weight"], tensors["decoder_blocks.1.mlp.fc2.bias"]
    tensors["blocks.0.ls1.gamma"] = torch.ones(32)
    with pytest.raises(MinimaeError, match=r"missing: decoder_blocks.1.mlp.fc2.bias, norm.weight; not known here: blocks.0.ls1.gamma"):
        weights.load(tensors, heads=4, decoder_heads=2)
    with pytest.warns(UserWarning, match="missing: decoder_blocks.1.mlp.fc2.bias, norm.weight"):
        found = weights.load(tensors, heads=4, decoder_heads=2, strict=False)
    assert isinstance(found, Pretrained) and torch.equal(found.model.encoder.norm.weight, torch.ones(32))


def test_other_networks_are_refused() -> None:
    with pytest.raises(MinimaeError, match="belong to no known layout"):
        weights.load({"conv1.weight": torch.zeros(1)})
    with pytest.raises(MinimaeError, match=r"no class token \(cls_token\)"):
        weights.load({k: v for k, v in official(trained()).items() if k != "cls_token"})
    with pytest.raises(MinimaeError, match="is not a VisionTransformer of timm"):
        weights.load(nn.Linear(2, 2))
    with pytest.raises(MinimaeError, match="was built with hidden_act 'relu'"):
        weights.load(big(hidden_act="relu"))
    with pytest.raises(MinimaeError, match="was built with norm_pre 'LayerNorm'; ours has none"):
        weights.load(timm_model(pre_norm=True))


def test_what_a_layout_cannot_hold(tmp_path: Path) -> None:
    classifier = Classified(Classifier(trained().model.encoder, 3), STATISTICS)
    for found, layout, said in (
        (trained(), "timm", "timm has no decoder"),
        (classifier, "huggingface", "reads the class token, and this one the mean"),
        (trained(), "keras", "unknown layout 'keras'"),
    ):
        with pytest.raises(MinimaeError, match=said):
            weights.save(found, tmp_path / "out.pth", layout)  # type: ignore[arg-type]
    for layout, option in (("minimae", "encoder_only"), ("official", "half")):
        with pytest.raises(ValueError, match=f"{option} has no meaning in the layout {layout}"):
            weights.save(trained(), tmp_path / "out.pth", layout, **{option: True})  # type: ignore[arg-type]
    with pytest.raises(MinimaeError, match="has the extension '.bin2': .safetensors or .pth was expected"):
        weights.save(trained(), tmp_path / "out.bin2", "official")
    assert not list(tmp_path.iterdir())
    (tmp_path / "there.pth").write_text("mine")
    with pytest.raises(MinimaeError, match="already exists"):
        weights.save(trained(), tmp_path / "there.pth", "official")


def test_a_wrong_order_of_the_patch_would_be_noticed() -> None:
    tensors = official(trained())
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"].transpose(2, 3).contiguous()
    one, other = (weights.load(x, heads=4, decoder_heads=2).model.encoder for x in (official(trained()), tensors))  # type: ignore[union-attr]
    images = torch.randn(1, 3, 16, 16)
    assert (one(images) - other(images)).abs().max() > 1e-3


# --- the command ------------------------------------------------------------------------------------------------------------


def test_the_command_goes_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [
        ("fashion-nano", "official.pth", "official"),
        ("official.pth", "folder", "huggingface"),
        ("folder", "again.safetensors", "official"),
        ("again.safetensors", "end.safetensors", "minimae"),
        ("end.safetensors", "encoder.safetensors", "timm"),
    ]
    for start, end, to in steps:
        source = start if start == "fashion-nano" else str(tmp_path / start)
        assert main(["convert", source, str(tmp_path / end), "--to", to, *(["--encoder-only"] if to == "timm" else [])]) == 0
    assert capsys.readouterr().out.count(" MB") == 5
    first, last = minimae.load("fashion-nano"), minimae.load(tmp_path / "end.safetensors")
    assert isinstance(first, Pretrained) and isinstance(last, Pretrained) and equal(first.model, last.model) and first.recipe == last.recipe
    assert main(["convert", "fashion-nano", str(tmp_path / "x.pth"), "--to", "timm"]) == 2
    assert "--encoder-only" in capsys.readouterr().err
    assert main(["convert", "fashion-nano", str(tmp_path / "end.safetensors"), "--to", "minimae"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(["convert", "fashion-nanno", str(tmp_path / "x.pth"), "--to", "timm"]) == 2
    assert "did you mean 'fashion-nano'?" in capsys.readouterr().err
    assert main(["convert", "fashion-nano", str(tmp_path / "x.pth"), "--to", "official", "--heads", "3"]) == 2
    assert "leave out" in capsys.readouterr().err
