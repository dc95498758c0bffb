"""The native kernel of `polyencoders.scoring`: C++17 without flags for one processor; it chooses its loops at run time.

Optional: where there is no compiler, the package installs without it and searches with PyTorch, which it says when it
does (`polyencoders.scoring.kernel`). Everything else about the package is in pyproject.toml.
"""

import os
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

NATIVE = Path("src/polyencoders/scoring/native")

setup(
    ext_modules=[
        Pybind11Extension(
            "polyencoders.scoring._kernel",
            sources=sorted(map(str, NATIVE.glob("*.cpp"))),
            depends=sorted(map(str, [*NATIVE.glob("*.h"), *NATIVE.glob("*.inl")])),
            cxx_std=17,
            extra_compile_args=[] if os.name == "nt" else ["-O3", "-g0", "-fno-math-errno", "-Wno-psabi"],
            optional=True,
        )
    ]
)
