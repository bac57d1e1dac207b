"""The same model elsewhere: put together from timm's blocks in the usual official style, and the ViTMAE of transformers.

Both can be given the weights of our model, and then compute the same loss for the same mask (``noise`` ``b n``; the patches with the
smallest numbers stay). Both libraries are optional: building a rival without its library raises ImportError.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from minimae.model.mae import MAE
from minimae.model.masking import keep_count
from minimae.model.patches import pair, patchify
from minimae.model.sizes import Size
from minimae.model.vit import Block, Encoder


class TimmMAE(nn.Module):
    """Masked autoencoding in the usual form: project every patch with a convolution, sort the noise twice, gather the visible tokens,
    unshuffle with a second gather, predict every patch, and average the loss over the masked ones (paper, Section 3 "Implementation").

    fused=False takes the attention apart into two matrix products and a softmax, as the first implementations had it.
    """

    def __init__(self, size: Size, ratio: float = 0.75, *, fused: bool = True) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block as TimmBlock

        self.size, n = size, size.grid[0] * size.grid[1]
        self.keep = keep_count(n, ratio)
        d, width = size.width, size.decoder_width
        block = partial(TimmBlock, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6))
        self.project = nn.Conv2d(size.channels, d, kernel_size=pair(size.patch), stride=pair(size.patch))
        self.class_token = nn.Parameter(torch.zeros(1, 1, d))
        self.positions = nn.Parameter(torch.zeros(1, 1 + n, d), requires_grad=False)
        self.blocks = nn.ModuleList(block(d, size.heads, mlp_ratio=size.mlp_ratio) for _ in range(size.depth))
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.embed = nn.Linear(d, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_positions = nn.Parameter(torch.zeros(1, 1 + n, width), requires_grad=False)
        self.decoder_blocks = nn.ModuleList(block(width, size.decoder_heads, mlp_ratio=4) for _ in range(size.decoder_depth))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, size.values)
        for part in (*self.blocks, *self.decoder_blocks):
            part.attn.fused_attn = fused and part.attn.fused_attn

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images ``b c height width`` → the loss on normalised pixels, a scalar."""
        x = self.project(images).flatten(2).transpose(1, 2) + self.positions[:, 1:]
        b, n, d = x.shape
        shuffle = (torch.rand(b, n, device=x.device) if noise is None else noise).argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        x = x.gather(1, shuffle[:, : self.keep, None].expand(-1, -1, d))
        x = torch.cat([(self.class_token + self.positions[:, :1]).expand(b, -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.embed(self.norm(x))
        hidden = self.mask_token.to(x.dtype).expand(b, n - self.keep, -1)
        unshuffled = torch.cat([x[:, 1:], hidden], dim=1).gather(1, restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], unshuffled], dim=1) + self.decoder_positions
        for block in self.decoder_blocks:
            x = block(x)
        predicted = self.predict(self.decoder_norm(x))[:, 1:]
        patches = patchify(images, self.size.patch)
        target = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        masked = (restore >= self.keep).to(target.dtype)
        losses = (predicted - target).square().mean(-1)
        return (losses * masked).sum() / masked.sum()


def timm_mae(mae: MAE, ratio: float, *, fused: bool = True) -> TimmMAE:
    """:class:`TimmMAE` with the weights of ours."""
    theirs = TimmMAE(mae.size, ratio, fused=fused)
    encoder, decoder = mae.encoder, mae.decoder
    copy_tokens(theirs, encoder, "class_token", "positions")
    copy_projection(theirs.project, encoder)
    for part, source in zip((*theirs.blocks, *theirs.decoder_blocks), (*encoder.blocks, *decoder.blocks)):
        copy_block(part, source)
    assert decoder.mask_token is not None
    for place, value in ((theirs.mask_token, decoder.mask_token), (theirs.decoder_positions, decoder.positions[None])):
        place.data.copy_(value.data)
    for name, linear in (("norm", encoder.norm), ("embed", decoder.embed), ("decoder_norm", decoder.norm), ("predict", decoder.predict)):
        theirs.get_submodule(name).load_state_dict(linear.state_dict())
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
    theirs: Any = ViTMAEForPreTraining(ViTMAEConfig(**transformers_config(s), **more, norm_pix_loss=True, mask_ratio=ratio))
    copy_transformers_encoder(theirs.vit, mae.encoder)
    ours, tops = mae.decoder, theirs.decoder
    assert ours.mask_token is not None
    tops.mask_token.data.copy_(ours.mask_token.data)
    tops.decoder_pos_embed.data.copy_(ours.positions.data[None])
    for name, linear in (("decoder_embed", ours.embed), ("decoder_norm", ours.norm), ("decoder_pred", ours.predict)):
        getattr(tops, name).load_state_dict(linear.state_dict())
    for part, source in zip(tops.decoder_layers, ours.blocks):
        copy_block(part, source)
    return Picked(theirs, "loss")


def timm_encoder(encoder: Encoder) -> nn.Module:
    """timm's VisionTransformer with the weights of ours: images → tokens ``b (1 + n) d``, after the last norm."""
    from timm.models.vision_transformer import VisionTransformer

    s = encoder.size
    theirs: Any = VisionTransformer(
        img_size=s.image, patch_size=s.patch, in_chans=s.channels, num_classes=0, embed_dim=s.width, depth=s.depth,
        num_heads=s.heads, mlp_ratio=s.mlp_ratio, norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    theirs.cls_token.data.copy_(encoder.class_token.data)
    theirs.pos_embed.data.copy_(encoder.positions.data[None])
    copy_projection(theirs.patch_embed.proj, encoder)
    copy_norm(theirs, "norm", encoder)
    for part, source in zip(theirs.blocks, encoder.blocks):
        copy_block(part, source)
    theirs.forward = theirs.forward_features
    return theirs  # type: ignore[no-any-return]


def transformers_encoder(encoder: Encoder) -> Picked:
    """transformers' ViTModel with the weights of ours: images → tokens ``b (1 + n) d``, after the last norm."""
    from transformers import ViTConfig, ViTModel

    theirs: nn.Module = ViTModel(ViTConfig(**transformers_config(encoder.size)), add_pooling_layer=False)
    copy_transformers_encoder(theirs, encoder)
    return Picked(theirs, "last_hidden_state")


class Picked(nn.Module):
    """A model of transformers reduced to one thing it returns: the loss of a ViTMAE, or the tokens of a ViT."""

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


def copy_transformers_encoder(theirs: Any, encoder: Encoder) -> None:
    """Our encoder's weights into the body of a ViT or a ViTMAE of transformers."""
    theirs.embeddings.cls_token.data.copy_(encoder.class_token.data)
    theirs.embeddings.position_embeddings.data.copy_(encoder.positions.data[None])
    copy_projection(theirs.embeddings.patch_embeddings.projection, encoder)
    copy_norm(theirs, "layernorm", encoder)
    layers = theirs.layers if hasattr(theirs, "layers") else theirs.encoder.layer  # up to version 5.0
    for part, source in zip(layers, encoder.blocks):
        copy_block(part, source)


def copy_tokens(theirs: nn.Module, ours: nn.Module, *names: str) -> None:
    """Parameters of the same name, whatever leading axes of length 1 they have there."""
    for name in names:
        place, value = getattr(theirs, name), getattr(ours, name)
        place.data.copy_(value.data.reshape(place.shape))


def copy_norm(theirs: nn.Module, name: str, encoder: Encoder) -> None:
    """The last norm; where our encoder has none (in a classifier), theirs loses it too."""
    norm: nn.Module = encoder.norm
    if isinstance(norm, nn.LayerNorm):
        theirs.get_submodule(name).load_state_dict(norm.state_dict())
    else:
        setattr(theirs, name, nn.Identity())


def copy_projection(convolution: Any, encoder: Encoder) -> None:
    """Our projection of flat patches (p1, p2, c) as the weight of a convolution (c, p1, p2)."""
    p1, p2 = pair(encoder.size.patch)
    convolution.weight.data.copy_(rearrange(encoder.project.weight.data, "d (p1 p2 c) -> d c p1 p2", p1=p1, p2=p2))
    convolution.bias.data.copy_(encoder.project.bias.data)


def copy_block(theirs: nn.Module, ours: nn.Module) -> None:
    """The weights of our block into a transformer block that calls its parts as timm or as transformers (4 or 5) does."""
    assert isinstance(ours, Block)
    attention, mlp = ours.attention, ours.mlp
    q, k, v = (dict(weight=w, bias=b) for w, b in zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)))
    out, up, down = (part.state_dict() for part in (attention.out, mlp.up, mlp.down))
    endings: list[tuple[str, dict[str, Any]]] = [
        ("attn.qkv", attention.qkv.state_dict()), ("q_proj", q), ("k_proj", k), ("v_proj", v), ("query", q), ("key", k), ("value", v),
        ("attn.proj", out), ("o_proj", out), ("attention.output.dense", out), ("fc1", up), ("intermediate.dense", up), ("fc2", down),
        ("output.dense", down), ("norm1", ours.norm1.state_dict()), ("layernorm_before", ours.norm1.state_dict()),
        ("norm2", ours.norm2.state_dict()), ("layernorm_after", ours.norm2.state_dict()),
    ]  # fmt: skip
    for name, part in theirs.named_modules():
        if isinstance(part, nn.Linear | nn.LayerNorm):
            source = next((tensors for ending, tensors in endings if name.endswith(ending)), None)
            if source is None:
                raise ValueError(f"{type(theirs).__name__} has a part {name!r} that is not known; this version of its library is too new")
            part.load_state_dict({key: tensor.detach() for key, tensor in source.items()})
