"""CPU time per lease beside a bare client; `python -m benchmarks --help`."""
