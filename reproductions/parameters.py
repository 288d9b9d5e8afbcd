"""A run's parameters: read from text, held to the spec's limits. Standard library only; web and command line share it.

A limit is (low, high) for a number, or for each number of a list, or the list of allowed choices.
"""

import math
from typing import Any

LONGEST_LIST = 32


class ParameterError(ValueError):
    """A parameter is not what the spec allows; the message is one line: what was expected and what came."""


def resolve(defaults: dict[str, Any], limits: dict, changes: dict[str, Any]) -> dict[str, Any]:
    """`defaults` of a size with `changes` laid over them; texts are read as the type of the default."""
    unknown = sorted(set(changes) - set(defaults))
    if unknown:
        raise ParameterError(f"{unknown[0]}: no such parameter, expected one of {', '.join(sorted(defaults))}")
    resolved = defaults | {name: _read(name, text, defaults[name]) for name, text in changes.items()}
    for name, value in resolved.items():
        _hold(name, value, limits[name])
    return resolved


def expected(default: Any, limit: Any) -> str:
    """What a parameter takes, in words, for forms and errors."""
    if not is_range(limit):
        words = f"one of {', '.join(map(str, limit))}"
        return f"{words}, separated by commas" if isinstance(default, list) else words
    kind = default[0] if isinstance(default, list) else default
    noun = "number" if isinstance(kind, float) else "whole number"
    between = f"between {limit[0]:g} and {limit[1]:g}"
    return f"{noun}s {between}, separated by commas" if isinstance(default, list) else f"a {noun} {between}"


def text(value: Any) -> str:
    """A value as it is typed: a list with commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def is_range(limit: Any) -> bool:
    """Whether a limit is a (low, high) pair of numbers rather than a list of choices (JSON keeps no tuples)."""
    return len(limit) == 2 and all(isinstance(x, int | float) and not isinstance(x, bool) for x in limit)


def _read(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, list):
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, list) or not parts or len(parts) > LONGEST_LIST:
            raise ParameterError(f"{name}: expected 1 to {LONGEST_LIST} values separated by commas, got {value!r}")
        return [_read(name, part, default[0]) for part in parts]
    if isinstance(default, bool):
        words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if str(value).lower() not in words:
            raise ParameterError(f"{name}: expected yes or no, got {value!r}")
        return words[str(value).lower()]
    try:
        return type(default)(value)
    except (TypeError, ValueError, OverflowError):
        noun = "a whole number" if isinstance(default, int) else "a number"
        raise ParameterError(f"{name}: expected {noun}, got {value!r}") from None


def _hold(name: str, value: Any, limit: Any) -> None:
    for one in value if isinstance(value, list) else [value]:
        if is_range(limit) and not isinstance(one, bool):
            allowed = isinstance(one, int | float) and math.isfinite(one) and limit[0] <= one <= limit[1]
        else:
            allowed = one in limit
        if not allowed:
            raise ParameterError(f"{name}: expected {expected(value, limit)}, got {one!r}")
