"""Modules built without values: where ranks share a model, each needs the values of its slice alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn

Register = Callable[[nn.Module, str, nn.Parameter | None], None]
_REGISTER: Register = nn.Module.register_parameter


def hollow() -> AbstractContextManager[None]:
    """Build modules whose weights have sizes alone (device "meta"); buffers, and what no module has registered, have
    their values. One weight at a time is in memory."""
    return _registering(_register_size)


def solid() -> AbstractContextManager[None]:
    """Build modules as ever, also inside `hollow`: what a library reads from a folder has to be put somewhere."""
    return _registering(_REGISTER)


@contextmanager
def _registering(register: Register) -> Iterator[None]:
    before = nn.Module.register_parameter
    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = before  # type: ignore[method-assign]


def _register_size(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
    # One without values was registered before: two modules share it.
    if parameter is not None and not parameter.is_meta:
        parameter = _without_values(parameter)
    _REGISTER(module, name, parameter)


def _without_values(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)


def forget(model: nn.Module) -> None:
    """Take the values from the weights that still have some."""
    hollowed: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and not parameter.is_meta:
                if parameter not in hollowed:
                    hollowed[parameter] = _without_values(parameter)
                module._parameters[name] = hollowed[parameter]
