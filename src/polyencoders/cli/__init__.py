"""The command line: recipes in, tables out. Knows everything, and is known by nobody.

`polyencoders` starts here: what must be set before PyTorch is imported is set, and every error that people can mend is
printed as one line.
"""

from __future__ import annotations

import os
import sys
import time

_SILENCE = 10.0
"""Seconds for which one of several processes keeps to itself what is wrong."""


def main() -> None:
    """Run the command line."""
    # Threads that spin while they wait make PyTorch several times slower on small virtual machines.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from polyencoders.cli.app import app
    from polyencoders.errors import PolyencodersError

    try:
        app()
    except PolyencodersError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))


def is_first() -> bool:
    """Whether no other process of those that torchrun started comes before this one: known before PyTorch is."""
    return os.environ.get("RANK", "0") == "0"


def _fail(message: str) -> None:
    if not is_first():
        # Started by torchrun beside others: what is wrong is most likely wrong in the first of them too, which says so,
        # and torchrun then ends this one.
        time.sleep(_SILENCE)
    print(f"polyencoders: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(1)
