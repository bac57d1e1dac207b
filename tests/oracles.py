"""Independent answers to compare with: loops, big integers, numpy, and two big libraries with our weights copied in.

Nothing here uses the code under test, except to read its weights and sizes.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from minimae.model.mae import MAE
from minimae.model.sizes import Size
from minimae.model.vit import Encoder

# ---------------------------------------------------------------------------------------------------------- small sizes


def small(**changes: object) -> Size:
    """A model of two blocks and one block, 16 patches of 4×4 RGB pixels: milliseconds a pass. Any field can be changed."""
    fields = dict(width=32, depth=2, heads=4, decoder_width=16, decoder_depth=2, decoder_heads=2, patch=4, image=16)
    return Size(**(fields | changes))  # type: ignore[arg-type]


def images_for(size: Size, b: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random images ``b c height width`` of the size that a model is made for."""
    height, width = (size.image, size.image) if isinstance(size.image, int) else size.image
    return torch.randn(b, size.channels, height, width, dtype=dtype)


def scrambled(module: nn.Module) -> nn.Module:
    """Add noise to every trained parameter, so that no zero bias or unit norm can hide a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module


# --------------------------------------------------------------------------------------------------------------- loops


def patchify_by_loops(images: np.ndarray, p1: int, p2: int) -> np.ndarray:
    """Images ``b c H W`` → ``b n (p1 p2 c)``, one value at a time."""
    b, c, height, width = images.shape
    patches = []
    for image in images:
        for top in range(0, height, p1):
            for left in range(0, width, p2):
                patches.append([image[ch, top + i, left + j] for i in range(p1) for j in range(p2) for ch in range(c)])
    return np.array(patches).reshape(b, (height // p1) * (width // p2), p1 * p2 * c)


def sincos_by_loops(d: int, h: int, w: int) -> np.ndarray:
    """The fixed positions ``(1 + h·w) d`` in float64, one value at a time; the class token's row is zero.

    Channels come in four quarters: sine of the column, cosine of the column, sine of the row, cosine of the row.
    """
    quarter = d // 4
    table = np.zeros((1 + h * w, d))
    for row in range(h):
        for column in range(w):
            for i in range(quarter):
                frequency = 1 / 10000 ** (i / quarter)
                values = np.sin(column * frequency), np.cos(column * frequency), np.sin(row * frequency), np.cos(row * frequency)
                table[1 + row * w + column, [i, quarter + i, 2 * quarter + i, 3 * quarter + i]] = values
    return table


# -------------------------------------------------------------------------------------------------------- big integers


def splitmix64(state: int) -> int:
    """One output of SplitMix64 (Steele, Lea, Flood 2014) from a 64-bit state, in integers modulo 2^64."""
    z = (state + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def address_hash(*parts: int) -> int:
    """Absorb the integers of an address one after another: 64 bits, unsigned."""
    key = 0
    for part in parts:
        key = splitmix64(key ^ (part % 2**64))
    return key


# ------------------------------------------------------------------------------------------------------- big libraries


def _renamed(name: str, table: list[tuple[str, str]]) -> str:
    for ours, theirs in table:
        name = re.sub(ours, theirs, name)
    return name


def _convolution(weight: Tensor, size: Size) -> Tensor:
    """Our patch projection ``d (p1 p2 c)`` → the weight of a convolution ``d c p1 p2``."""
    p1, p2 = (size.patch, size.patch) if isinstance(size.patch, int) else size.patch
    return weight.reshape(len(weight), p1, p2, size.channels).permute(0, 3, 1, 2)


_TIMM = [
    (r"^class_token$", "cls_token"),
    (r"^positions$", "pos_embed"),
    (r"^project\.", "patch_embed.proj."),
    (r"attention\.qkv\.", "attn.qkv."),
    (r"attention\.out\.", "attn.proj."),
    (r"mlp\.up\.", "mlp.fc1."),
    (r"mlp\.down\.", "mlp.fc2."),
]


def timm_names(tensors: dict[str, Tensor], size: Size | None = None) -> dict[str, Tensor]:
    """Weights (or gradients) of our Encoder or Block, under timm's names and in timm's shapes."""
    theirs = {}
    for name, tensor in tensors.items():
        if name == "positions":
            tensor = tensor[None]
        elif name == "project.weight" and size is not None:
            tensor = _convolution(tensor, size)
        theirs[_renamed(name, _TIMM)] = tensor
    return theirs


def into_timm(encoder: Encoder) -> VisionTransformer:
    """A timm VisionTransformer with the weights and positions of our encoder."""
    s = encoder.size
    theirs = VisionTransformer(
        img_size=s.image, patch_size=s.patch, in_chans=s.channels, num_classes=0, embed_dim=s.width, depth=s.depth,
        num_heads=s.heads, mlp_ratio=s.mlp_ratio,
    )  # fmt: skip
    theirs.load_state_dict(timm_names(encoder.state_dict(), s), strict=True)
    return theirs.to(encoder.positions.dtype)


_HUGGINGFACE = [
    (r"^encoder\.class_token$", "vit.embeddings.cls_token"),
    (r"^encoder\.positions$", "vit.embeddings.position_embeddings"),
    (r"^encoder\.project\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^encoder\.blocks\.", "vit.layers."),
    (r"^encoder\.norm\.", "vit.layernorm."),
    (r"^decoder\.positions$", "decoder.decoder_pos_embed"),
    (r"^decoder\.predict\.", "decoder.decoder_pred."),
    (r"^decoder\.(embed|norm)\.", r"decoder.decoder_\1."),
    (r"^decoder\.blocks\.", "decoder.decoder_layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attention\.out\.", ".attention.o_proj."),
    (r"\.mlp\.up\.", ".mlp.fc1."),
    (r"\.mlp\.down\.", ".mlp.fc2."),
]


_OLDER_HUGGINGFACE = [  # up to transformers 5.0
    (r"^vit\.layers\.", "vit.encoder.layer."),
    (r"\.q_proj\.", ".attention.query."),
    (r"\.k_proj\.", ".attention.key."),
    (r"\.v_proj\.", ".attention.value."),
    (r"\.o_proj\.", ".output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]


def huggingface_names(tensors: dict[str, Tensor], size: Size, theirs: ViTMAEForPreTraining) -> dict[str, Tensor]:
    """Weights (or gradients) of our MAE, under the names and in the shapes of that Hugging Face model."""
    table = _HUGGINGFACE if hasattr(theirs.vit, "layers") else _HUGGINGFACE + _OLDER_HUGGINGFACE
    renamed = {}
    for name, tensor in tensors.items():
        if ".qkv." in name:  # they hold queries, keys and values in three layers
            for letter, part in zip("qkv", tensor.chunk(3)):
                renamed[_renamed(name.replace(".qkv.", f".{letter}_proj."), table)] = part
            continue
        if name.endswith(".positions"):
            tensor = tensor[None]
        elif name == "encoder.project.weight":
            tensor = _convolution(tensor, size)
        renamed[_renamed(name, table)] = tensor
    return renamed


def into_huggingface(mae: MAE, *, norm_pix_loss: bool, ratio: float = 0.75) -> ViTMAEForPreTraining:
    """A ViTMAEForPreTraining with the weights **and the positions** of our MAE (from a config alone it zeroes its positions)."""
    s = mae.size
    config = ViTMAEConfig(
        image_size=s.image, patch_size=s.patch, num_channels=s.channels, norm_pix_loss=norm_pix_loss, mask_ratio=ratio,
        hidden_size=s.width, num_hidden_layers=s.depth, num_attention_heads=s.heads, intermediate_size=s.mlp_ratio * s.width,
        decoder_hidden_size=s.decoder_width, decoder_num_hidden_layers=s.decoder_depth,
        decoder_num_attention_heads=s.decoder_heads, decoder_intermediate_size=4 * s.decoder_width,
        layer_norm_eps=1e-6, hidden_act="gelu", qkv_bias=True,
    )  # fmt: skip
    theirs = ViTMAEForPreTraining(config)
    theirs.load_state_dict(huggingface_names(mae.state_dict(), s, theirs), strict=True)
    return theirs.to(mae.encoder.positions.dtype)
