"""Only what lies below the opened folders has an id, and an id of it leads nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loratools.errors import FileError, HeldError, StudioError
from loratools.studio.roots import STATE, Roots, held, plain_name
from loratools.studio.token import Secrets

BAD_NAMES = ["", " ", ".", "..", "../a", "a/b", "a\\b", "/etc/passwd", "C:\\a", "a:b", ".hidden", "nul", "COM1.x"]
BAD_NAMES += ["a.", "a\0b", "a\nb", "a?", "x" * 200]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "open"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/a.png").write_bytes(b"a")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "open-not").mkdir()
    (tmp_path / "open-not/b.png").write_bytes(b"b")
    return folder


def test_an_id_leads_to_its_path_and_says_nothing_of_it(root: Path) -> None:
    roots = Roots([root], Secrets())
    path = root / "inner/a.png"
    made = roots.id_of(path)
    assert roots.path(made) == path and made == roots.id_of(path)
    assert len(made) == 22 and "a.png" not in made
    assert roots.shown(path) == "inner/a.png"
    assert Roots([root], Secrets()).id_of(path) != made


@pytest.mark.parametrize("outside", ["../secret.png", "../open-not/b.png", "inner/../../secret.png", ".."])
def test_what_lies_outside_has_no_id(root: Path, outside: str) -> None:
    with pytest.raises(StudioError, match="outside"):
        Roots([root], Secrets()).id_of(root / outside)


@pytest.mark.parametrize("guess", ["", "x", "../secret.png", "/etc/passwd", "%2e%2e", "A" * 22])
def test_ids_that_were_not_made_here_lead_nowhere(root: Path, guess: str) -> None:
    with pytest.raises(StudioError) as unknown:
        Roots([root], Secrets()).path(guess)
    assert unknown.value.status == 404


def test_a_symlink_to_somewhere_outside_is_refused_also_when_it_comes_later(root: Path) -> None:
    roots = Roots([root], Secrets())
    link = root / "link.png"
    link.symlink_to(root.parent / "secret.png")
    with pytest.raises(StudioError, match="outside"):
        roots.id_of(link)
    made = roots.id_of(root / "inner/a.png")
    (root / "inner/a.png").unlink()
    (root / "inner/a.png").symlink_to(root.parent / "secret.png")
    with pytest.raises(StudioError, match="outside"):
        roots.path(made)


def test_a_folder_that_became_a_symlink_outside_takes_its_files_ids_with_it(root: Path) -> None:
    roots = Roots([root], Secrets())
    made = roots.id_of(root / "inner/a.png")
    (root / "inner").rename(root / "moved")
    (root / "inner").symlink_to(root.parent / "open-not")
    (root.parent / "open-not/a.png").write_bytes(b"other")
    with pytest.raises(StudioError, match="outside"):
        roots.path(made)


def test_a_symlink_inside_and_a_root_that_is_one_are_fine(root: Path, tmp_path: Path) -> None:
    (root / "again.png").symlink_to(root / "inner/a.png")
    (tmp_path / "other").symlink_to(root)
    roots = Roots([tmp_path / "other", root], Secrets())
    assert len(roots.roots) == 1
    assert roots.path(roots.id_of(root / "again.png")).read_bytes() == b"a"


def test_a_circle_of_symlinks_is_outside(root: Path) -> None:
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    with pytest.raises(StudioError):
        Roots([root], Secrets()).id_of(root / "one")


def test_a_changed_picture_has_another_id_and_the_old_one_shows_nothing(root: Path) -> None:
    roots = Roots([root], Secrets())
    path = root / "inner/a.png"
    before = roots.picture_id(path)
    assert roots.picture(before) == path
    path.write_bytes(b"another picture")
    with pytest.raises(StudioError):
        roots.picture(before)
    after = roots.picture_id(path)
    assert after != before and roots.picture(after) == path
    for number in range(50):
        path.write_bytes(b"x" * number)
        roots.picture_id(path)
    assert len(roots._paths) == 1


@pytest.mark.parametrize("name", ["style", "my style 2", "стиль", "样式", "a.b"])
def test_names_that_every_system_can_hold(name: str) -> None:
    assert plain_name(name, ".safetensors") == f"{name}.safetensors"
    assert plain_name(f"{name}.safetensors", ".safetensors") == f"{name}.safetensors"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_paths_or_that_a_system_refuses(name: str) -> None:
    with pytest.raises(StudioError):
        plain_name(name, ".safetensors")


def test_a_second_server_on_a_folder_is_refused_and_so_is_one_inside(root: Path) -> None:
    first, second, inside = (Roots([path], Secrets()) for path in (root, root, root / "inner"))
    with held(first):
        for other in (second, inside):
            with pytest.raises(HeldError, match="another loratools studio"), held(other):
                pass
    with held(second):
        pass
    assert (root / STATE).is_dir()


def test_a_second_server_on_a_folder_around_one_that_is_open_is_refused(root: Path) -> None:
    inner, around = Roots([root / "inner"], Secrets()), Roots([root], Secrets())
    with held(inner), pytest.raises(HeldError, match=r"has .*inner open \(it lies in"), held(around):
        pass
    with held(Roots([root, root / "inner"], Secrets())):  # one server may have both
        pass


@pytest.mark.parametrize("what", ["missing", "inner/a.png"])
def test_what_is_no_folder_cannot_be_opened(root: Path, what: str) -> None:
    with pytest.raises(FileError, match="give folders"):
        Roots([root / what], Secrets())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_one_sentence(root: Path) -> None:
    root.chmod(0o500)
    with pytest.raises(FileError), held(Roots([root], Secrets())):
        pass
