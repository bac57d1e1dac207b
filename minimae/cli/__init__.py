"""The command line: one file a command. Nothing else imports this package."""

from .main import main, parse, usage

__all__ = ["main", "parse", "usage"]
