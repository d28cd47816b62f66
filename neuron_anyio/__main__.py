"""`python -m neuron_anyio`: the same as the command `neuron-anyio`."""

import sys

from neuron_anyio.cli import main

if __name__ == "__main__":
    sys.exit(main())
