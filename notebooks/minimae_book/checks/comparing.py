"""Shared by the checks: fixed inputs, comparisons, and messages about returned values."""

from __future__ import annotations

import ast
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Mistake(Exception):
    """What is wrong with the reader's function; it becomes the verdict."""


def random(*shape: int, seed: int = 0) -> Tensor:
    """Fixed normal numbers; the reader's random state is not changed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loaded(own: Any, package: nn.Module, advice: str = "leave __init__ as it was") -> Any:
    """The reader's layer with the package's weights. Raises Mistake when the names or shapes of the parameters differ."""
    if not isinstance(own, nn.Module):
        raise Mistake(f"a layer was expected, a subclass of nn.Module, not {type(own).__name__}")
    theirs, ours = ({name: tuple(p.shape) for name, p in layer.state_dict().items()} for layer in (own, package))
    if theirs != ours:
        different = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        raise Mistake(f"{advice}: the parameters differ from the package's in {', '.join(different)}")
    own.load_state_dict(package.state_dict())
    return own


def trains(weights: Iterable[tuple[str, Tensor]], *results: Tensor) -> None:
    """Raises Mistake unless the backward pass reaches all these weights from the reader's results."""
    trained = [(name, weight) for name, weight in weights if weight.requires_grad]
    try:
        torch.stack([result.sum() for result in results]).sum().backward()
    except RuntimeError as error:
        if "inplace" in str(error):
            raise Mistake("the values are right, but training would stop: `x += …` overwrites values that the backward pass needs. Write `x = x + …`") from None
    if lost := [name for name, weight in trained if weight.grad is None]:
        raise Mistake(f"the values are right, but {lost[0]} gets no gradient, so it would not be trained: no torch.no_grad(), detach() or item()")


def near(a: object, b: Tensor) -> bool:
    """Equal shape, and equal values up to rounding."""
    return isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a.to(b.dtype), b, atol=1e-5)


def close(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    """Numbers that differ by less."""
    return abs(float(a) - float(b)) < tolerance


def expect(got: Any, shape: tuple[int, ...], words: str = "") -> None:
    """Raises Mistake unless it is a tensor of this shape. words: what was expected."""
    if not isinstance(got, Tensor):
        raise Mistake(f"{words or 'a tensor was expected'}, not {type(got).__name__}")
    if tuple(got.shape) != shape:
        raise Mistake(f"{words or 'the shape should be'}{': ' if words else ' '}{shape}, not {tuple(got.shape)}")


def one_number(got: Any) -> float:
    """The returned number. Raises Mistake unless it is a number, or a tensor or array of one number."""
    try:
        return float(got)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake(f"one number was expected, a float or a tensor of one number, not {described(got)}") from None


def named_mistake(got: Any, mistakes: Iterable[tuple[Any, str]], *, same: Callable[[Any, Any], bool] = near, where: str = "") -> None:
    """Raises Mistake with the message of the first wrong result that is the reader's. where: the case, before the message."""
    for wrong, message in mistakes:
        if same(got, wrong):
            raise Mistake(f"{where}: {message}" if where else message)


def refuses(function: Any, *args: Any) -> bool:
    """Whether the reader's function raises ValueError for these arguments. Raises Mistake when it raises another error."""
    try:
        function(*args)
    except ValueError:
        return True
    except Mistake:  # it returned nothing
        return False
    except Exception as error:
        given = ", ".join(map(described, args))
        raise Mistake(f"for ({given}) a ValueError was expected, not {type(error).__name__}: check the sizes first, and raise it yourself") from None
    return False


def tree_of(function: Any) -> ast.AST:
    """The syntax tree of the reader's function, or an empty one when its source is not known."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def without_loop(function: Any) -> None:
    """Raises Mistake when the reader's function has a loop or a comprehension."""
    if any(isinstance(node, ast.For | ast.While | ast.comprehension) for node in ast.walk(tree_of(function))):
        raise Mistake("it loops, but this exercise treats all images at once, without a loop")


def without_name(function: Any, name: str) -> None:
    """Raises Mistake when the reader's function uses this name, such as that of the library function that it should replace."""
    if any(name in (getattr(node, "id", None), getattr(node, "attr", None)) for node in ast.walk(tree_of(function))):
        raise Mistake(f"the result is right, but this exercise is to be solved without {name}")


def without_autograd(function: Any) -> None:
    """Raises Mistake when the reader's function calls autograd."""
    for node in ast.walk(tree_of(function)):
        name = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        if name in ("backward", "grad", "grad_and_value", "jacrev", "jacfwd", "vjp"):
            raise Mistake(f"it calls {name}, but this exercise needs a formula, without autograd")


def stopped(error: Exception, functions: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> str:
    """The message about an error in the reader's functions or classes: the line, the error, and the arguments of the call."""
    codes = [getattr(part, "__code__", None) for f in functions for part in (f, *getattr(f, "__dict__", {}).values())]
    files = {code.co_filename for code in codes if code is not None}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    where = f" in {frames[-1].name} at `{frames[-1].line}`" if frames and frames[-1].line else ""
    given = [described(value) for value in args] + [f"{name}={described(value)}" for name, value in (kwargs or {}).items()]
    called = f". It was called with ({', '.join(given)})" if given else ""
    return f"it stopped{where} with {type(error).__name__}: {error}{called}"


def described(value: Any) -> str:
    """A value in a few words: the shape and type of a tensor, other values as Python writes them, cut short."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{'an' if kind.startswith('int') else 'a'} {kind} tensor of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}…"
