"""``minimae completion bash|zsh|fish``: a script that completes commands, recipes, options and their values."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

# The words before the current one select a case: its words that match are offered, or files where any value is possible.
BASH = """# minimae: eval "$(minimae completion bash)"
_minimae() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}" words=""
  if [[ $COMP_CWORD -gt 2 ]]; then
    case "$command ${{COMP_WORDS[2]}}" in {pairs}) command="$command ${{COMP_WORDS[2]}}" ;; esac
  fi
  if [[ $COMP_CWORD -eq 1 ]]; then
    words={first}
  else
    case "$command $previous" in
{values}
      *)
        case "$command" in
{options}
        esac
        [[ $current == -* || $COMP_CWORD -gt 2 ]] || case "$command" in
{second}
        esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ ${{#COMPREPLY[@]}} -gt 0 || $current == -* ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _minimae minimae
"""


@dataclass(frozen=True, kw_only=True)
class CompletionCommand:
    """Print a shell script that completes commands, recipes and options: eval "$(minimae completion bash)"."""

    shell: Positional[Annotated[Literal["bash", "zsh", "fish"], arg(metavar="{bash,zsh,fish}")]]
    """bash and zsh: eval "$(minimae completion SHELL)" in the shell's start-up file. fish: minimae completion fish | source."""

    def __call__(self) -> None:
        print({"bash": bash, "zsh": zsh, "fish": fish}[self.shell](), end="")


def vocabulary() -> dict[str, tuple[list[str], dict[str, list[str]]]]:
    """For each command: the words that may follow it directly, and its options with their choices."""
    from minimae_book.evidence.catalogue import CLAIMS

    from ..data import NAMES
    from ..model.sizes import SIZES
    from ..recipes import RECIPES
    from ..tasks.probe_train import Probe
    from .commands import COMMANDS, TrainProbeCommand
    from .meant import options
    from .parsing import WITH_RECIPE, pretraining

    found = {}
    for name, command in COMMANDS.items():
        default: Any = pretraining(None, ["--help"]) if name == "pretrain" else None
        following = [entry.name for entry in RECIPES.values() if entry.kind in WITH_RECIPE.get(name, ())]
        following += [other.split()[1] for other in COMMANDS if other.startswith(f"{name} ")]
        following += {"recipes": list(RECIPES), "data": list(NAMES), "flops": [*SIZES, "all"], "reproduce": [*CLAIMS, "all"]}.get(name, [])
        following += {"race": ["5", "15", "45"], "completion": ["bash", "zsh", "fish"]}.get(name, [])
        more = options(name, TrainProbeCommand, TrainProbeCommand(weights=Path(), recipe=Probe())) if name == "probe" else {}
        found[name] = (following, {**options(name, command, default), **more, "--help": []})
    found["help"] = ([name for name in COMMANDS if " " not in name], {})
    return found


def case(pattern: str, words: list[str], indent: int) -> str:
    """A branch of a case: these words are offered."""
    return f"{' ' * indent}{pattern}) words={shlex.quote(' '.join(words))} ;;"


def bash() -> str:
    """The script for bash."""
    known = vocabulary()
    values = [
        case(shlex.quote(f"{name} {option}"), choices, 6)
        for name, (_, options) in known.items() for option, choices in options.items() if choices
    ]  # fmt: skip
    return BASH.format(
        pairs="|".join(shlex.quote(name) for name in known if " " in name),
        first=shlex.quote(" ".join(name for name in known if " " not in name)),
        values="\n".join(values),
        options="\n".join(case(shlex.quote(name), list(options), 10) for name, (_, options) in known.items()),
        second="\n".join(case(shlex.quote(name), following, 10) for name, (following, _) in known.items() if following),
    )


def zsh() -> str:
    """The script for zsh, which runs the bash script."""
    return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bash()


def fish() -> str:
    """The script for fish: one line for each word."""
    known = vocabulary()
    lines = ["# minimae completion fish | source"]
    first = [name for name in known if " " not in name]
    lines.append(f"complete -c minimae -n __fish_use_subcommand -a {shlex.quote(' '.join(first))}")
    for name, (following, options) in known.items():
        seen = " ".join(f"; and __fish_seen_subcommand_from {word}" for word in name.split()).removeprefix("; and ")
        if following:
            lines.append(f"complete -c minimae -n {shlex.quote(seen)} -a {shlex.quote(' '.join(following))}")
        for option, choices in options.items():
            chosen = f" -x -a {shlex.quote(' '.join(choices))}" if choices else ""
            lines.append(f"complete -c minimae -n {shlex.quote(seen)} -l {option.removeprefix('--')}{chosen}")
    return "\n".join(lines) + "\n"
