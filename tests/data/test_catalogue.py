from __future__ import annotations

import pytest

from drsl_plugin.data.catalogue import find, getting, title


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
