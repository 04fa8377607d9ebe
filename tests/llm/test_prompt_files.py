import pytest

from recbole_llm.llm.prompt_files import load_prompt


def test_shipped_prompts_load_by_name():
    long, short = load_prompt("hellm"), load_prompt("hellm_short")
    assert long.endswith("### Response:") and "{items}" in long
    assert len(short.split()) < 8


def test_prompt_loads_by_path(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("a {items} b\n\n")
    assert load_prompt(file) == load_prompt(str(file)) == "a {items} b"


def test_unknown_prompt_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="Did you mean 'hellm_short'.*Known: hellm, hellm_"):
        load_prompt("helm_short")
    with pytest.raises(FileNotFoundError, match="nowhere.txt does not exist"):
        load_prompt("nowhere.txt")


@pytest.mark.parametrize(("text", "count"), [("no items", 0), ("{items} and {items}", 2)])
def test_placeholder_must_appear_once(tmp_path, text, count):
    (tmp_path / "bad.txt").write_text(text)
    with pytest.raises(
        ValueError, match=f"bad.txt must hold {{items}} exactly once.*{count} times"
    ):
        load_prompt(tmp_path / "bad.txt")
