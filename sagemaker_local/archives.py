"""Archives of models and sources: packed from a container's folder, unpacked into one.

Strangers made them: what is neither file nor folder, or would lie elsewhere, is refused.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO


class ArchiveError(ValueError):
    """An archive, or a folder to be packed, holds what it must not hold; the text names it."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a tar.gz into a folder.

    Raises:
        ArchiveError: It is no tar.gz, or a member is a link or a device or lies elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _refusals(), tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            _extract(tar, member, folder)


def receive(stream: IO[bytes], folder: Path) -> None:
    """Unpacks a tar of a folder that a container leaves, with its links, which pack() judges.

    Raises:
        ArchiveError: It is damaged, or holds what is neither file, folder nor link.
    """
    links: list[tarfile.TarInfo] = []
    with _refusals(), tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            if member.issym():
                links.append(member)
            elif member.islnk():
                # A second name of a file that has come before.
                shutil.copyfile(_place(member.linkname, folder), _place(member.name, folder))
            else:
                _extract(tar, member, folder)
        # After all files: none is written by way of a link.
        for link in links:
            _place(link.name, folder).symlink_to(link.linkname)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ArchiveError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise ArchiveError(f"it is no tar.gz archive, or a damaged one ({error})") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise ArchiveError("one of its members is both a file and a folder") from error


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    target = _place(member.name, folder)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        raise ArchiveError(f"its member {member.name} is neither a file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _place(name: str, folder: Path) -> Path:
    path = PurePosixPath(name)
    place = folder / path
    # By way of a link that is there already, it would lie elsewhere, too.
    inside = place.resolve().is_relative_to(folder.resolve())
    if path.is_absolute() or ".." in path.parts or not inside:
        raise ArchiveError(f"its member {name} would lie outside of the folder")
    return place


def pack(folders: Sequence[Path], archive: Path) -> None:
    """Packs what lies in folders into one tar.gz; of files of one name the first folder's counts.

    Raises:
        ArchiveError: Something is neither a file nor a folder, or a link to what is elsewhere.
    """
    names: set[str] = set()
    # Links are followed: archives that hold links are refused.
    with tarfile.open(archive, "w:gz", compresslevel=1, dereference=True) as tar:
        for folder in folders:
            for path in files(folder):
                name = path.relative_to(folder).as_posix()
                if name not in names:
                    names.add(name)
                    tar.add(path, name, recursive=False, filter=_of_nobody)


def is_empty(folders: Sequence[Path]) -> bool:
    """Whether there is nothing to pack."""
    return not any(path for folder in folders for path in folder.glob("*"))


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def files(folder: Path) -> list[Path]:
    """Files and folders under a folder, in order; a link counts as the file that it names.

    A link to another folder in it is left out: what is in that is there by its own name.

    Raises:
        ArchiveError: Something is neither a file nor a folder, or a link to what is elsewhere.
    """
    paths: list[Path] = []
    root = folder.resolve()
    for parent, folders, others in os.walk(folder):
        for name in [*folders, *others]:
            path = Path(parent, name)
            real = path.resolve()
            inside = real.is_relative_to(root)
            if path.is_symlink() and inside and real.is_dir():
                continue
            plain = real.is_file() if path.is_symlink() else path.is_file() or path.is_dir()
            if not plain or not inside:
                raise ArchiveError(
                    f"{path.relative_to(folder)} is neither a file nor a folder, or a link to "
                    "what lies elsewhere"
                )
            paths.append(path)
    return sorted(paths)
