"""The native kernel of `polyencoders.scoring`: C++17 without flags for one processor; it chooses its loops at run time.

Optional: where there is no compiler, the package installs without it and searches with numpy, which it says when it
does (`polyencoders.scoring.kernel`). The readme's links lead into the repository, so that they work on PyPI, once
pyproject.toml says where that is. Everything else about the package is in pyproject.toml.
"""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup

NATIVE = Path("src/polyencoders/scoring/native")
WINDOWS = os.name == "nt"


class Build(build_ext):
    """On Windows the compiler is clang-cl: Microsoft's has no vectors of the kind that the kernel is written in."""

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc" and (clang := _clang_cl()):
            self.compiler.initialize()  # finds Microsoft's linker, headers and libraries; only the compiler is another
            self.compiler.cc = clang
            for extension in self.extensions:
                extension.extra_link_args.append(_runtime(clang))
        super().build_extensions()


def _clang_cl():
    return shutil.which("clang-cl") or shutil.which("clang-cl", path=r"C:\Program Files\LLVM\bin")


def _runtime(clang):
    """The library that says what the processor can do: clang's driver links it, Microsoft's linker does not."""
    asked = [clang, "/clang:-print-resource-dir"]
    folder = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    return str(next(folder.glob("lib/**/clang_rt.builtins-x86_64.lib")))


def _readme():
    readme = Path("README.md").read_text(encoding="utf-8")
    source = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {}).get("Source")
    if source is None:
        return readme
    readme = re.sub(r"!\[([^\]]*)\]\((?!https?:)", rf"![\1]({source}/raw/main/", readme)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)", rf"[\1]({source}/blob/main/", readme)


setup(
    long_description=_readme(),
    long_description_content_type="text/markdown",
    ext_modules=[
        Pybind11Extension(
            "polyencoders.scoring._kernel",
            sources=sorted(map(str, NATIVE.glob("*.cpp"))),
            depends=sorted(map(str, [*NATIVE.glob("*.h"), *NATIVE.glob("*.inl")])),
            cxx_std=17,
            extra_compile_args=["/clang:-O3"] if WINDOWS else ["-O3", "-g0", "-fno-math-errno", "-Wno-psabi"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": Build},
)
