"""The rows of `python -m benchmarks`; each module has `cases(*, quick)`."""
