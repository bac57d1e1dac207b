"""The encoder as a step of a scikit-learn pipeline. Needs scikit-learn (the extra ``book`` has it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, check_is_fitted

from ..data.pixels import as_tensor, holds_pictures
from ..tasks.features import Pool
from ..tasks.pretrain import Pretrained
from .registry import load


class MAEFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images → features of a frozen encoder: ``make_pipeline(MAEFeatures("fashion-nano"), LogisticRegression())``.

    weights: what :func:`minimae.load` takes. Images are arrays ``N height width``, ``N height width c`` or, with ``layout="channels
    first"``, ``N c height width``, or PIL images; integers are pixel values 0 … 255 and floats lie in [0, 1].
    pool: mean, class, blocks or tokens, as in :meth:`minimae.tasks.pretrain.Pretrained.features`.
    Fitting learns nothing from the images; it loads the weights.

    >>> import numpy as np
    >>> from minimae.weights.scikit import MAEFeatures
    >>> MAEFeatures("fashion-nano").fit_transform(np.zeros((4, 28, 28), dtype=np.uint8)).shape
    (4, 96)
    """

    def __init__(
        self, weights: str | Path = "fashion-nano", *, pool: Pool = "mean", device: str = "cpu", batch: int = 500,
        layout: Literal["channels last", "channels first"] = "channels last",
    ) -> None:  # fmt: skip
        self.weights, self.pool, self.layout, self.device, self.batch = weights, pool, layout, device, batch

    def fit(self, X: Any, y: Any = None) -> MAEFeatures:
        """Load the weights, and check the shape of the images. Raises ValueError for images that the encoder does not take."""
        self.trained_ = load(self.weights)
        network: Any = self.trained_.model if isinstance(self.trained_, Pretrained) else self.trained_.classifier
        network.to(self.device)
        self.n_features_out_ = self._features(X[:1] if hasattr(X, "__getitem__") else X).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """float32 ``N values``."""
        check_is_fitted(self)
        return self._features(X).numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """mae0, mae1, …"""
        check_is_fitted(self)
        return np.array([f"mae{i}" for i in range(self.n_features_out_)], dtype=object)

    def _features(self, images: Any) -> torch.Tensor:
        channels = self.trained_.size.channels
        pixels = as_tensor(images, channels)
        if pixels.dim() == 4 and self.layout == "channels last" and not holds_pictures(images):
            pixels = pixels.permute(0, 3, 1, 2)
        if not (channels == 1 and pixels.dim() == 3) and (pixels.dim() != 4 or pixels.shape[1] != channels):
            shapes = {"channels last": f"N height width {channels}", "channels first": f"N {channels} height width"}
            wanted = "N height width" if channels == 1 and self.layout == "channels last" else shapes[self.layout]
            given = tuple(getattr(images, "shape", pixels.shape))
            raise ValueError(f"{self.weights} takes images of shape {wanted} ({self.layout}), not {given}")
        options: Any = {"pool": self.pool} if isinstance(self.trained_, Pretrained) else {}  # a classifier has the pool of its head
        return self.trained_.features(pixels, batch=self.batch, **options)
