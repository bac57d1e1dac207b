"""Shell completion, asked as a shell asks: in a bash of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest

from minimae.cli.commands import COMMANDS
from minimae.cli.completion import CompletionCommand, bash, fish
from minimae.cli.program import main

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "minimae.bash"
    path.write_text(bash(), encoding="utf-8")
    return path


def offered(script: Path, line: str, cwd: Path) -> list[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    ask = f'source {script}; COMP_WORDS=({" ".join(words)} ""); COMP_CWORD={len(words) - 1}; _minimae; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-c", ask.replace("  ", " ")], cwd=cwd, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@needs_bash
@pytest.mark.parametrize(("line", "some", "none"), [
    ("minimae pre", {"pretrain"}, {"probe"}),
    ("minimae pretrain fash", {"fashion-demo", "fashion-nano"}, {"fashion-finetune"}),
    ("minimae finetune fash", {"fashion-finetune", "fashion-scratch"}, {"fashion-demo"}),
    ("minimae pretrain fashion-demo --mask", {"--mask-tokens-in-encoder"}, {"--ratio"}),
    ("minimae pretrain fashion-demo --sampling b", {"block"}, {"random"}),
    ("minimae probe --weights x --mom", {"--momentum"}, set()),
    ("minimae data pa", {"pack"}, {"fashion"}),
    ("minimae data pack a b --sh", {"--shard-size"}, {"--limit"}),
    ("minimae data --lim", {"--limit"}, {"--shard-size"}),
    ("minimae convert a b --to off", {"official"}, {"timm"}),
    ("minimae recipes imagenet-huge-fine", {"imagenet-huge-finetune-448"}, set()),
    ("minimae completion z", {"zsh"}, {"bash"}),
    ("minimae help kn", {"knn"}, set()),
    ("minimae reconstruct pict", {"picture.png"}, set()),
    ("minimae knn --weights pict", {"picture.png"}, set()),
    ("minimae reconstruct my", {"my holiday.jpg"}, {"holiday.jpg", "my"}),
])  # fmt: skip
def test_bash_offers_what_fits(script: Path, line: str, some: set[str], none: set[str], tmp_path: Path) -> None:
    (tmp_path / "picture.png").touch()
    (tmp_path / "my holiday.jpg").touch()
    found = set(offered(script, line, tmp_path))
    assert some <= found and not none & found
    assert all(word.startswith(line.rpartition(" ")[2]) for word in found)


@needs_bash
def test_every_command_is_offered(script: Path, tmp_path: Path) -> None:
    assert set(offered(script, "minimae ", tmp_path)) == {name for name in COMMANDS if " " not in name} | {"help"}


def test_zsh_and_fish_get_scripts_of_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    CompletionCommand(shell="zsh")()
    assert (zsh := capsys.readouterr().out).endswith(bash()) and "bashcompinit" in zsh
    lines = fish().splitlines()
    assert all(line.startswith("complete -c minimae -n ") for line in lines[1:])
    assert any("-l sampling -x -a 'random block grid'" in line for line in lines)
    assert main(["completion", "bash"]) == 0 and capsys.readouterr().out == bash()
    assert main(["completion", "tcsh"]) == 2
