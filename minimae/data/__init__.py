"""Images, and how a batch of them reaches the model. :func:`load` and :func:`open_images` take a name or a folder."""

from typing import TYPE_CHECKING

from ..lazy import submodules
from .images import Images
from .opening import DOWNLOADS, NAMES, load, open_images, splits
from .pixels import channel_range, from_array
from .shapes import Scenes
from .torch_dataset import from_dataset
from .types import ImageDataset

__all__ = [
    "DOWNLOADS", "NAMES", "ImageDataset", "Images", "Scenes", "channel_range", "from_array", "from_dataset", "load", "open_images",
    "splits",
]  # fmt: skip

if not TYPE_CHECKING:  # minimae.data.NAME without importing it first
    __getattr__, __dir__ = submodules(__name__, __path__)
