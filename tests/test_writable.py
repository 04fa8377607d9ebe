"""Kind 7: a folder of results that cannot be written is found before anything is trained."""

import os
import re
from pathlib import Path

import pytest

from recbole_llm.cli.main import run_recbole
from recbole_llm.files import check_writable


@pytest.mark.parametrize("key", ["runs_dir", "checkpoint_dir", "cache_dir"])
@pytest.mark.parametrize("name", ["file", "file/below", "/proc/nothing/below", "link"])
def test_kind7_a_folder_that_cannot_be_written(
    key: str, name: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "file").write_text("in the way")
    (work / "link").symlink_to("nowhere/at all")
    before = sorted(work.rglob("*"))
    assert run_recbole(["--model=BPR", "--dataset=ml-100k", f"--{key}={name}"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {key}={name!r} cannot be written: ") and err.count("\n") == 1
    assert f"Name another folder by --{key}." in err
    assert sorted(work.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_kind7_a_folder_without_permission(work: Path) -> None:
    (work / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match=re.escape("runs_dir='closed/runs' cannot be written")):
        check_writable(Path("closed/runs"), "runs_dir")


@pytest.mark.parametrize("name", ["new", "new/below/it", ".", "open"])
def test_a_folder_that_can_be_written_is_left_as_it_was(work: Path, name: str) -> None:
    (work / "open").mkdir()
    check_writable(Path(name), "runs_dir")
    assert [path.name for path in work.rglob("*")] == ["open"]
