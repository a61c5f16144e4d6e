"""The published data sets: who offers them and how, how they lie on disk, and how to tell that one is whole.

A link stands here where the owners or the toolboxes state it, a checksum where somebody publishes it:

- Market-1501. The owners' page is ``zheng-lab.cecs.anu.edu.au/Project/project_reid.html`` (formerly at
  ``www.liangzheng.org``, where Torchreid's class still points). The file on Google Drive is the one that FastReID's
  ``datasets/README.md`` and open-reid's ``reid/datasets/market1501.py`` name; the MD5 is open-reid's. Numbers of
  images: the ``readme.txt`` in the archive.
- MSMT17. Both toolboxes' classes name ``www.pkuvmc.com/publications/msmt17.html``. It is reported to be down at times
  (deep-person-reid, issue 456), and users are sent to the authors, who answer with a link (GroupSampling, issue 4).
  Numbers of images: Torchreid's and FastReID's classes.
- CUHK03. Both toolboxes' classes name ``www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html``; open-reid's names a form
  of Google's. The split into 767 and 700 identities is that of Zhong et al., CVPR 2017, in their repository
  ``zhunzhong07/person-re-ranking``, to which Torchreid's documentation sends its users. Nobody publishes checksums of
  its two files: theirs are those of the files in the commit of the repository that the link names.
- DukeMTMC-reID was withdrawn by its owners: there is no link, and none is to be added.
"""

from __future__ import annotations

from drsl_plugin.data.published_set import PublishedSet, Source
from drsl_plugin.data.whole import count_files, count_listed_files, look_into_cuhk03
from drsl_plugin.errors import SettingError, nearest

_PROTOCOL = (
    "https://raw.githubusercontent.com/zhunzhong07/person-re-ranking/278f2c704e7f033b767f4158dff4febc03a0b78a/"
    "evaluation/data/CUHK03/"
)
_DETECTED, _LABELED = "cuhk03_new_protocol_config_detected.mat", "cuhk03_new_protocol_config_labeled.mat"
_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")

PUBLISHED: dict[str, PublishedSet] = {
    "market1501": PublishedSet(
        name="market1501",
        title="Market-1501",
        folder="market1501",
        layouts={"Market-1501-v15.09.15": ("bounding_box_train", "query", "bounding_box_test")},
        linked=True,
        bare=True,
        images={("bounding_box_train",): 12_936, ("query",): 3_368, ("bounding_box_test",): 19_732},
        check=count_files,
        getting="unpack Market-1501-v15.09.15.zip, from its authors, there; "
        "`drsl demo --data-only ROOT` renders a small stand-in",
        source=Source(
            url="https://drive.google.com/uc?id=0B8-rUzbwVRk0c054eEozWG9COHM",
            name="Market-1501-v15.09.15.zip",
            digest="md5:65005ab7d12ec1c44de4eeafe813e68a",
            room=500_000_000,  # ours, generous: what the server and the archive declare is checked as well
        ),
    ),
    "msmt17": PublishedSet(
        name="msmt17",
        title="MSMT17",
        folder="msmt17",
        layouts={
            "MSMT17_V1": ("train", "test", *_LISTS),
            "MSMT17_V2": ("mask_train_v2", "mask_test_v2", *_LISTS),
        },
        linked=True,
        images={_LISTS[:2]: 32_621, _LISTS[2:3]: 11_659, _LISTS[3:]: 82_161},
        check=count_listed_files,
        getting="ask its authors for MSMT17_V1 and unpack it there",
        asking="Its owners send a link to those who ask for it: http://www.pkuvmc.com/publications/msmt17.html. Where "
        "that page is down, write to the authors of the paper, https://arxiv.org/abs/1711.08565.",
    ),
    "cuhk03": PublishedSet(
        name="cuhk03",
        title="CUHK03",
        folder="cuhk03",
        layouts={"cuhk03_release": ("cuhk-03.mat",)},
        linked=False,
        check=look_into_cuhk03,
        getting="unpack cuhk03_release.zip, from its authors, into cuhk03 there",
        asking="Its owners give a link to those who fill in their form: "
        "http://www.ee.cuhk.edu.hk/~xgwang/CUHK_identification.html; the archive is cuhk03_release.zip.",
        beside=(
            Source(
                url=_PROTOCOL + _DETECTED,
                name=_DETECTED,
                digest="sha256:ef438e7775fce6d08ef6dff84d2235bd4bed63850dbbf7025f3251e45c7fa721",
                room=76_211,
            ),
            Source(
                url=_PROTOCOL + _LABELED,
                name=_LABELED,
                digest="sha256:15627d0913d59ac61220cf311dbca8b936499265da86c0c036d3b8162a180b9c",
                room=76_221,
            ),
        ),
        note="Boxes: Torchreid takes the detected ones (cuhk03.labeled_images True: the labelled), FastReID the "
        "labelled. Say which beside every result.",
    ),
}

_WITHDRAWN = "duke"  # what the names of all data sets of DukeMTMC begin with


def published(name: str) -> PublishedSet:
    """Return the data set of a name; case, hyphens and a version after it do not matter.

    Args:
        name: such as ``market1501`` or ``Market-1501``.

    Raises:
        SettingError: no such data set, or one that was withdrawn.

    Example:
        >>> published("MSMT17_V2").name
        'msmt17'
    """
    if name.lower().startswith(_WITHDRAWN):
        needs = (
            "DukeMTMC and with it DukeMTMC-reID were withdrawn by their owners, so there is no download of it here; "
            f"there are {', '.join(PUBLISHED)}"
        )
        raise SettingError(name, "", needs)
    if (data_set := find(name)) is None:
        raise SettingError(
            "unknown data set", repr(name), f"there are {', '.join(PUBLISHED)}{nearest(name.lower(), PUBLISHED)}"
        )
    return data_set


def find(name: str) -> PublishedSet | None:
    """Return the data set that has a name in any spelling, or None where none has it.

    Example:
        >>> find("CUHK03-NP").name, find("mine")
        ('cuhk03', None)
    """
    return next((data_set for data_set in PUBLISHED.values() if data_set.is_called(name)), None)


def title(name: str) -> str:
    """Return what papers call a data set, or its name where it is not in the catalogue.

    Args:
        name: in any spelling.

    Example:
        >>> title("market1501"), title("mine")
        ('Market-1501', 'mine')
    """
    data_set = find(name)
    return name if data_set is None else data_set.title


def getting(name: str, otherwise: str) -> str:
    """Say how to get a data set, as the end of an error line.

    Args:
        name: in any spelling.
        otherwise: what to say of a data set that is not in the catalogue.

    Example:
        >>> getting("MSMT17", "")
        'ask its authors for MSMT17_V1 and unpack it there'
    """
    if name.lower().startswith(_WITHDRAWN):
        return "its authors have withdrawn it"
    data_set = find(name)
    return otherwise if data_set is None else data_set.getting
