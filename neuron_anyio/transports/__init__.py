"""Roads for BigBrain frames. Each is a `Transport`; none imports another."""
