"""What is known of the published data sets stands once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import drsl_plugin
from drsl_plugin.data.catalogue import PUBLISHED, find, getting, title
from drsl_plugin.data.published_set import PublishedSet
from drsl_plugin.toolbox import toolboxes

PACKAGE = Path(drsl_plugin.__file__).parent
CATALOGUE = "data/catalogue.py"


def constants(path: Path) -> Iterator[object]:
    """Yield the texts and numbers that a file's code has, its docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield node.value


def facts(data_set: PublishedSet) -> Iterator[str | int]:
    """Yield what no other file may say of a data set: its title, folders, counts, links and how to get it."""
    yield from (data_set.title, data_set.getting, data_set.asking)
    for folder, needs in data_set.layouts.items():
        yield folder
        yield from (need for need in needs if "_" in need or "-" in need)
    yield from data_set.images.values()
    for source in (*data_set.beside, *((data_set.source,) if data_set.source else ())):
        yield from (source.url, source.name, source.digest)


@pytest.fixture(scope="module")
def code() -> dict[str, list[object]]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): list(constants(path)) for path in files}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_name_count_and_link_stands_in_one_file(name: str, code: dict[str, list[object]]) -> None:
    spelled = {each.spell_data_set(name) for each in toolboxes()}
    known = [fact for fact in facts(PUBLISHED[name]) if fact and fact not in spelled]
    assert len(known) > 3
    for file, values in code.items():
        if file != CATALOGUE:
            texts = [value for value in values if isinstance(value, str)]
            assert [fact for fact in known if isinstance(fact, int) and fact in values] == [], file
            assert [fact for fact in known if isinstance(fact, str) and any(fact in text for text in texts)] == [], file


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_spelling_of_a_toolbox_stands_in_its_folder(name: str, code: dict[str, list[object]]) -> None:
    for each in toolboxes():
        spelled = each.spell_data_set(name)
        assert find(spelled) is PUBLISHED[name]
        if spelled not in (name, PUBLISHED[name].title):
            elsewhere = [file for file, values in code.items() if spelled in values]
            assert all(file.startswith(f"{each.name}/") for file in elsewhere)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [("market1501", "Market-1501"), ("Market1501", "Market-1501"), ("MSMT17_V1", "MSMT17"), ("cuhk03-np", "CUHK03")],
)
def test_a_title_by_any_spelling(spelling: str, expected: str) -> None:
    assert title(spelling) == expected


@pytest.mark.parametrize("name", ["mine", "market1501-mine", "cuhk01", "1501", ""])
def test_what_is_not_in_the_catalogue(name: str) -> None:
    assert find(name) is None
    assert title(name) == name
    assert getting(name, "ask somebody") == "ask somebody"


@pytest.mark.parametrize("name", ["dukemtmcreid", "DukeMTMC", "dukemtmcvidreid"])
def test_what_was_withdrawn_cannot_be_got(name: str) -> None:
    assert getting(name, "") == "its authors have withdrawn it"
    assert find(name) is None
