"""What minimae segment, detect and prompt share: what to do with the data or the pictures they get, and which weights they start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.folder import suffixes
from ..data.optional import need
from ..data.types import Statistics
from ..errors import MinimaeError
from ..model.sizes import size as named_size
from ..model.vit import Encoder
from ..train.checkpoint import CHECKPOINT, load_checkpoint
from ..train.distributed import world
from ..weights import Classified
from ..weights.files import whole
from .options import DataOptions, check_outputs

IDLE = ("data_root", "download", "skip_corrupt", "read_from", "bits", "crop_on")  # image options that do not apply here
LIBRARIES = {"segment": ("torchmetrics",), "detect": ("torchmetrics", "pycocotools"), "prompt": ()}


def dispatch(command: Any, names: Sequence[str], kind: str, noun: str, load: Callable[[Path], tuple[Any, dict[str, Any]]]) -> None:
    """Call ``predict`` of the command for pictures, ``measure`` for data and a trained model, ``train`` for data and other weights.

    kind: its name. noun: what it trains. load: reads a run of it. Raises ValueError and MinimaeError for what does not go together.
    """
    device, words = command.where.join(), f"minimae {kind}"
    if idle := [name for name in IDLE if getattr(command.where, name) != getattr(DataOptions, name)]:
        raise ValueError(f"--{idle[0].replace('_', '-')} does not apply to {words}: leave it out")
    if not names:
        raise ValueError(f"name a folder with pictures and masks, or a picture: {words} DATA, or {words} PICTURE")
    trained = trained_of(command.weights, kind, load)
    if all(Path(name).suffix.lower() in suffixes() for name in names):
        if trained is None:
            if str(command.weights) != "none":
                command.layout.load(command.weights)  # so that a missing or damaged file is reported as such
            raise MinimaeError(f"{command.weights} is not {noun}: train one with {words} DATA --out RUN, then give --weights RUN")
        if world().main:
            command.predict(*trained, device)
        return
    if len(names) > 1:
        raise ValueError(f"give one data set, or one or more pictures, not {' and '.join(names[:2])}")
    for library in LIBRARIES[kind]:
        need(library, why="measuring")  # now, not after hours of training
    command.train(device) if trained is None else command.measure(*trained, device)


def trained_of(path: Path, kind: str, load: Callable[[Path], Any]) -> tuple[Any, dict[str, Any]] | None:
    """The model of a run's folder or checkpoint, as ``load`` reads it, and its metadata; None for weights of another kind."""
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        found = file.suffix == ".pt" and file.is_file() and load_checkpoint(file)["kind"] == kind
    except MinimaeError:
        if path.is_dir():
            raise
        found = False  # a file of another library, or a damaged one, as reading its weights will report
    return load(path) if found else None


def check_classes(weights: Path, trained: Sequence[str], test: Any) -> None:
    """Raises MinimaeError when a trained model has other classes than the test pictures."""
    if list(trained) != list(test.classes):
        names = ", …; ".join(", ".join(classes[:5]) for classes in (trained, test.classes))
        raise MinimaeError(f"{weights} was trained on other classes than those of {test.name}: {names}, …")


def encoder_of(command: Any, image: Any) -> tuple[Encoder, Statistics | None]:
    """The encoder that a command starts from, and the statistics that it was trained with. image: of a fresh one."""
    torch.manual_seed(command.recipe.seed)
    if str(command.weights) == "none":
        changes: dict[str, Any] = {} if command.patch is None else {"patch": command.patch}
        return Encoder(named_size(command.size, image=image, channels=3, **changes)), None
    trained: Any = command.layout.load(command.weights)
    encoder = trained.classifier.encoder if isinstance(trained, Classified) else trained.model.encoder
    if encoder.size.channels not in (1, 3):
        raise ValueError(f"these weights take {encoder.size.channels} channels, but pictures have 1 or 3")
    return Encoder(encoder.size) if command.scratch else encoder, trained.statistics


def save_figure(figure: Any, out: Path | None, name: str, inputs: Sequence[Any]) -> Path:
    """Save a figure as a PNG file: ``--out``, or a file of this name. → the file. Raises ValueError when that is one of the inputs."""
    out = out or Path(name)
    out = out.with_suffix(".png") if out.suffix.lower() in suffixes() else out.with_name(f"{out.name}.png")
    check_outputs(out, inputs=inputs)
    with whole(out) as partial:
        figure.savefig(partial)
    return out


def save_grey(values: Tensor, file: Path) -> None:
    """Save numbers from 0 to 255, ``height width``, as a grey picture."""
    image = need("PIL.Image", why="writing masks").fromarray(values.byte().numpy())
    with whole(file) as partial:
        image.save(partial)


def shown(pixels: Tensor) -> np.ndarray:
    """uint8 ``c height width`` → ``height width 3`` in [0, 1]."""
    return np.moveaxis(pixels.expand(3, -1, -1).numpy() / 255, 0, -1)
