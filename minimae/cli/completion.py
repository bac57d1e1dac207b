"""``minimae completion bash|zsh|fish``: a script that completes commands, recipes, options and their values."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

# Both cases set ``words``: to the values of the option before the cursor, or to what a command takes. If none fits, files are offered.
BASH = """# minimae: eval "$(minimae completion bash)"
_minimae() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}" words=""
  if [[ $COMP_CWORD -gt 2 ]]; then
    case "$command ${{COMP_WORDS[2]}}" in {pairs}) command="$command ${{COMP_WORDS[2]}}" ;; esac
  fi
  [[ $COMP_CWORD -gt 1 ]] || command="" previous=""
  case "$command $previous" in
{values}
    *) case "$command" in
{commands}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  local IFS=$'\n'  # names of files may have spaces
  [[ ${{#COMPREPLY[@]}} -gt 0 || $current == -* ]] || COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _minimae minimae
"""
# For zsh, which runs the bash script.
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True, kw_only=True)
class CompletionCommand:
    """Print a shell script that completes commands, recipes and options: eval "$(minimae completion bash)"."""

    shell: Positional[Annotated[Literal["bash", "zsh", "fish"], arg(metavar="{bash,zsh,fish}")]]
    """bash and zsh: eval "$(minimae completion SHELL)" in the shell's start-up file. fish: minimae completion fish | source."""

    def __call__(self) -> None:
        print({"bash": bash, "zsh": lambda: ZSH + bash(), "fish": fish}[self.shell](), end="")


def vocabulary() -> dict[str, tuple[list[str], dict[str, list[str]]]]:
    """For each command: the words that it takes, and its options with their choices."""
    from minimae_book.evidence.catalogue import CLAIMS

    from ..data import NAMES
    from ..model.sizes import SIZES
    from ..recipes import RECIPES
    from .commands import COMMANDS, RECIPE_KINDS, command_class
    from .mistakes import options
    from .parsing import defaults

    names = {"recipes": list(RECIPES), "data": list(NAMES), "flops": [*SIZES, "all"], "reproduce": [*CLAIMS, "all"]}
    names |= {"race": ["5", "15", "45"], "completion": ["bash", "zsh", "fish"]}
    known: dict[str, tuple[list[str], dict[str, list[str]]]] = {"": ([name for name in [*COMMANDS, "help"] if " " not in name], {})}
    for name in COMMANDS:
        recipes = [entry.name for entry in RECIPES.values() if entry.kind in RECIPE_KINDS.get(name, ())]
        second = [other.split()[1] for other in COMMANDS if other.startswith(f"{name} ")]
        default = defaults(name, recipes[:1]) if recipes else None
        choices = {} if name == "pretrain" else options(name, command_class(name))
        choices |= {} if default is None else options(name, type(default), default)  # minimae probe has two forms
        known[name] = (recipes + second + names.get(name, []), choices)
    return known | {"help": ([name for name in COMMANDS if " " not in name], {})}


def bash() -> str:
    """The script for bash."""
    known, quote = vocabulary(), shlex.quote
    values = [(f"{name} {option}", choices) for name, (_, options) in known.items() for option, choices in options.items() if choices]
    commands = [(name, [*words, *options]) for name, (words, options) in known.items()]
    cases = [[f"    {quote(key)}) words={quote(' '.join(words))} ;;" for key, words in rows] for rows in (values, commands)]
    pairs = "|".join(quote(name) for name in known if " " in name)
    return BASH.format(pairs=pairs, values="\n".join(cases[0]), commands="\n".join(cases[1]))


def fish() -> str:
    """The script for fish: one line for each word."""
    lines, known = ["# minimae completion fish | source"], vocabulary()
    for name, (words, options) in known.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split()) or "__fish_use_subcommand"
        start = f"complete -c minimae -n {shlex.quote(seen)}"
        lines += [f"{start} -a {shlex.quote(' '.join(words))}"] if words else []
        for option, choices in options.items():
            lines.append(f"{start} -l {option[2:]}" + (f" -x -a {shlex.quote(' '.join(choices))}" if choices else ""))
    return "\n".join(lines) + "\n"
