"""The memory of schemas from the wire: by their text, bounded in number and in bytes, failures as well."""

from __future__ import annotations

import pytest

from neuron_anyio.schemas import InvalidSchema, SchemaCache, wire_validator


def schema(number: int, size: int = 0) -> bytes:
    return b'{"const":%d,"$comment":"%s"}' % (number, b"x" * size)


def test_the_same_text_gets_the_same_validator() -> None:
    cache = SchemaCache()
    assert cache.validator(schema(1)) is cache.validator(bytes(bytearray(schema(1))))
    assert cache.validator(schema(1)) is not cache.validator(b" " + schema(1))
    assert wire_validator(schema(2)) is wire_validator(schema(2))


def test_the_least_recently_used_is_forgotten() -> None:
    cache = SchemaCache(entries=2)
    first, second = cache.validator(schema(1)), cache.validator(schema(2))
    assert cache.validator(schema(1)) is first
    cache.validator(schema(3))
    assert len(cache) == 2
    assert cache.validator(schema(1)) is first
    assert cache.validator(schema(2)) is not second


def test_l12_the_texts_are_bounded_together() -> None:
    cache = SchemaCache(schema_bytes=1000)
    for number in range(100):
        cache.validator(schema(number, size=100))
        assert cache.schema_bytes <= 1000
    assert len(cache) == 1000 // len(schema(10, size=100))
    last = cache.validator(schema(99, size=100))
    cache.validator(schema(1, size=970))
    assert len(cache) == 1
    assert cache.validator(schema(99, size=100)) is not last


def test_a_text_larger_than_the_memory_is_judged_and_not_kept() -> None:
    cache = SchemaCache(schema_bytes=10)
    assert cache.validator(schema(1)).check(2) is not None
    assert (len(cache), cache.schema_bytes) == (0, 0)


def test_l11_11_failures_are_remembered_and_raised_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SchemaCache()
    raised: list[InvalidSchema] = []
    for _ in range(2):
        with pytest.raises(InvalidSchema) as caught:
            cache.validator(b'{"type":5}')
        raised.append(caught.value)
        monkeypatch.setattr("neuron_anyio.schemas._compile", lambda text: pytest.fail("compiled again"))
    assert str(raised[0]) == str(raised[1])
    assert raised[0] is not raised[1], "an exception that is raised twice drags its tracebacks along"
    assert len(cache) == 1


def test_l12_a_hostile_gateway_cannot_fill_the_memory_with_failures() -> None:
    cache = SchemaCache(entries=5, schema_bytes=1000)
    for number in range(50):
        with pytest.raises(InvalidSchema):
            cache.validator(b'{"type":%d}' % number)
    assert len(cache) == 5
    with pytest.raises(InvalidSchema, match="bytes, more than"):
        cache.validator(b" " * 300_000)
    assert cache.schema_bytes < 1000
