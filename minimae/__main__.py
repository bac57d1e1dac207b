"""``python -m minimae``, which is also what torchrun starts: ``torchrun --nproc-per-node=8 -m minimae pretrain …``."""

import sys

from .cli import main

sys.exit(main())
