"""What pyproject.toml cannot say: ``recipes/`` at the top is carried in the wheel as ``loratools/recipes``."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["loratools*"]), "loratools.recipes"],
    package_dir={"loratools.recipes": "recipes"},
)
