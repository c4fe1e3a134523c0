"""A stand-in for ComfyUI's module of that name: where models of each kind lie."""

from __future__ import annotations

folder_names_and_paths: dict[str, list[str]] = {}


def get_folder_paths(folder_name: str) -> list[str]:
    """The folders of a kind of models; KeyError for a kind that there is not."""
    return folder_names_and_paths[folder_name][:]
