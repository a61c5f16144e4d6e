"""What setup.cfg cannot say: all packages without naming each, and the README for where only the README is shown."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup


def find_all_packages() -> list[str]:
    """List the folders of drsl_plugin/, and configs/, which stands beside it here and inside it in a wheel."""
    configs = (f"drsl_plugin.configs.{name}" for name in find_namespace_packages("configs"))
    return [*find_packages(include=["drsl_plugin", "drsl_plugin.*"]), "drsl_plugin.configs", *configs]


def read_description() -> str:
    """Read the README; of a link or a picture that leads to another file of the source its name is left."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[([^]]*)\]\((?!https?:|#)([^)]+)\)", r"*\1: `\2` in the source.*", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:|#)([^)]+)\)", _name_file, text)


def _name_file(link: re.Match[str]) -> str:
    name, target = link.groups()
    return f"`{target}`" if name == target else f"{name} (`{target}` in the source)"


setup(packages=find_all_packages(), long_description=read_description())
