"""MNIST, Fashion-MNIST and KMNIST from the network, once, into the user's cache.

A file comes from the first mirror that has it, within limits on its size and on every wait. It is accepted
only if its SHA-256 is the published one, and appears in the cache whole or not at all, even if several
processes fetch it. Where the SHA-256 of the decompressed bytes is known, it is the one that counts, since the
same data exist in several compressions. (pooch has no mirrors, limits or checksums of decompressed bytes.)
"""

import contextlib
import errno
import gzip
import hashlib
import http.client
import os
import socket
import ssl
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from common.data.messages import InputError, reason

APPLICATION = "mixtures-to-vae"
SECONDS_WITHOUT_AN_ANSWER = 15.0
SLOWEST = 1024  # bytes a second, on average over that time
WAITS = (1.0, 4.0)  # seconds before the second and the third round of all mirrors
PIECE = 2**16


@dataclass(frozen=True)
class RemoteFile:
    """A gzipped file: approximate size, size of the content, and SHA-256 of the content or of the file."""

    name: str
    size: int
    content_size: int
    content_sha256: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Source:
    """The mirrors that have a data set, and its files."""

    mirrors: tuple[str, ...]
    files: tuple[RemoteFile, ...]


# Decompressed: 60,000 and 10,000 images of 28 x 28 bytes and their labels, each file with a header.
CONTENT_SIZES = (16 + 28 * 28 * 60_000, 8 + 60_000, 16 + 28 * 28 * 10_000, 8 + 10_000)
FILE_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _source(mirrors: tuple[str, ...], sizes: tuple[int, ...], sums: tuple[str, ...], of: str) -> Source:
    described = zip(FILE_NAMES, sizes, CONTENT_SIZES, sums, strict=True)
    return Source(mirrors, tuple(RemoteFile(name, size, whole, **{of: sha}) for name, size, whole, sha in described))


SOURCES = {
    "mnist": _source(
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        (9_912_422, 28_881, 1_648_877, 4_542),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        of="content_sha256",
    ),
    "fashion-mnist": _source(
        (
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (26_421_880, 29_515, 4_422_102, 5_148),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        of="content_sha256",
    ),
    "kmnist": _source(
        ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
        (18_165_135, 29_497, 3_041_136, 5_120),
        (
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        of="sha256",  # only sums of the compressed files are published
    ),
}


def fetch(name: str) -> Path:
    """Return the folder with the verified files of ``SOURCES[name]``; download those that are missing.

    Raises InputError, which says what to put where, if a file is not available.
    """
    source, folder = SOURCES[name], cache_folder() / name
    missing = [file for file in source.files if fault(folder / file.name, file) is not None]
    if not missing:
        return folder
    what = f"{len(missing)} file(s) of {sum(file.size for file in missing) / 1e6:.1f} MB in all"
    print(f"{name}: {what} from {_host(source.mirrors[0])} (or a mirror) into {folder}", file=sys.stderr, flush=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in missing:
            _from_any_mirror(source.mirrors, file, folder)
    except _Unavailable as error:
        files = f"{', '.join(file.name for file in missing)} from {source.mirrors[0]}"
        remedy = f"get {files} and put them into {folder}, or name a folder that holds them by {{data_dir}}"
        raise InputError("data", f"could not be downloaded ({error}); {remedy}", name) from error
    except OSError as error:
        remedy = "name a folder that holds the data by {data_dir}, or another cache by XDG_CACHE_HOME"
        raise InputError("data", f"{folder} cannot be written ({reason(error)}); {remedy}", name) from error
    return folder


def cache_folder() -> Path:
    """The user's cache folder: XDG_CACHE_HOME if set, else the platform's."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the XDG specification: ignore relative paths
        return Path(named) / APPLICATION
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"]) / APPLICATION / "cache"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / APPLICATION


def fault(path: Path, file: RemoteFile) -> str | None:
    """The fault of a local copy of a file, or None if it is right to the last bit."""
    content, size = hashlib.sha256(), 0
    try:
        if file.content_sha256 is None and hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
            return "its SHA-256 is not the published one"
        with gzip.open(path) as stream:
            while size <= file.content_size and (piece := stream.read(PIECE)):
                content.update(piece)
                size += len(piece)
    except (OSError, EOFError, zlib.error) as error:
        return f"it is cut short or damaged ({reason(error)})"
    if size != file.content_size:
        return f"its content is not {file.content_size:,} bytes long"
    if file.content_sha256 not in (None, content.hexdigest()):
        return "the SHA-256 of its content is not the published one"
    return None


class _Unavailable(Exception):
    """A mirror does not have the file; ``passing`` if it may have it later."""

    def __init__(self, what: str, passing: bool = False) -> None:
        super().__init__(what)
        self.passing = passing


def _from_any_mirror(mirrors: tuple[str, ...], file: RemoteFile, folder: Path) -> None:
    """Move the verified file into ``folder``, from the first mirror that has it; _Unavailable if none has."""
    faults: dict[str, str] = {}
    left = list(mirrors)
    for wait in (0.0, *WAITS):
        time.sleep(wait if left else 0.0)
        for mirror in tuple(left):
            try:
                _from_mirror(mirror, file, folder)
                return
            except _Unavailable as error:
                faults[mirror] = f"{_host(mirror)}: {error}"
                if not error.passing:
                    left.remove(mirror)
    raise _Unavailable("; ".join(faults.values()))


def _from_mirror(mirror: str, file: RemoteFile, folder: Path) -> None:
    descriptor, partial = tempfile.mkstemp(dir=folder, prefix=f".{file.name}.", suffix=".part")
    try:
        with open(descriptor, "wb") as target:
            target.writelines(_pieces(mirror + file.name, file))
        if what := fault(Path(partial), file):
            raise _Unavailable(f"{file.name}: {what}", passing=True)
        os.replace(partial, folder / file.name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _pieces(url: str, file: RemoteFile) -> Iterator[bytes]:
    """The response of ``url``, piece by piece; _Unavailable if it is late, too long or an error."""
    request = urllib.request.Request(url, headers={"User-Agent": APPLICATION, "Accept-Encoding": "identity"})
    most = file.content_size + file.content_size // 1000 + 1024  # incompressible data grow by less
    expected = f"where about {file.size:,} are expected"
    try:
        with (
            _opener().open(request, timeout=SECONDS_WITHOUT_AN_ANSWER) as answer,
            tqdm(desc=file.name, total=file.size, unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as bar,
        ):
            announced, received, then, before = answer.length, 0, time.monotonic(), 0
            if announced is not None and announced > most:
                raise _Unavailable(f"announces {announced:,} bytes {expected}")
            while piece := answer.read1(PIECE):  # returns after one wait, so that the clock is read
                received += len(piece)
                if received > most:
                    raise _Unavailable(f"sends more than {most:,} bytes {expected}")
                if (seconds := time.monotonic() - then) > SECONDS_WITHOUT_AN_ANSWER:
                    if received - before < SLOWEST * seconds:
                        raise _Unavailable(f"sends less than {SLOWEST} bytes a second", passing=True)
                    then, before = time.monotonic(), received
                bar.update(len(piece))
                yield piece
            if announced is not None and received < announced:
                raise _Unavailable(f"sends {received:,} bytes where it announced {announced:,}", passing=True)
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code in (408, 429) or error.code >= 500
        raise _Unavailable(f"HTTP {error.code}, {reason(error)}", passing) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", error)
        raise _Unavailable(reason(cause), _may_pass(cause)) from error


def _may_pass(cause: Exception | str) -> bool:
    """Whether trying again may help: not if the machine is offline or the answer will be the same."""
    if isinstance(cause, (str, ValueError, socket.gaierror, ssl.SSLCertVerificationError)):
        return False
    return getattr(cause, "errno", None) not in (errno.ENETUNREACH, errno.EHOSTUNREACH)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only, with the environment's proxies; a redirect to file:// fails."""
    opener = urllib.request.OpenerDirector()
    for kind in ("Proxy", "Unknown", "HTTP", "HTTPS", "HTTPDefaultError", "HTTPRedirect"):
        opener.add_handler(getattr(urllib.request, f"{kind}Handler")())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    return opener


def _host(url: str) -> str:
    return urlsplit(url).netloc
