"""How far two trained models are apart."""

from collections.abc import Mapping

import torch
from torch import Tensor


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of the weights in two state dicts, without the biases of keys.

    Softmax ignores what is added to all keys. So the gradient of these biases is zero but for rounding, and Adam makes whole steps of
    rounding: they differ from processor to processor, and nothing else does.
    """
    assert one.keys() == other.keys()
    return max(float((_counts(name, one[name]) - _counts(name, other[name])).abs().max()) for name in one)


def _counts(name: str, value: Tensor) -> Tensor:
    value = value.double()
    if name.endswith("qkv.bias"):
        queries, _, values = value.chunk(3)
        return torch.cat([queries, values])
    return value
