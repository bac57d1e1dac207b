"""The encoder as a step of a scikit-learn pipeline. Needs scikit-learn (the extra ``book`` has it)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, check_is_fitted

from .. import weights
from ..tasks.features import Pool


class MAEFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Images → features of a frozen encoder: ``make_pipeline(MAEFeatures("fashion-nano"), LogisticRegression())``.

    weights: what :func:`minimae.load` takes. Images are arrays ``N height width``, ``N height width c`` or, with ``layout="channels
    first"``, ``N c height width``: uint8, or float in [0, 1]. pool: mean, class, blocks or tokens, as in
    :func:`minimae.tasks.features.extract`. Fitting learns nothing from the images; it loads the weights.
    """

    def __init__(
        self,
        weights: str | Path = "fashion-nano",
        *,
        pool: Pool = "mean",
        layout: Literal["channels last", "channels first"] = "channels last",
        device: str = "cpu",
        batch: int = 500,
    ) -> None:
        self.weights, self.pool, self.layout, self.device, self.batch = weights, pool, layout, device, batch

    def fit(self, X: Any, y: Any = None) -> MAEFeatures:
        """Load the weights, and look at the images' shape. Raises ValueError for images that the encoder does not take."""
        self.trained_ = weights.load(self.weights)
        self.trained_.model.to(self.device)
        self.n_features_out_ = self._features(np.asarray(X)[:1]).shape[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """float32 ``N values``."""
        check_is_fitted(self)
        return self._features(np.asarray(X)).numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """mae0, mae1, …"""
        check_is_fitted(self)
        return np.array([f"mae{i}" for i in range(self.n_features_out_)], dtype=object)

    def _features(self, images: np.ndarray) -> torch.Tensor:
        channels, given = self.trained_.model.size.channels, images.shape
        if images.ndim == 3 and channels == 1:
            images = images[:, None]
        elif images.ndim == 4 and self.layout == "channels last":
            images = images.transpose(0, 3, 1, 2)
        if images.ndim != 4 or images.shape[1] != channels:
            wanted = "N height width" if channels == 1 else f"N height width {channels}"
            raise ValueError(f"{self.weights} takes images of shape {wanted} ({self.layout}), not {given}")
        return self.trained_.features(torch.from_numpy(np.ascontiguousarray(images)), pool=self.pool, batch=self.batch)
