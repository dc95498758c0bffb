"""The command line. One file a command holds its options, its help and what it does."""

import os
import sys
import time

_HEAD_START = 10.0
"""Seconds that the other processes of torchrun wait before they print an error, so that the first prints it alone."""


def main() -> None:
    """Run the command line. Prints an error as one line, and exits with code 1.

    With POLYENCODERS_TRACEBACK=1 in the environment, Python prints it with where it comes from.
    """
    # Before PyTorch is imported: threads that spin while they wait are several times slower on small virtual machines.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    from polyencoders.cli.app import app
    from polyencoders.errors import MissingExtraError, PolyencodersError

    if os.environ.get("POLYENCODERS_TRACEBACK"):
        app()
        return
    try:
        app()
    except PolyencodersError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        from polyencoders.encoders.loading import NEED_TRAIN

        package = (error.name or "").split(".")[0]
        if package not in NEED_TRAIN:
            _fail_raw(error)
        _fail(str(MissingExtraError(package, "train", "this command")))
    except OSError as error:
        _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
    except Exception as error:
        _fail_raw(error)


def _fail_raw(error: Exception) -> None:
    """Print an error that nobody foresaw, of a library or ours, as one line."""
    said = next((line for line in str(error).splitlines() if line.strip()), "no message")
    _fail(f"{type(error).__name__}: {said} (POLYENCODERS_TRACEBACK=1 shows where)")


def _fail(message: str) -> None:
    from polyencoders.cli.display import is_first

    if not is_first():
        time.sleep(_HEAD_START)  # the first process most likely fails the same way, and torchrun then ends this one
    print(f"polyencoders: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(1)
