"""The kernels touch nothing that is not theirs and do nothing undefined, in every instruction set of this machine."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "server" / "kernels" / "native"
DRIVER = Path(__file__).with_name("sanitised_driver.cpp")
FLAGS = {"avx2.cpp": ["-mavx2", "-mfma", "-mf16c"]}
FLAGS["avx512.cpp"] = [*FLAGS["avx2.cpp"], *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni"))]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the driver with")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the driver is built for x86-64")
def test_the_driver_runs_clean_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    common = ["-O1", "-g", "-std=c++17", "-w", "-fopenmp", f"-I{NATIVE}"]
    common += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [*sorted(NATIVE.glob("*.cpp")), DRIVER]
    objects = [tmp_path / f"{source.stem}.o" for source in sources]
    builds = [
        subprocess.Popen(["g++", *common, *FLAGS.get(source.name, []), "-c", str(source), "-o", str(target)])
        for source, target in zip(sources, objects, strict=True)
    ]
    assert [build.wait() for build in builds] == [0] * len(builds)
    driver = tmp_path / "driver"
    subprocess.run(["g++", *common, *map(str, objects), "-o", str(driver)], check=True)
    finished = subprocess.run([str(driver)], capture_output=True, text=True, timeout=200, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert finished.stdout.endswith("clean\n")
