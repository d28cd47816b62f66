"""`uniqueItems`, in a time that grows with the size of the items and with nothing else.

The engine's own compares every item with every other where their hashes are alike, and somebody can see to that: all
integers beyond 64 bits have one hash, so have 0 and false, and objects are hashed without a secret. A hundred thousand
such items would take hours. Here items become text, and texts a set, whose hashes have a secret.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii
from typing import Any, cast

__all__ = ["UniqueItems"]


class UniqueItems:
    """The keyword, as the engine calls it.

    Args:
        parent: the schema that it stands in.
        value: what it says there.
        path: where that is.
    """

    __slots__ = ("_is_asked",)

    def __init__(self, parent: dict[str, Any], value: Any, path: list[str | int]) -> None:  # noqa: ARG002 -- the engine's
        self._is_asked = value is True

    def validate(self, instance: Any) -> None:
        """Judge a value of any type, which nests no deeper than values that are judged may.

        Raises:
            ValueError: it is an array with two equal items.
        """
        if self._is_asked and isinstance(instance, list | tuple):
            items = cast("list[Any]", instance)
            texts = items if all(isinstance(item, str) for item in items) else map(_text, items)
            if len(set(texts)) < len(items):
                raise ValueError


def _text(value: Any) -> str:  # noqa: PLR0911 -- one for each type
    """Write a value so that equal ones, and no others, are written alike. What is not JSON equals only itself."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    if isinstance(value, int | float):
        return f"{int(value):x}"  # in linear time, unlike decimals
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, cast('list[Any]', value)))}]"
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return (
            f"{{{','.join(sorted(f'{encode_basestring_ascii(str(name))}:{_text(each)}' for name, each in members))}}}"
        )
    return f"{type(value)} {id(value)}"
