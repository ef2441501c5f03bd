"""Fields of a config, checked: names, types and values, each with a sentence that names it."""

import dataclasses
import difflib
import re
import typing
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from bert_jax.errors import InputError

T = TypeVar("T")
Values = Mapping[str, Any] | ConfigDict  # the latter is no Mapping, though it acts as one


def build(cls: type[T], values: Values, path: str = "config") -> T:
    """Makes the dataclass `cls` from a mapping, strict in names and types.

    Raises InputError naming the field: unknown (with the nearest known name), missing,
    or of another type. An int is taken for a float, a list for a tuple, nothing else.
    """
    types = typing.get_type_hints(cls)
    for name in values:
        if name not in types:
            raise InputError(
                f"{path}.{name} is not a field of {cls.__name__}; {hint(name, types, f'{path}.')}"
            )
    missing = [name for name in types if name not in values]
    if missing:
        raise InputError(f"{path}.{missing[0]} is missing; {cls.__name__} needs it.")
    return cls(**{name: _typed(types[name], values[name], f"{path}.{name}") for name in types})


def hint(given: str, known: Collection[str], prefix: str = "") -> str:
    """What may have been meant by `given`, of what is known; the prefix goes before a guess."""
    near = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"choose one of {', '.join(known)}."


def _typed(kind: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping | ConfigDict):
            raise InputError(f"{path} must hold the fields of {kind.__name__}, not {value!r}.")
        return build(kind, value, path)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(typing.get_args(kind)[0], item, path) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    name = getattr(kind, "__name__", str(kind))
    if not isinstance(kind, type) or not isinstance(value, kind):
        raise InputError(f"{path} must be {name}, not {type(value).__name__} ({value!r}).")
    if isinstance(value, bool) and kind is not bool:
        raise InputError(f"{path} must be {name}, not bool ({value!r}).")
    return value


def _path(config: Any, name: str) -> str:
    """The path a user types, as far as the class knows it."""
    return f"config.{getattr(config, 'SECTION', '')}{name}"


def one_of(config: Any, name: str, known: tuple[str, ...]) -> None:
    """Raises InputError, with the nearest known value, where the field has none of them."""
    value = getattr(config, name)
    if value not in known:
        raise InputError(f"{_path(config, name)}={value!r} is not known; {hint(value, known)}")


def at_least(config: Any, name: str, least: float) -> None:
    """Raises InputError where the field is less."""
    value = getattr(config, name)
    if value < least:
        raise InputError(f"{_path(config, name)}={value} is too small; the least is {least}.")


def regex(config: Any, name: str) -> None:
    """Raises InputError where the field is no regular expression."""
    try:
        re.compile(getattr(config, name))
    except re.error as error:
        raise InputError(
            f"{_path(config, name)}={getattr(config, name)!r} is no regular expression: {error}."
        ) from None


def share(config: Any, name: str) -> None:
    """Raises InputError where the field is not from 0 to 1."""
    value = getattr(config, name)
    if not 0 <= value <= 1:
        raise InputError(f"{_path(config, name)}={value} must lie between 0 and 1.")


def divides(config: Any, small: str, large: str) -> None:
    """Raises InputError where the field `large` is not a multiple of `small`."""
    if getattr(config, large) % getattr(config, small):
        raise InputError(
            f"{_path(config, large)}={getattr(config, large)} is not a multiple of"
            f" {_path(config, small)}={getattr(config, small)}."
        )
