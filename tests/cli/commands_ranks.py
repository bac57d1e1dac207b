"""Started by torchrun from test_commands_ranks.py: whole commands, one after the other. Not a test by itself.

Arguments: a JSON list of command lines, and the file for the exit codes, one list for each process.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from minimae.cli.program import main


def code_of(command: list[str]) -> int:
    """What the process would leave with; 1 for an exception that reaches the top."""
    try:
        return main(command)
    except Exception:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    codes = [code_of(command) for command in json.loads(sys.argv[1])]
    Path(f"{sys.argv[2]}-{os.environ['RANK']}.json").write_text(json.dumps(codes))
