"""Every check says "not written yet" to the stub, names each classic mistake, and accepts the solution.

The stubs and solutions are the notebooks' own, run in the notebook's own namespace: its setup and what it has built so far.
The wrong answers are in tests/book/answers, one file a chapter.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import linecache
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from minimae_book import Verdict, assembled, check, own_parts, use, whose
from minimae_book.checks import names
from minimae_book.checks.comparing import described, stopped
from minimae_book.evidence import statistics
from minimae_book.live import Live, stages
from minimae_book.own import PARTS

import minimae
from minimae.model import mae, vit
from minimae.model.sizes import block_flops
from minimae.recipes import recipe
from minimae.tasks import pretrain, promptable
from minimae.train import optim
from minimae.train.lars import scaled_by_trust_ratio
from notebooks import build

HERE = Path(__file__).resolve().parent


def answers(chapter: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location(f"answers_{chapter}", HERE / "answers" / f"{chapter}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ANSWERS


CHAPTERS = sorted({name[:4] for name in names()})
WRONG = [
    (name, mistake, function, told)
    for chapter in CHAPTERS
    for name, given in answers(chapter).items()
    for mistake, (function, told) in given["wrong"].items()
]


@lru_cache
def exercises(chapter: str) -> dict[str, tuple[str, str]]:
    """The stub of each check: {check name: (name of the reader's function, source of the exercise cell)}."""
    (script,) = build.chapters(chapter.removeprefix("ch"))
    cells = build.notebook_of(script).cells
    found = {}
    for cell, following in pairwise(cells):
        if "exercise" in cell.metadata.get("tags", []):
            name, function = re.search(r"check\.(\w+)\((\w+)\)", following.source).groups()
            found[name] = function, cell.source
    return found


def test_every_check_has_an_exercise_and_wrong_answers() -> None:
    for chapter in CHAPTERS:
        assert set(exercises(chapter)) == set(answers(chapter)) == {name for name in names() if name.startswith(chapter)}


@pytest.mark.parametrize("name", names())
def test_two_classic_mistakes_are_known_at_least(name: str) -> None:
    assert len(answers(name[:4])[name]["wrong"]) >= 2


@pytest.mark.parametrize("name", names())
def test_the_stub_is_not_written_yet(name: str) -> None:
    function, stub = exercises(name[:4])[name]
    namespace: dict[str, Any] = {**vars(vit), **vars(mae), **vars(promptable), "torch": torch, "copy": copy}
    exec(compile(f"from __future__ import annotations\n{stub}", name, "exec"), namespace)
    verdict = getattr(check, name)(namespace[function])
    assert not verdict.ok and not verdict.written and "NotImplementedError" in verdict.text


@pytest.mark.parametrize(("name", "mistake", "function", "told"), WRONG, ids=[f"{name}: {mistake}" for name, mistake, *_ in WRONG])
def test_a_classic_mistake_is_named(name: str, mistake: str, function: Callable[..., Any], told: str) -> None:
    verdict = getattr(check, name)(function)
    assert not verdict.ok and verdict.written
    assert re.search(told, verdict.text), f"{mistake}: {verdict.text}"


def test_a_right_answer_of_another_type_is_accepted() -> None:
    def lr_at(step: float, *, steps: int, warmup: float, peak: float, floor: float = 0.0) -> Any:
        progress = (step - warmup) / (steps - warmup)
        return peak * step / warmup if step < warmup else floor + (peak - floor) / 2 * (1 + torch.cos(torch.tensor(torch.pi * progress)))

    def layer_groups(classifier: torch.nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        groups = optim.layer_groups(classifier, weight_decay, layer_decay)
        return [{name: torch.tensor(value) if name != "params" else value for name, value in group.items()} for group in groups]

    def mean_and_std(train: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:
        return [(x.double() - train.double().mean(0)) / (train.double().std(0) + 1e-6) for x in (train, test)]

    def ratio(weight: torch.Tensor, gradient: torch.Tensor, **how: float) -> torch.Tensor:
        return scaled_by_trust_ratio(weight.double(), gradient.double(), weight_decay=how["weight_decay"], trust=how["trust"])

    def inside(path: Path, write: Callable[[Any], None]) -> None:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, open(Path(folder) / "new", "wb") as file:
            write(file)
            file.flush()
            (Path(folder) / "new").rename(path)

    assert check.ch07_peak_lr(lambda *numbers: torch.tensor(numbers).prod() / 256).ok
    assert check.ch07_lr_at(lr_at).ok
    assert check.ch07_careful_save(inside).ok
    assert check.ch09_one_scale(mean_and_std).ok and check.ch09_trust_ratio(ratio).ok
    assert check.ch10_layer_groups(layer_groups).ok
    assert check.ch04_times_cheaper(lambda n, k, d: torch.tensor(block_flops(1 + n, d)) / block_flops(1 + k, d)).ok
    assert check.ch04_tokens_for_share(lambda share, d: torch.tensor(6 * d * share / (1 - share))).ok
    assert check.ch06_baseline_loss(lambda p1, p2, c: 1 - torch.ones(()) / (p1 * p2 * c)).ok
    assert check.ch06_masked_loss(lambda p, t, m: (p - t)[m.bool()].square().mean()).ok


@pytest.mark.parametrize("script", build.chapters(), ids=lambda path: path.stem)
def test_the_book_never_overwrites_or_praises_what_the_reader_wrote(script: Path) -> None:
    cells = nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells
    theirs: set[str] = set()
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        defined = set(re.findall(r"(?m)^(?:def|class) (\w+)|^(\w+) = ", cell.source)) if cell.cell_type == "code" else set()
        written = {name for pair in defined for name in pair if name}
        if "exercise" in tags:
            theirs |= {name for name in written if f"({name}" in cells[cells.index(cell) + 1].source}
        elif theirs & written:
            assert all(f"{name} = book.use(" in cell.source for name in theirs & written), cell.source
        if "exercise-check" in tags:
            assert "✓" not in str(cell.outputs)


class Broken(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.reshape(-1, 7)


def test_an_error_is_reported_with_its_line_and_the_arguments() -> None:
    def attend(q, k, v):  # type: ignore[no-untyped-def]
        scores = q @ k
        return scores @ v

    said = check.ch03_attend(attend).text
    assert "in attend at `scores = q @ k`" in said and "RuntimeError" in said
    assert "(a float32 tensor of shape (2, 3, 5, 6), a float32 tensor" in said
    assert described(torch.arange(2)) == "an int64 tensor of shape (2,)" and described(torch.arange(2).byte()).startswith("a uint8 tensor")
    with pytest.raises(RuntimeError) as caught:
        Broken()(torch.ones(2, 3))
    assert "in forward at `return x @ x.reshape(-1, 7)`" in stopped(caught.value, [Broken])


def test_a_loop_over_the_images_is_refused_where_the_text_says_so() -> None:
    def looping(tokens, index):  # type: ignore[no-untyped-def]
        return tokens[index] if tokens.dim() == 2 else torch.stack([one[row] for one, row in zip(tokens, index)])

    def indexed(tokens, index):  # type: ignore[no-untyped-def]
        return tokens[index] if tokens.dim() == 2 else tokens[torch.arange(len(index))[:, None], index]

    assert "it loops" in check.ch02_take(looping).text and check.ch02_take(indexed).ok


def test_single_precision_and_tensors_of_one_number_are_accepted() -> None:
    def welch32(*lists):  # type: ignore[no-untyped-def]
        right = statistics.welch(*lists)
        return statistics.Effect(*(torch.tensor(value).item() for value in (right.difference, right.error, right.freedom)))

    assert check.ch11_welch(welch32).ok
    assert check.ch11_holm(lambda values: torch.tensor(statistics.holm(values)).tolist()).ok
    assert check.ch00_error_on_hidden(lambda original, other, hidden: ((original - other) ** 2)[hidden].mean()).ok


class MyAttention(vit.Attention):
    def forward(self, x):  # type: ignore[no-untyped-def, override]
        q, k, v = rearrange(self.qkv(x), "b t (three heads e) -> three b heads t e", three=3, heads=self.heads)
        return self.out(rearrange(F.scaled_dot_product_attention(q, k, v), "b heads t e -> b t (heads e)"))


class Inverted(vit.Attention):
    def forward(self, x):  # type: ignore[no-untyped-def, override]
        return -super().forward(x)


class Stub(vit.Attention):
    def forward(self, x):  # type: ignore[no-untyped-def, override]
        raise NotImplementedError("your turn")


def test_later_cells_use_what_is_right(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for own, wanted in ((Stub, vit.Attention), (Inverted, vit.Attention), (MyAttention, MyAttention)):
        assert issubclass(use(check.ch03_attention, own, vit.Attention), wanted)
    assert capsys.readouterr().out.splitlines() == [
        "From here on, Attention is the package's: yours is not written yet.",
        "From here on, Attention is the package's: yours is not right yet.",
        "From here on, Attention is yours.",
    ]


def test_the_packages_parts_run_with_one_part_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exercise is solved and the next is not: then the package's block calls the reader's attention, its decoder the reader's block."""
    monkeypatch.chdir(tmp_path)
    x = torch.randn(2, 5, 96)

    class MyBlock(vit.Block):
        def forward(self, x):  # type: ignore[no-untyped-def, override]
            return super().forward(x)

    attention, block = use(check.ch03_attention, MyAttention, vit.Attention), use(check.ch03_block, MyBlock, vit.Block)
    assert issubclass(attention, MyAttention) and issubclass(block, MyBlock)
    with monkeypatch.context() as patched:
        patched.setattr(vit, "Attention", attention)
        with_own = vit.Block(96, 3)
        assert isinstance(with_own.attention, MyAttention) and torch.equal(with_own(x)[:, -2:], with_own(x, queries=2))
    with_own = block(96, 3)
    assert torch.equal(with_own(x)[:, -2:], with_own(x, queries=2))


def test_a_part_that_needs_another_cell_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "    def forward(self, x):\n        return helper(x)\n"
    (tmp_path / "Attention.py").write_text(f"# ch03_attention MyOwn\nfrom minimae.model import vit\nclass MyOwn(vit.Attention):\n{body}")
    assert own_parts(tmp_path) == {}
    said = capsys.readouterr().out
    assert "Attention.py is not used" in said and "'helper' is not defined" in said


def test_a_broken_file_is_left_out_and_the_others_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in {"Block": "", "Encoder": "# ch04_encoder <lambda>\nmine = lambda: 1\n", "MAE": "# ch06_mae MyMAE\nclass\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "take.py").write_text("# ch02_take mine\nfrom minimae.model.masking import take as mine\n")
    assert [*own_parts(tmp_path)] == ["take"]
    said = capsys.readouterr().out
    assert all(f"{name}.py is not used: {error}" in said for name, error in
               (("Block", "IndexError"), ("Encoder", "KeyError: '<lambda>'"), ("MAE", "SyntaxError")))  # fmt: skip


def test_a_class_that_was_written_in_a_cell_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are not files: ``inspect.getsource`` finds their functions, and of their classes only the methods."""
    monkeypatch.chdir(tmp_path)
    cell = "from minimae.model import vit\n\nclass MyOwn(vit.Attention):\n    def forward(self, x):\n        return super().forward(x)\n"
    monkeypatch.setitem(linecache.cache, "<cell 7>", (len(cell), None, cell.splitlines(keepends=True), "<cell 7>"))
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(cell, "<cell 7>", "exec"), names)
    with pytest.raises((OSError, TypeError)):
        inspect.getsource(names["MyOwn"])
    use(check.ch03_attention, names["MyOwn"], vit.Attention)
    kept = (tmp_path / "mine" / "Attention.py").read_text()
    assert kept.startswith("# ch03_attention MyOwn\nclass MyOwn(vit.Attention):\n    def forward") and [*own_parts()] == ["Attention"]


def test_the_package_can_be_built_from_the_readers_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert own_parts() == {}
    use(check.ch03_attention, MyAttention, vit.Attention)
    own_decoder = re.search(r"class MyDecoder.*", exercises("ch05")["ch05_decoder"][1], re.S)[0]  # type: ignore[index]
    solved = own_decoder.replace('raise NotImplementedError("your turn")', "return decoder.Decoder.forward(self, latent, mask)")
    tokens = "\n    tokens = decoder.Decoder.tokens\n"
    (tmp_path / "mine" / "Decoder.py").write_text(f"# ch05_decoder MyDecoder\n{solved}{tokens}")
    for part, test in (("Encoder", "ch04_encoder"), ("mask_from_noise", "ch02_mask_from_noise"), ("take", "ch02_take")):
        (script,), (own, stub) = build.chapters(test[2:4]), exercises(test[:4])[test]
        (solution,) = (cell.source for cell in build.notebook_of(script).cells if f"check.{test}(solution_" in cell.source)
        (tmp_path / "mine" / f"{part}.py").write_text(f"# {test} {own}\n{build.with_region(stub, solution)}")
    (tmp_path / "mine" / "sincos_2d.py").write_text("# ch03_sincos_2d wrong\ndef wrong(d, grid):\n    return torch.zeros(d)\n")
    parts = own_parts()
    assert [*parts] == ["Attention", "Decoder", "Encoder", "mask_from_noise", "take"], "what has become wrong is left out"
    with assembled(parts):
        block = vit.Block(12, 3)
        mae = minimae.MAE("nano", patch=7, depth=2)
    assert mae(torch.rand(2, 1, 28, 28), ratio=0.75).loss.isfinite()
    assert type(mae.encoder) is parts["Encoder"] and type(mae.decoder) is parts["Decoder"]
    assert isinstance(block.attention, parts["Attention"]) and not isinstance(vit.Block(12, 3).attention, parts["Attention"])
    same = vit.Block(12, 3)
    same.load_state_dict(block.state_dict())
    assert torch.allclose(block(torch.ones(1, 2, 12)), same(torch.ones(1, 2, 12)), atol=1e-6)


def solved_parts(folder: Path) -> set[str]:
    """Keep the solutions of all parts, in the stubs of their chapters, as a reader who has solved everything would."""
    folder.mkdir()
    kept = set()
    for chapter in build.chapters(*{f"{number:02d}" for number in range(1, 8)}):
        cells = build.notebook_of(chapter).cells
        parts = dict(re.findall(r"(\w+) = book\.use\(check\.(\w+), ", "\n".join(cell.source for cell in cells)))
        for name, test in parts.items():
            own, stub = exercises(f"ch{chapter.stem[:2]}")[test]
            solution = next(cell.source for cell in cells if f"check.{test}(solution_{own})" in cell.source)
            (folder / f"{name}.py").write_text(f"# {test} {own}\n{build.with_region(stub, solution)}\n")
            kept.add(name)
    return kept


@pytest.mark.parametrize("solved", [False, True])
def test_the_capstone_works_with_all_parts_and_with_none(
    solved: bool, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if solved:
        assert solved_parts(tmp_path / "mine") == set(PARTS), "the parts that chapters 01 to 07 ask for are listed in own.py"
    parts = own_parts()
    assert parts.keys() == (set(PARTS) if solved else set())
    whose(parts)
    assert f"{len(PARTS) if solved else 0} of {len(PARTS)} parts are yours." in capsys.readouterr().out
    shape = minimae.size("nano", image=16, patch=4, channels=3, depth=1, decoder_depth=1)
    package = minimae.MAE(shape, target="pixels")
    pixels = torch.randint(0, 256, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = minimae.data.Images("noise", pixels, torch.zeros(4, dtype=torch.long), ("noise",), torch.arange(4))
    with assembled(parts):
        own = mae.MAE(shape, target="pixels")
        assert type(own.decoder) is parts.get("Decoder", minimae.Decoder) and type(own.encoder.blocks[0]) is parts.get("Block", vit.Block)
        own.load_state_dict(package.state_dict())
        settings = replace(recipe("fashion-demo"), target="pixels", image=16, patch=4)
        task = pretrain.PretrainTask(settings, images, own)
        batch = images.batch(torch.arange(4), torch.zeros(4, dtype=torch.long))
        assert torch.allclose(task.loss_of(batch), pretrain.PretrainTask(settings, images, package).loss_of(batch), atol=1e-5)
        if solved:
            losses = [float(parts["training_step"](task, task.optimizer(1e-3), iter([batch]), 1)) for _ in range(3)]
            assert losses[-1] < losses[0]
        assert Live(task, pixels[:1], 2).at == [0, 1, 2], "a short run has no column twice"
        shown = stages(task, pixels, minimae.make_mask(torch.arange(4), shape.grid))
    assert [picture.shape for picture in shown[2]] == [(16, 16, 3)] * 4


@pytest.mark.parametrize("name", names())
def test_whatever_it_is_given_a_check_returns_a_verdict(name: str) -> None:
    for function in (lambda *_, **__: None, lambda: 0, lambda *_, **__: "a word", None, lambda *_, **__: 1 / 0):
        verdict = getattr(check, name)(function)
        assert isinstance(verdict, Verdict) and not verdict.ok and len(verdict.text) > 10
    assert "ZeroDivisionError" in verdict.text


def test_the_committed_solutions_pass() -> None:
    """The solutions run in the notebooks (nbval); here: that each of them is there, and is right, and is not shown as the reader's."""
    for script in build.chapters():
        for cell in nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells:
            if "solution" in cell.metadata.get("tags", []):
                (said,) = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
                assert said.startswith("○ solution: "), (script.stem, cell.source)


def test_a_check_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="did you mean 'ch05_unshuffle'"):
        check.ch05_unshufle  # noqa: B018
    assert "ch05_unshuffle" in dir(check)


def test_verdicts_show_themselves() -> None:
    right, wrong = Verdict(True, "x < 1"), Verdict(False, "no")
    assert repr(Verdict(True, "the book's", solution=True)) == "○ solution: the book's"
    assert repr(right) == "✓ right: x < 1" and "x &lt; 1" in right._repr_html_()
    assert repr(wrong) == "✗ wrong: no" and repr(Verdict(False, "later", written=False)) == "… not written yet: later"
