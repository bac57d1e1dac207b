"""Reading the package's source in pieces."""

from __future__ import annotations

import pytest
from minimae_book.reading import excerpt

from minimae.train import order


def test_an_excerpt_is_the_source_itself() -> None:
    piece = excerpt(order.batch_at, "while count", "position, count = position")
    assert piece.code.startswith("while count:\n    epoch, offset = divmod(position, images)")
    assert piece.code.endswith("position, count = position + len(part), count - len(part)")
    assert piece.title == "minimae/train/order.py, in batch_at"
    assert piece._repr_markdown_().count("```") == 2


def test_lines_that_are_gone_are_an_error() -> None:
    with pytest.raises(ValueError, match="batch_at has no line with 'for ever'"):
        excerpt(order.batch_at, "for ever", "return")
