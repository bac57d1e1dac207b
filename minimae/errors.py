"""Errors that a person can act on: the command line prints them as one line and leaves with code 2."""


class MinimaeError(Exception):
    """Something outside the code is wrong: a file, a disk, a run that diverged."""


class Interrupted(MinimaeError):
    """The run was stopped from outside, after saving."""
