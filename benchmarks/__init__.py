"""What this package costs, and what it does under faults; `python -m benchmarks --help`."""
