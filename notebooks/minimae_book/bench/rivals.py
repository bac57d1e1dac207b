"""The same model in other libraries: built from timm's blocks in the style of the official code, and the ViTMAE of transformers.

Both can be given the weights of our model, and then compute the same loss for the same mask (``noise`` ``b n``; the patches with the
smallest numbers stay). Both libraries are optional: building a rival without its library raises ImportError.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimae.model.mae import MAE
from minimae.model.masking import keep_count
from minimae.model.patches import pair, patchify
from minimae.model.sizes import Size
from minimae.model.vit import Encoder
from minimae.weights import huggingface, official
from minimae.weights.layouts import Names, to_theirs


class TimmMAE(nn.Module):
    """Masked autoencoding in the usual form: project every patch with a convolution, sort the noise twice, gather the visible tokens,
    unshuffle with a second gather, predict every patch, and average the loss over the masked ones (paper, Section 3 "Implementation").

    fused=False splits the attention into two matrix products and a softmax, as in the first implementations.
    """

    def __init__(self, size: Size, ratio: float = 0.75, *, fused: bool = True) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block as TimmBlock

        self.size, n = size, size.grid[0] * size.grid[1]
        self.keep = keep_count(n, ratio)
        d, width = size.width, size.decoder_width
        block = partial(TimmBlock, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(size.channels, d, kernel_size=pair(size.patch), stride=pair(size.patch))})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + n, d), requires_grad=False)
        self.blocks = nn.ModuleList(block(d, size.heads, mlp_ratio=size.mlp_ratio) for _ in range(size.depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.decoder_embed = nn.Linear(d, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, 1 + n, width), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(block(width, size.decoder_heads, mlp_ratio=4) for _ in range(size.decoder_depth))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, size.values)
        for part in (*self.blocks, *self.decoder_blocks):
            part.attn.fused_attn = fused and part.attn.fused_attn

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images ``b c height width`` → the loss on normalised pixels, a scalar."""
        x = self.patch_embed["proj"](images).flatten(2).transpose(1, 2) + self.pos_embed[:, 1:]
        b, n, d = x.shape
        shuffle = (torch.rand(b, n, device=x.device) if noise is None else noise).argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        x = x.gather(1, shuffle[:, : self.keep, None].expand(-1, -1, d))
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(b, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        hidden = self.mask_token.to(x.dtype).expand(b, n - self.keep, -1)
        unshuffled = torch.cat([x[:, 1:], hidden], dim=1).gather(1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], unshuffled], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        predicted = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        patches = patchify(images, self.size.patch)
        target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        masked = (restore >= self.keep).to(target.dtype)
        losses = (predicted - target).square().mean(-1)
        return (losses * masked).sum() / masked.sum()


def timm_mae(mae: MAE, ratio: float, *, fused: bool = True) -> TimmMAE:
    """:class:`TimmMAE` with our weights."""
    theirs = TimmMAE(mae.size, ratio, fused=fused)
    copy_weights(theirs, mae, official.NAMES)
    return theirs


def transformers_mae(mae: MAE, ratio: float) -> Picked:
    """transformers' ViTMAEForPreTraining with the weights and the positions of ours (from a config alone it may zero its positions).

    Images ``b c height width`` → the loss, a scalar.
    """
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    s = mae.size
    decoder = {"hidden_size": s.decoder_width, "num_hidden_layers": s.decoder_depth, "num_attention_heads": s.decoder_heads}
    decoder |= {"intermediate_size": 4 * s.decoder_width}
    more = {f"decoder_{name}": value for name, value in decoder.items()}
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**transformers_config(s), **more, norm_pix_loss=True, mask_ratio=ratio))
    copy_weights(theirs, mae, huggingface.NAMES)
    return Picked(theirs, "loss")


def timm_encoder(encoder: Encoder) -> nn.Module:
    """timm's VisionTransformer with our weights: images → tokens ``b (1 + n) d``, after the last norm."""
    from timm.models.vision_transformer import VisionTransformer

    s = encoder.size
    theirs: Any = VisionTransformer(
        img_size=s.image, patch_size=s.patch, in_chans=s.channels, num_classes=0, embed_dim=s.width, depth=s.depth,
        num_heads=s.heads, mlp_ratio=s.mlp_ratio, norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    if "norm.weight" not in encoder.state_dict():  # in a classifier
        theirs.norm = nn.Identity()
    copy_weights(theirs, encoder, official.NAMES)
    theirs.forward = theirs.forward_features
    return theirs  # type: ignore[no-any-return]


def transformers_encoder(encoder: Encoder) -> Picked:
    """transformers' ViTModel with our weights: images → tokens ``b (1 + n) d``, after the last norm."""
    from transformers import ViTConfig, ViTModel

    theirs: Any = ViTModel(ViTConfig(**transformers_config(encoder.size)), add_pooling_layer=False)
    if "norm.weight" not in encoder.state_dict():  # in a classifier
        theirs.layernorm = nn.Identity()
    copy_weights(theirs, encoder, huggingface.NAMES)
    return Picked(theirs, "last_hidden_state")


class Picked(nn.Module):
    """A model of transformers reduced to one of its outputs: the loss of a ViTMAE, or the tokens of a ViT."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        output = self.model(images) if noise is None else self.model(images, noise=noise)
        return output[self.name]  # type: ignore[no-any-return]


def transformers_config(s: Size) -> dict[str, Any]:
    """The fields that describe our encoder in a ViT's or a ViTMAE's config."""
    return {
        "image_size": s.image, "patch_size": s.patch, "num_channels": s.channels, "hidden_size": s.width,
        "num_hidden_layers": s.depth, "num_attention_heads": s.heads, "intermediate_size": s.mlp_ratio * s.width,
        "layer_norm_eps": 1e-6, "hidden_act": "gelu", "qkv_bias": True, "hidden_dropout_prob": 0.0,
    }  # fmt: skip


@torch.no_grad()
def copy_weights(theirs: nn.Module, ours: MAE | Encoder, names: Names) -> None:
    """Copy our weights into the same model of another library, by the names that ``minimae.weights`` knows.

    Raises ValueError when one of the two has tensors that the other lacks.
    """
    source: dict[str, Tensor] = {}
    for name, tensor in ours.state_dict(prefix="" if isinstance(ours, MAE) else "encoder.").items():
        source |= to_theirs(name, tensor, names.of(name), ours.size)
    places = theirs.state_dict()
    places = huggingface.names_of_files(places) if names is huggingface.NAMES else places
    if unknown := sorted(set(places) ^ set(source)):
        raise ValueError(f"{type(theirs).__name__} and our model differ in {unknown[0]!r}; this version of its library is too new")
    for name, place in places.items():
        place.copy_(source[name])
