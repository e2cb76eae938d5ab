"""Builds the native kernels, a plain shared library that is loaded with ctypes; everything else is in pyproject.toml.

The library is optional: where it cannot be built the package installs all the same, and serves on its reference path.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

NATIVE = Path("server/kernels/native")
COMMON = ["-O3", "-std=c++17", "-g0", "-fvisibility=hidden", "-ffp-contract=off"]
# What a file may use beyond the least processor is checked at run time before anything in it is called.
X86_FILES = {
    "avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    "avx512.cpp": [
        *("-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"),
        *("-Wno-uninitialized", "-Wno-maybe-uninitialized"),  # of GCC 12's own header
    ],
}
OPENMP = ["-fopenmp"]


class BuildNative(build_ext):
    """Compiles each file for its own instruction set."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"  # no Python in it, so none in its name

    def build_extension(self, ext: Extension) -> None:
        openmp = OPENMP if self._compiles(OPENMP) else []
        x86 = platform.machine() in {"x86_64", "AMD64"}
        objects = []
        for source in ext.sources:
            flags = X86_FILES.get(Path(source).name, [])
            objects += self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                debug=self.debug,
                depends=ext.depends,
                extra_postargs=[*COMMON, *openmp, *(flags if x86 else [])],
            )
        target = self.get_ext_fullpath(ext.name)
        self.compiler.link_shared_object(objects, target, extra_postargs=openmp, target_lang="c++")

    def _compiles(self, flags: list[str]) -> bool:
        probe = Path(self.build_temp) / "probe.cpp"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n")
        try:
            self.compiler.compile([str(probe)], output_dir=str(Path(self.build_temp)), extra_postargs=flags)
        except CCompilerError:
            return False
        return True


setup(
    ext_modules=[
        Extension(
            "server.kernels.native_kernels",
            sources=sorted(str(path) for path in NATIVE.glob("*.cpp")),
            depends=sorted(str(path) for path in NATIVE.glob("*.h")),
            language="c++",
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildNative},
)
