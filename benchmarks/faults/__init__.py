"""Every fault against an SDK in a process of its own; `python -m benchmarks.faults --help`."""
