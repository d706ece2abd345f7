import ctypes
import hashlib
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gspn2bench.records.schema import Environment
from gspn2bench.system import driver, environment


class FakeLibrary:
    """libcuda with one GPU; ``codes`` makes functions fail."""

    def __init__(
        self, devices: int = 1, codes: dict[str, int] | None = None, version: int = 13_020
    ) -> None:
        self.devices = devices
        self.version = version
        self.codes = codes or {}

    def __getattr__(self, function: str) -> Any:
        def call(*arguments: Any) -> int:
            if code := self.codes.get(function):
                return code
            getattr(self, f"_{function}")(*arguments)
            return 0

        return call

    def _cuInit(self, flags: Any) -> None:  # noqa: N802
        assert flags.value == 0

    def _cuDriverGetVersion(self, out: Any) -> None:  # noqa: N802
        out._obj.value = self.version

    def _cuDeviceGetCount(self, out: Any) -> None:  # noqa: N802
        out._obj.value = self.devices

    def _cuDeviceGetName(self, out: Any, size: Any, device: Any) -> None:  # noqa: N802
        out.value = b"Some GPU"

    def _cuDeviceGetPCIBusId(self, out: Any, size: Any, device: Any) -> None:  # noqa: N802
        out.value = b"0000:01:00.0"

    def _cuDeviceTotalMem_v2(self, out: Any, device: Any) -> None:  # noqa: N802
        out._obj.value = 150_000_000_000

    def _cuDeviceGetAttribute(self, out: Any, number: Any, device: Any) -> None:  # noqa: N802
        out._obj.value = {16: 132, 38: 62_914_560}[number.value]

    def _cuGetErrorString(self, code: Any, out: Any) -> None:  # noqa: N802
        out._obj.value = b"no CUDA-capable device is detected"


def install(monkeypatch: pytest.MonkeyPatch, library: FakeLibrary | None) -> None:
    def load(name: str) -> FakeLibrary:
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        (None, "no NVIDIA driver: libcuda.so.1 cannot be loaded"),
        (
            FakeLibrary(codes={"cuInit": 100}),
            "cuInit failed with CUDA error 100 (no CUDA-capable device is detected)",
        ),
        (
            FakeLibrary(codes={"cuInit": 999, "cuGetErrorString": 1}),
            "cuInit failed with CUDA error 999",
        ),
        (FakeLibrary(devices=0), "the NVIDIA driver finds no GPU"),
    ],
)
def test_why_there_is_no_cuda(
    monkeypatch: pytest.MonkeyPatch, library: FakeLibrary | None, reason: str
) -> None:
    install(monkeypatch, library)
    # torch is asked last, so that none of these needs its import
    monkeypatch.setitem(sys.modules, "torch", None)
    assert environment.cuda_unavailable_reason() == reason
    assert environment.collect().gpu is None


@pytest.mark.parametrize(
    ("built_for", "available", "reason"),
    [
        (None, False, "torch 9.9 is built without CUDA"),
        ("14.0", False, "torch 9.9 is built for CUDA 14.0, but the driver supports up to 13.2"),
        ("13.0", True, None),
    ],
)
def test_torch_must_match_the_driver(
    monkeypatch: pytest.MonkeyPatch, built_for: str | None, available: bool, reason: str | None
) -> None:
    install(monkeypatch, FakeLibrary())
    torch = SimpleNamespace(
        __version__="9.9",
        version=SimpleNamespace(cuda=built_for),
        cuda=SimpleNamespace(is_available=lambda: available),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert environment.cuda_unavailable_reason() == reason


def test_gpu_without_nvml_is_still_described(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    install(monkeypatch, FakeLibrary())
    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    gpu = environment.collect().gpu
    assert gpu is not None
    assert gpu.model_dump() == {
        "name": "Some GPU",
        "cuda": "13.2",
        "multiprocessors": 132,
        "l2_bytes": 62_914_560,
        "memory_bytes": 150_000_000_000,
        "driver": None,
    }


def test_nvml_is_asked_about_the_same_gpu_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = pytest.importorskip("pynvml")
    calls: list[str] = []

    def by_bus(bus_id: str) -> str:
        calls.append(bus_id)
        return "handle"

    def unsupported(handle: str, clock: int) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    install(monkeypatch, FakeLibrary())
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: calls.append("init"))
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByPciBusId", by_bus)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetClockInfo", lambda handle, clock: 1980 - clock)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMaxClockInfo", unsupported)
    gpu = environment.collect().gpu
    assert calls == ["init", "0000:01:00.0", "shutdown"]
    assert gpu is not None
    assert gpu.driver == "580.1"
    assert gpu.clock_sm_mhz == 1980 - pynvml.NVML_CLOCK_SM
    assert gpu.clock_memory_mhz == 1980 - pynvml.NVML_CLOCK_MEM
    assert gpu.clock_sm_max_mhz is None


def test_the_hostname_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a-very-secret-machine"
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    monkeypatch.delenv(environment.HOST_VARIABLE, raising=False)
    kept = environment.collect()
    assert kept.host == hashlib.sha256(name.encode()).hexdigest()[:12]
    assert name not in kept.model_dump_json()
    monkeypatch.setenv(environment.HOST_VARIABLE, "bench-1")
    assert environment.host_label() == "bench-1"


def test_collect_is_json_with_the_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = environment.collect()
    assert Environment.model_validate_json(kept.model_dump_json()) == kept
    for package in ("gspn2bench", "numba", "numba-cuda", "numpy", "torch"):
        assert kept.packages[package]
    assert kept.source is not None
    assert len(kept.source.sha256 or "") == 64
    assert kept.source == environment.collect().source


ROOT = Path(__file__).resolve().parents[2]
PARTS = {
    "gspn2bench": "gspn2bench",
    "gspn2bench.kernels": "kernels",
    "gspn2bench.scenarios": "scenarios",
}


def checkout(root: Path) -> dict[str, Path]:
    return {package: root / part for package, part in PARTS.items()}


def copy_of_the_source(root: Path) -> list[Path]:
    """Copy the checkout's source to ``root``; returns its files."""
    for part in PARTS.values():
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    return sorted(file for file in root.rglob("*") if file.is_file())


def test_a_changed_byte_in_any_source_file_changes_the_hash(tmp_path: Path) -> None:
    files = copy_of_the_source(tmp_path)
    assert {".py", ".toml", ".js", ".css", ".j2"} <= {file.suffix for file in files}
    seen = {environment.source_hash(checkout(tmp_path))}
    for number, file in enumerate(files, 2):
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        seen.add(environment.source_hash(checkout(tmp_path)))
        assert len(seen) == number, file
        file.write_bytes(content)
    assert environment.source_hash(checkout(tmp_path)) in seen


def test_names_count_and_what_python_leaves_behind_does_not(tmp_path: Path) -> None:
    copy_of_the_source(tmp_path)
    before = environment.source_hash(checkout(tmp_path))
    for name in ("gspn2bench/nn/__pycache__/a.pyc", "kernels/a.pyc", "scenarios/.a.toml.swp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert environment.source_hash(checkout(tmp_path)) == before
    file = tmp_path / "gspn2bench/nn/block.py"
    file.rename(file.with_name("blocks.py"))
    assert environment.source_hash(checkout(tmp_path)) != before


def test_a_checkout_and_its_wheel_have_one_hash(tmp_path: Path) -> None:
    ours = environment.source_hash(checkout(ROOT))
    # with -P Python does not look in the working directory: this is what is installed
    code = "from gspn2bench.system import environment as e; print(e.collect().source.sha256)"
    installed = [sys.executable, "-P", "-c", code]
    done = subprocess.run(installed, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ours
    # and a bare checkout
    copy_of_the_source(tmp_path)
    bare = [sys.executable, "-c", code]
    done = subprocess.run(bare, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == ours
    # in a wheel, kernels and scenarios are folders of the package
    package = tmp_path / "gspn2bench"
    for part in ("kernels", "scenarios"):
        (tmp_path / part).rename(package / part)
    assert environment.source_hash({"gspn2bench": package}) == ours


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_commit_and_dirty_flag(tmp_path: Path) -> None:
    nowhere = (None, None)
    assert environment._git(tmp_path) == nowhere
    git(tmp_path, "init", "--quiet")
    assert environment._git(tmp_path) == nowhere  # no commit yet
    file = tmp_path / "file"
    file.write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    clean = environment._git(tmp_path)
    assert clean[0] is not None
    assert len(clean[0]) == 40
    assert clean[1] is False
    (tmp_path / "untracked").touch()
    assert environment._git(tmp_path) == clean
    file.write_text("2")
    assert environment._git(tmp_path) == (clean[0], True)
    (tmp_path / "inside").mkdir()
    assert environment._git(tmp_path / "inside") == nowhere


def test_no_git_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._git(tmp_path) == (None, None)


def test_importing_is_light() -> None:
    code = (
        "import sys\n"
        "from gspn2bench.cases import scenario\n"
        "from gspn2bench.system import doctor, environment\n"
        "heavy = {'numba', 'torch', 'pandas', 'numpy'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_driver_errors_name_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(codes={"cuDeviceGetAttribute": 1}))
    with pytest.raises(driver.DriverError, match="cuDeviceGetAttribute failed with CUDA error 1"):
        driver.Driver().attribute(0, "l2_bytes")


@pytest.mark.parametrize(
    ("library", "extra"),
    [
        (None, ""),
        (FakeLibrary(codes={"cuInit": 100}), ""),
        (FakeLibrary(version=11_080), ""),
        (FakeLibrary(version=12_040), "cu12"),
        (FakeLibrary(version=13_000), "cu13"),
        (FakeLibrary(version=14_010), "cu13"),
    ],
)
def test_the_extra_fits_the_driver(
    monkeypatch: pytest.MonkeyPatch, library: FakeLibrary | None, extra: str
) -> None:
    install(monkeypatch, library)
    assert driver.cuda_extra() == extra
