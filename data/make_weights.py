"""Train the shipped weights again: python data/make_weights.py [NAME …]. Hours on a CPU; a run that was stopped goes on.

For each name: pre-training by its recipe into runs/weights/NAME, then data/weights/NAME.safetensors (half precision), .metrics.jsonl
and a card, NAME.md, with what was measured.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minimae import data, recipes, weights
from minimae.errors import MinimaeError
from minimae.options import pick_device
from minimae.report import environment
from minimae.sizes import parameters
from minimae.tasks.features import extract
from minimae.tasks.finetune import finetune, finetuned_accuracy
from minimae.tasks.knn import accuracy, knn_predict
from minimae.tasks.pretrain import Pretrained, pretrain
from minimae.tasks.probe import probe_predict
from minimae.training.state import can_resume

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Shipped:
    """What a card says besides numbers. labels: how many are used to judge it, or None where the classes mean nothing."""

    what: str
    of: str
    judged_on: str
    labels: int | None = 1000


SHIPPED = {
    "fashion-nano": Shipped("photographs of clothes", "the 60,000 training images of Fashion-MNIST, without labels", "fashion"),
    "photos-micro": Shipped("natural photographs", "4,200 crops of seven photographs (`data/README.md`)", "photos", None),
    "photos-tiny": Shipped("natural photographs", "4,200 crops of seven photographs (`data/README.md`)", "photos", None),
    "cifar10-tiny": Shipped("small photographs of animals and vehicles", "the 50,000 training images of CIFAR-10", "cifar10", 50_000),
}


def judge(trained: Pretrained, shipped: Shipped, where: dict[str, Any]) -> dict[str, float]:
    """Accuracy in percent on test images, last step: nearest neighbours, linear probe, fine-tuning."""
    if shipped.labels is None:
        return {}
    train, test = (data.load(shipped.judged_on, split, **where) for split in ("train", "test"))
    few = train if shipped.labels >= len(train) else train.few(shipped.labels)
    encoder, statistics = trained.model.encoder, trained.statistics
    features = {
        name: extract(encoder, images, statistics, pool="tokens") for name, images in (("all", train), ("few", few), ("test", test))
    }
    found = {f"20-NN, {len(train):,} training images": accuracy(knn_predict(features["all"], train.labels, features["test"]), test.labels)}
    predicted, _ = probe_predict(features["few"], few.labels, features["test"])
    found[f"linear probe on {len(few):,} labels"] = accuracy(predicted, test.labels)
    tuned, _ = finetune(recipes.FEW_LABELS, encoder, few, statistics, quiet=True)
    found[f"fine-tuned on {len(few):,} labels"] = finetuned_accuracy(tuned, test, statistics)
    return found


def card(name: str, trained: Pretrained, result: Any, scores: dict[str, float], device: str, size: int) -> str:
    """The model card."""
    recipe, model, shipped, machine = trained.recipe, trained.model, SHIPPED[name], environment(device)
    s = model.size
    told = "; ".join(f"{what} {score:.1f} %" for what, score in scores.items()) or "not judged: its classes mean nothing"
    rows = {
        "use": f'`minimae.load("{name}")`, or `--weights {name}` with every command',
        "recipe": f"`{name}` in `minimae/recipes/small.py`; `make weights NAMES={name}` trains it again",
        "data": shipped.of,
        "target, mask": f"{recipe.target} pixels, {recipe.ratio:.0%} {recipe.sampling}",
        "steps": f"{result.steps:,}: {result.seen:,} images seen, {recipe.epochs:g} epochs; seed {recipe.seed}; last step, not the best",
        "loss": f"{result.loss:.3f} at the end (`{name}.metrics.jsonl` has every twentieth step)",
        "time, machine": f"{result.seconds / 60:.0f} minutes, {machine['device']} ({machine['processor']}, {machine['threads']} "
        f"thread(s)), torch {machine['torch']}",
        "accuracy": told,
        "file": f"safetensors, half precision, {size / 1e6:.1f} MB; recipe, size and statistics are in its head",
        "licence": "MIT, like the code; what is known about the pictures' licences is in `data/README.md`",
    }
    text = f"A masked autoencoder of {shipped.what}: {s.width} wide, {s.depth} blocks, {s.heads} heads; decoder {s.decoder_width} wide, "
    text += f"{s.decoder_depth} block(s); patch {s.patch}, images of {s.image} pixels, {s.channels} channel(s); "
    text += f"{parameters(s)[0] / 1e6:.2f} M parameters in the encoder."
    return f"# {name}\n\n{text}\n\n| | |\n|---|---|\n" + "\n".join(f"| {a} | {b} |" for a, b in rows.items()) + "\n"


def make(name: str, *, runs: Path, out: Path, device: str, where: dict[str, Any], **changes: Any) -> None:
    """Train, export, judge, and write the card."""
    if name not in SHIPPED:
        raise MinimaeError(f"{name} is not shipped; choose of {', '.join(SHIPPED)}")
    recipe, run = replace(recipes.recipe(name), **changes), runs / name
    train = data.load(recipe.data, "train", image=recipe.image, **where)
    run.mkdir(parents=True, exist_ok=True)
    model, result = pretrain(recipe, train, run, resume=can_resume(run), device=device)
    trained = Pretrained(model.cpu(), recipe, train.statistics)
    scores = judge(trained, SHIPPED[name], where)
    file = out / f"{name}.safetensors"
    weights.export(trained, file)
    shutil.copy(run / "metrics.jsonl", out / f"{name}.metrics.jsonl")
    (out / f"{name}.md").write_text(card(name, trained, result, scores, device, file.stat().st_size), encoding="utf-8")
    print(f"{file}: loss {result.loss:.3f}, {scores}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SHIPPED)}; by default those that are there")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-root", type=Path, default=data.DOWNLOADS, help="folder of downloaded data sets")
    parser.add_argument("--download", action="store_true", help="fetch the data set if it is missing")
    given = parser.parse_args()
    place = {"root": given.data_root, "download": given.download}
    for chosen in given.names or [path.stem for path in sorted((HERE / "weights").glob("*.safetensors"))]:
        make(chosen, runs=Path("runs/weights"), out=HERE / "weights", device=pick_device(given.device), where=place)
