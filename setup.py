"""The packages: all folders of drsl_plugin/, and configs/, which stands beside it here and inside it in a wheel."""

from setuptools import find_namespace_packages, find_packages, setup

configs = ["drsl_plugin.configs", *(f"drsl_plugin.configs.{name}" for name in find_namespace_packages("configs"))]
setup(packages=[*find_packages(include=["drsl_plugin", "drsl_plugin.*"]), *configs])
