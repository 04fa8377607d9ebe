"""What is installed is whole: settings and prompts are found outside the checkout."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import recbole_llm
from recbole_llm.yaml_io import properties_dir

CHECKOUT = Path(__file__).resolve().parent.parent
PROBE = """
import json
import recbole_llm, recbole_llm.cli, recbole_llm.quick_start
from recbole_llm.config import Config
from recbole_llm.yaml_io import find_config_file, properties_dir
from recbole_llm.registry import MODELS
for model in MODELS:
    Config(model, "ml-100k")
print(json.dumps({
    "package": recbole_llm.__file__,
    "properties": str(properties_dir()),
    "quick": str(find_config_file("properties/quick.yaml")),
}))
"""


def test_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert version("recbole-llm") == recbole_llm.__version__


def test_every_package_is_listed() -> None:
    listed = (CHECKOUT / "setup.cfg").read_text(encoding="utf-8").split("packages =")[1]
    listed = listed.split("package_dir")[0].split()
    found = {
        ".".join(path.parent.relative_to(CHECKOUT).parts)
        for path in (CHECKOUT / "recbole_llm").rglob("__init__.py")
    }
    assert set(listed) == found | {"recbole_llm.properties"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that no build folder is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    tracked = ["recbole_llm", "properties", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"]
    subprocess.run(["cp", "-r", *(str(CHECKOUT / name) for name in tracked), source], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(build, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_code_settings_and_prompts(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in properties_dir().rglob("*"):
        if path.suffix in (".yaml", ".txt"):
            assert f"recbole_llm/properties/{path.relative_to(properties_dir())}" in names
    for path in (CHECKOUT / "recbole_llm").rglob("*.py"):
        assert str(path.relative_to(CHECKOUT)) in names
    assert "recbole_llm/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "build"))]


@pytest.mark.slow
def test_installed_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, "--target", target, wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {
        "package": str(target / "recbole_llm" / "__init__.py"),
        "properties": str(target / "recbole_llm" / "properties"),
        "quick": str(target / "recbole_llm" / "properties" / "quick.yaml"),
    }
