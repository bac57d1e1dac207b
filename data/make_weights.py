"""Train the shipped weights again: python data/make_weights.py [NAME …]. Hours on a CPU, minutes on a GPU; a run that was stopped goes on.

For each name: pre-training by its recipe into runs/weights/NAME, then data/weights/NAME.safetensors (half precision), .metrics.jsonl
and a card, NAME.md, with what was measured. Where the weights are for looking at pictures, a second decoder learns plain pixels on the
frozen encoder (runs/weights/NAME-pixels): its reconstructions borrow neither brightness nor contrast from hidden patches.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minimae import data, recipes, weights
from minimae.cli.options import pick_device
from minimae.cli.report import environment
from minimae.data.images import Images
from minimae.errors import MinimaeError, counted
from minimae.model.mae import MAE
from minimae.model.sizes import parameters
from minimae.tasks.evaluation import evaluate
from minimae.tasks.features import Pool, extract
from minimae.tasks.finetune import finetune
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import Pretrained, PretrainTask, build, pretrain
from minimae.tasks.probe import probe_predict
from minimae.train.folder import can_resume
from minimae.train.loop import fit
from minimae.train.task import Result

HERE = Path(__file__).resolve().parent
FRONT = """---
license: mit
library_name: minimae
pipeline_tag: image-feature-extraction
tags:
- masked-autoencoder
- self-supervised-learning
- vision-transformer
---
"""  # what Hugging Face's hub reads of a card


@dataclass(frozen=True)
class Shipped:
    """What a card says besides numbers.

    labels: how many are used to judge it, or None where the classes mean nothing. pixels: the epochs of a second decoder, of plain pixels.
    """

    what: str
    of: str
    judged_on: str
    labels: int | None = 1000
    pixels: float | None = None
    licence: str = "MIT, like the code; what is known about the pictures' licences is in `data/README.md`"


SHIPPED = {
    "fashion-nano": Shipped("photographs of clothes", "the 60,000 training images of Fashion-MNIST, without labels", "fashion"),
    "photos-micro": Shipped("natural photographs", "4,200 crops of seven photographs (`data/README.md`)", "photos", None),
    "photos-tiny": Shipped(
        "natural photographs", "50,000 training images of Tiny-ImageNet (250 of each of the 200 classes, 64 px), without labels",
        "tiny-imagenet", 50_000, pixels=69,
        licence="MIT, like the code; the photographs are ImageNet's, for research and teaching, and none is in this repository",
    ),
    "cifar10-tiny": Shipped("small photographs of animals and vehicles", "the 50,000 training images of CIFAR-10", "cifar10", 50_000),
}


def judge(trained: Pretrained, shipped: Shipped, train: Images, test: Images, device: str) -> dict[str, float]:
    """Accuracy in percent on test images, last step: nearest neighbours and linear probe; with few labels fine-tuning too."""
    if shipped.labels is None:
        return {}
    assert train.labels is not None and test.labels is not None
    few = train if shipped.labels >= len(train) else train.balanced_subset(shipped.labels)
    size, encoder, statistics = trained.model.size, trained.model.encoder.to(device), trained.statistics
    pool: Pool = "tokens" if size.width * size.grid[0] * size.grid[1] <= 8192 else "mean"
    known, asked = (extract(encoder, images, statistics, pool=pool) for images in (train, test))
    found = {f"20-NN with {len(train):,} training images": accuracy(knn_predict(known, train.labels, asked), test.labels)}
    known = known if few is train else extract(encoder, few, statistics, pool=pool)
    assert few.labels is not None
    found[f"linear probe on {len(few):,} labels"] = accuracy(probe_predict(known, few.labels, asked)[0], test.labels)
    if len(few) <= 1000:
        tuned, _ = finetune(recipes.FEW_LABELS, encoder, few, statistics, quiet=True)
        found[f"fine-tuned on {len(few):,} labels"] = evaluate(tuned, test, statistics).top1
    return found


def pixel_decoder(trained: Pretrained, train: Images, epochs: float, run: Path, device: str) -> tuple[MAE, Result]:
    """A decoder of plain pixels for this encoder, which stays as it is (an MAE that shares its weights), and how its training went."""
    recipe = replace(trained.recipe, target="pixels", epochs=epochs, warmup_epochs=epochs / 20)
    model = build(recipe, train)
    model.encoder = trained.model.encoder.requires_grad_(False)
    model.to(device)
    run.mkdir(parents=True, exist_ok=True)
    return model, fit(PretrainTask(recipe, train, model), recipe, run, resume=can_resume(run))


def card(
    name: str, trained: Pretrained, result: Result, second: Result | None, scores: dict[str, float], device: str, size: int
) -> str:
    """The model card."""
    recipe, model, shipped, machine = trained.recipe, trained.model, SHIPPED[name], environment(device)
    s = model.size
    told = "; ".join(f"{what} {score:.1f} %" for what, score in scores.items()) or "not judged: its classes mean nothing"
    rows = {
        "use": f'`minimae.load("{name}")`, or `--weights {name}` on the command line',
        "recipe": f"`{name}` in `minimae/recipes/small.py`; `make weights NAMES={name}` trains it again",
        "data": shipped.of,
        "target, mask": f"{recipe.target} pixels, {100 * recipe.ratio:.0f} % {recipe.sampling}",
        "steps": f"{result.steps:,} of {recipe.batch:,} images: {result.seen:,} images seen, {recipe.epochs:g} epochs; seed {recipe.seed}; "
        "last step, not the best",
        "loss": f"{result.loss:.3f} at the end (`{name}.metrics.jsonl` has every twentieth step)",
        "time, machine": f"{result.seconds / 60:.1f} minutes, {machine['device']} ({machine['processor']}, "
        f"{counted(int(machine['threads']), 'thread')}), torch {machine['torch']}",
        "accuracy": told,
        "file": f"safetensors, half precision, {size / 1e6:.1f} MB; recipe, size and statistics are in its header",
        "licence": shipped.licence,
    }
    if second is not None:
        loss = f"mean squared error {second.loss:.3f} at the end, of pixels with mean 0 and standard deviation 1"
        rows["second decoder"] = f"plain pixels, on the frozen encoder: {second.steps:,} steps, {second.seconds / 60:.1f} minutes; {loss}"
    text = f"A masked autoencoder of {shipped.what}: {s.width} wide, {s.depth} blocks, {s.heads} heads; decoder {s.decoder_width} wide, "
    text += f"{counted(s.decoder_depth, 'block')}; patch {s.patch}, images of {s.image} × {s.image} pixels, "
    text += f"{counted(s.channels, 'channel')}; {parameters(s)[0] / 1e6:.2f} M parameters in the encoder."
    return f"{FRONT}# {name}\n\n{text}\n\n| | |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows.items()) + "\n"


def make(name: str, *, runs: Path, out: Path, device: str, where: dict[str, Any], pixels: float | None = None, **changes: Any) -> None:
    """Train, export, judge, and write the card. changes: fields of the recipe; pixels: other epochs of the second decoder."""
    if name not in SHIPPED:
        raise MinimaeError(f"{name} is not shipped; choose one of {', '.join(SHIPPED)}")
    recipe, run, shipped = replace(recipes.recipe(name), **changes), runs / name, SHIPPED[name]
    file = out / f"{name}.safetensors"

    def images(name: str, split: str) -> Images:
        folder = Path(where.get("root", data.DOWNLOADS)) / name  # a data set without a name of its own: a folder of class folders
        return data.load(name if name in data.NAMES else folder, split, image=recipe.image, **where)

    train = images(recipe.data, "train")
    run.mkdir(parents=True, exist_ok=True)
    model, result = pretrain(recipe, train, run, resume=can_resume(run), device=device)
    trained, second = Pretrained(model, recipe, train.statistics), None
    if shipped.pixels is not None:
        pictures, second = pixel_decoder(trained, train, pixels or shipped.pixels, runs / f"{name}-pixels", device)
        trained = replace(trained, pictures=pictures)
    weights.save(trained, file, half=True)
    shutil.copy(run / "metrics.jsonl", out / f"{name}.metrics.jsonl")
    known = train if shipped.judged_on == recipe.data else images(shipped.judged_on, "train")
    scores = judge(trained, shipped, known, images(shipped.judged_on, "test"), device)
    (out / f"{name}.md").write_text(card(name, trained, result, second, scores, device, file.stat().st_size), encoding="utf-8")
    print(f"{file}: loss {result.loss:.3f}, {scores}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(SHIPPED)}; by default, all that are shipped already")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-root", type=Path, default=data.DOWNLOADS, help="folder of downloaded data sets")
    parser.add_argument("--download", action="store_true", help="fetch the data set if it is missing")
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"), help="where the runs are kept while they train")
    parser.add_argument("--out", type=Path, default=HERE / "weights", help="where weights and cards go")
    parser.add_argument("--epochs", type=float, help="other epochs than the recipe's, to try it")
    parser.add_argument("--pixels", type=float, help="other epochs of the second decoder")
    given = parser.parse_args()
    place = {"root": given.data_root, "download": given.download}
    device = pick_device(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    for chosen in given.names or [path.stem for path in sorted((HERE / "weights").glob("*.safetensors"))]:
        changes: dict[str, Any] = {"graph": device.startswith("cuda")}
        if given.epochs is not None:
            warmup = min(recipes.recipe(chosen).warmup_epochs, given.epochs / 10)
            changes |= {"epochs": given.epochs, "warmup_epochs": warmup}
        make(chosen, runs=given.runs, out=given.out, device=device, where=place, pixels=given.pixels, **changes)
