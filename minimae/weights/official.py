"""The authors' weights: what their code calls the parameters and saves beside them, and their published files, downloaded by name."""

from __future__ import annotations

import hashlib
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from tqdm import tqdm

from ..data.files import IMAGENET
from ..errors import MinimaeError
from ..model.sizes import SIZES
from .facts import Facts
from .layouts import Names

NAMES = Names(
    parts={
        "encoder.class_token": "cls_token", "encoder.positions": "pos_embed", "encoder.project": "patch_embed.proj",
        "encoder.blocks": "blocks", "encoder.norm": "norm", "norm": "fc_norm", "head": "head",
        "decoder.embed": "decoder_embed", "decoder.mask_token": "mask_token", "decoder.positions": "decoder_pos_embed",
        "decoder.blocks": "decoder_blocks", "decoder.norm": "decoder_norm", "decoder.predict": "decoder_pred",
    },
    block={
        "norm1": "norm1", "attention.qkv": "attn.qkv", "attention.out": "attn.proj", "norm2": "norm2", "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    },
)  # fmt: skip
ATTEMPTS = 3  # of a download, in one call
ADDRESS = "https://dl.fbaipublicfiles.com/mae"
LICENCE = (
    "These weights are the authors' (Meta), under CC BY-NC 4.0: not for commercial use. https://creativecommons.org/licenses/by-nc/4.0/"
)


def facts_of_args(args: Mapping[str, Any]) -> Facts:
    """Facts from the options that the authors' code saves beside its weights."""
    match = re.fullmatch(r"(?:mae_)?vit_(base|large|huge)_patch\d+(?:_dec512d8b)?", str(args.get("model")))
    normalised, ratio = args.get("norm_pix_loss"), args.get("mask_ratio")
    return Facts(
        heads=SIZES[match[1]].heads if match else None, decoder_heads=16 if match else None, statistics=IMAGENET if match else None,
        ratio=float(ratio) if isinstance(ratio, float) and 0 < ratio < 1 else None,
        target=None if normalised is None else "normalised" if normalised else "pixels",
    )  # fmt: skip


def facts_of_name(file: str, width: int) -> Facts:
    """Facts from the name of a file that the authors publish, when the weights have its width."""
    match = re.fullmatch(r"mae_(pretrain|visualize|finetuned)_vit_(base|large|huge)(_full|_ganloss)?\.pth", file)
    if match is None or SIZES[match[2]].width != width:
        return Facts()
    target = "pixels" if match[1] == "visualize" else "normalised"
    return Facts(heads=SIZES[match[2]].heads, decoder_heads=16, target=target, statistics=IMAGENET)


@dataclass(frozen=True)
class Published:
    """A published file: its address, the first digits of its md5 if the authors name it, and what the decoder predicts."""

    url: str
    md5: str | None = None
    target: str = "normalised"


def published() -> dict[str, Published]:
    """Weights by name. Encoders and classifiers have checksums on the authors' pages; files with a decoder have none there."""
    checksums = {"base": ("8cad7c", "1b25e9"), "large": ("b8b06e", "51f550"), "huge": ("9bdbb0", "2541f2")}
    files = {}
    for size, (encoder, classifier) in checksums.items():
        files[f"mae-{size}"] = Published(f"{ADDRESS}/pretrain/mae_pretrain_vit_{size}.pth", encoder)
        files[f"mae-{size}-full"] = Published(f"{ADDRESS}/pretrain/mae_pretrain_vit_{size}_full.pth")
        files[f"mae-{size}-pixels"] = Published(f"{ADDRESS}/visualize/mae_visualize_vit_{size}.pth", target="pixels")
        files[f"mae-{size}-finetuned"] = Published(f"{ADDRESS}/finetune/mae_finetuned_vit_{size}.pth", classifier)
    return files | {"mae-large-pixels-gan": Published(f"{ADDRESS}/visualize/mae_visualize_vit_large_ganloss.pth", target="pixels")}


PUBLISHED = published()


def published_file(name: str, folder: Path | None = None, *, quiet: bool = False) -> Path:
    """The file of published weights, downloaded the first time. Raises MinimaeError when it cannot be downloaded.

    folder: by default torch's own for such files, so that what other tools have downloaded is found (TORCH_HOME moves it).
    """
    weights = PUBLISHED[name]
    path = (Path(torch.hub.get_dir()) / "checkpoints" if folder is None else folder) / weights.url.rpartition("/")[2]
    if not path.exists():
        print(LICENCE, file=sys.stderr)
    return download(weights.url, path, md5=weights.md5, quiet=quiet)


def download(url: str, target: Path, *, md5: str | None = None, quiet: bool = False, timeout: float = 30.0, pause: float = 1.0) -> Path:
    """The file at ``target``, downloaded from ``url`` if it is not there yet.

    md5: the checksum or its first digits, if known. What has arrived is kept beside the target as .partial and resumed, in this call
    (three attempts, ``pause`` seconds apart) and in the next; ``torch.hub.download_url_to_file`` would begin again, and it does not check
    md5. Several processes may want the same file: one downloads, the others wait.
    Raises MinimaeError that says where to put the file by hand when it cannot be downloaded, and for a wrong checksum.
    """
    if target.is_file():
        return target
    by_hand = f"fetch {url} in another way and put it at {target}"
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process was quicker
                return target
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    download_rest(url, partial, quiet=quiet, timeout=timeout)
                    break
                except urllib.error.HTTPError as error:
                    if error.code == 416 and partial.exists():  # the part is as long as the file, or longer
                        partial.unlink()
                        continue
                    raise MinimaeError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}; {by_hand}") from None
                except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
                    if attempt == ATTEMPTS:
                        have = f"{partial.stat().st_size:,} bytes" if partial.exists() else ""
                        kept = f"{have} are kept, and the next call resumes there; or " if have else ""
                        what = getattr(error, "reason", None) or error or type(error).__name__
                        raise MinimaeError(f"{url} cannot be fetched ({what}): {kept}{by_hand}") from None
                    time.sleep(pause)
            if (wrong := wrong_checksum(partial, md5)) is None:
                partial.replace(target)
            for file in (partial, tag_file(partial)):
                file.unlink(missing_ok=True)
            if wrong is not None:
                raise MinimaeError(f"the download from {url} has the md5 {wrong}, not {md5}…: it was removed; try again, or {by_hand}")
    except OSError as error:
        raise MinimaeError(f"cannot write {target} ({error}): set TORCH_HOME to a folder that can be written, or {by_hand}") from None
    return target


def download_rest(url: str, partial: Path, *, quiet: bool, timeout: float) -> None:
    """Download the rest of ``partial``. A file that has changed on the server since then is downloaded again from the start."""
    have, tag = partial.stat().st_size if partial.exists() else 0, tag_file(partial)
    version = tag.read_text(encoding="utf-8") if have and tag.exists() else ""
    ranges = {"Range": f"bytes={have}-", "If-Range": version} if version else {}  # without it the parts could be of two versions
    response: Any = urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "minimae"} | ranges), timeout=timeout)
    with response:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "", encoding="utf-8")
        bar: Any = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "desc": url.rpartition("/")[2], "disable": quiet}
        with open(partial, "ab" if have else "wb") as file, tqdm(total=total, initial=have, **bar) as progress:
            while block := response.read(1 << 20):
                file.write(block)
                progress.update(len(block))
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size:,} of {total:,} bytes")


def tag_file(partial: Path) -> Path:
    """Keeps the server's tag of this version of the file while it is incomplete."""
    return partial.with_name(partial.name + "-of")


def wrong_checksum(file: Path, md5: str | None) -> str | None:
    """The checksum of a file if it does not start with the expected digits; None when it does, or when nothing is known."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(file, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return None if digest.hexdigest().startswith(md5 or "") else digest.hexdigest()
