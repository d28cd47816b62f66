"""Task systems. Each is a `Broker`; none imports another."""
