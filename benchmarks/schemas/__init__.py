"""What the official test suite of JSON Schema says of our validators."""

__all__: list[str] = []
