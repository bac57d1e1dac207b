"""Folders for Hugging Face's hub: config.json, model.safetensors and a model card. Needs huggingface_hub (the extra ``hub``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, snapshot_download

from ..tasks.pretrain import Pretrained
from . import native
from .classified import Classified
from .export import FeatureModel, Features, network_of
from .files import check_absent, whole
from .registry import load

TAGS = ["masked-autoencoder", "self-supervised-learning", "vision-transformer"]
CARD = """# {name}

```python
from minimae.weights.hub import HubModel  # pip install "minimae[hub]"
model = HubModel.from_pretrained("{name}")  # this folder, or USER/{name} on the hub
outputs = model(images)  # float b c height width in [0, 1] → {outputs}; model.trained is what minimae.load returns
```

```text
{model}
```

Licence: {license}. No results are recorded here: add those that you measured.
"""


class HubModel(FeatureModel, PyTorchModelHubMixin, library_name="minimae", tags=TAGS):  # type: ignore[misc]
    """Trained weights that huggingface_hub loads and saves: ``HubModel.from_pretrained("USER/NAME")``, or a local folder.

    Images ``b c height width``, float in [0, 1] → features ``b d`` with ``pool="mean"`` or ``"class"``, ``b t d`` with ``"tokens"``; a
    classifier returns logits. ``model.trained`` is what :func:`minimae.load` returns; ``model.push_to_hub("USER/NAME")`` uploads.
    """

    _hub_mixin_config = {}  # noqa: RUF012 (the mixin would build its config from our arguments; ours comes from the model)

    def __init__(self, trained: Pretrained | Classified, pool: Features = "mean") -> None:
        super().__init__(trained, pool)
        self.trained = trained

    def _save_pretrained(self, save_directory: Path) -> None:
        network_of(self.trained).load_state_dict(self.network.state_dict())  # it may have been trained since
        about = {"library_name": "minimae", "minimae": native.metadata_of(self.trained)}
        (save_directory / "config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        native.write(self.trained, save_directory / "model.safetensors", half=False)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, pool: Features = "mean", **options: Any) -> HubModel:
        if not Path(model_id).is_dir():
            model_id = snapshot_download(model_id, allow_patterns=["config.json", "*.safetensors"], **options)
        return cls(load(Path(model_id)), pool)

    def generate_model_card(self, *, name: str = "model", license: str | None = None, **_: Any) -> ModelCard:
        """What is known about the weights. license: as the hub names it, such as mit or cc-by-nc-4.0."""
        outputs, task = ("features", "image-feature-extraction") if self.pool != "logits" else ("logits", "image-classification")
        data = ModelCardData(license=license, library_name="minimae", pipeline_tag=task, tags=[*TAGS, "pytorch_model_hub_mixin"])
        text = CARD.format(name=name, outputs=outputs, model=self.trained, license=license or "not stated")
        return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def save_hub_folder(trained: Pretrained | Classified, folder: Path, *, license: str | None = None, card: str | None = None) -> Path:
    """Write the folder that ``from_pretrained`` reads. card: the text of README.md. Raises MinimaeError when it exists already."""
    check_absent(folder)
    with whole(folder) as partial:
        partial.mkdir(exist_ok=True)
        if card is not None:
            (partial / "README.md").write_text(card, encoding="utf-8")
        HubModel(trained).save_pretrained(partial, model_card_kwargs={"name": folder.name, "license": license})
    return folder
