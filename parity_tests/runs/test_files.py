"""Files are never code, and a damaged one has two outcomes: a right answer, or one line that names it.

Valid files of every format the project reads are mutated (cut, flipped, spliced, their headers edited) and
read again; and files made to harm, whose headers announce what is not there, are refused before memory is
taken.
"""

import ast
import gzip
import io
import json
import os
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.data import datasets, lines, readers
from common.runs import checkpoint
from common.runs.folder import read_config, read_metrics
from common.runs.options import VAEOptions, resumed
from parity_tests.conftest import idx
from parity_tests.support.scripts import GMM, ROOT, VAE, contents, run, run_python, written


def read_table(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    return readers.read_text_table(path, columns="1-")[:2]


def npy(array: np.ndarray) -> bytes:
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def npz(array: np.ndarray) -> bytes:
    np.savez_compressed(file := io.BytesIO(), x=array)
    return file.getvalue()


# --- Headers of tables ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("1,2\n3,4\n", (), [[1, 2], [3, 4]]),
        ("2019,2020\n3,4\n", (), [[2019, 2020], [3, 4]]),  # nothing tells these years from data
        ('"2019","2020"\n3,4\n', ("2019", "2020"), [[3, 4]]),  # as R and csv.QUOTE_NONNUMERIC write them
        ('"1","2"\n"3","4"\n', (), [[1, 2], [3, 4]]),  # all of it is quoted: data
        ('"1","2"\n', (), [[1, 2]]),
        (",a,b\n0,3,4\n", ("", "a", "b"), [[0, 3, 4]]),  # pandas with its index
        ("NA,b\n3,4\n", ("NA", "b"), [[3, 4]]),
        ("NA,4\n3,\n", (), [[np.nan, 4], [3, np.nan]]),
        ('"a, b",c\n3,4\n', ("a, b", "c"), [[3, 4]]),
        ('"two\nlines",c\n3,4\n', ("two\nlines", "c"), [[3, 4]]),
        (" 1 , -2e3 \n inf,NaN", (), [[1, -2000], [np.inf, np.nan]]),
    ],
)
def test_what_a_header_is(tmp_path: Path, text: str, header: tuple[str, ...], rows: list[list[float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if "2019" in header:
            warnings.simplefilter("ignore")
        x, names = read_table(written(tmp_path / "t.csv", text.encode()))
    assert names == header
    np.testing.assert_array_equal(x, rows)


def test_a_header_with_numbers_among_its_names_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", b"year,2019,2020\n1,2,3\n")
    with pytest.warns(UserWarning, match=r"t\.csv: line 1 is taken for a header, year,2019,2020"):
        x, names = read_table(path)
    assert (names, x.tolist()) == (("year", "2019", "2020"), [[1, 2, 3]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n1_000,2\n", "line 3, column 1 is '1_000'"),
        ("1,2\n" + "x" * 100_000 + ",2\n", r"line 2, column 1 is 'x+\.\.\.;"),
        ("1,2\n" + "x" * 200_000 + ",2\n", "field larger than field limit"),
        ("1,2\n3,\0\n", r"line 2, column 2 is '\\x00'"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_table(written(tmp_path / "t.csv", text.encode()))
    assert "t.csv" in str(error.value)
    assert len(str(error.value)) < 400


# --- Digits as tables -----------------------------------------------------------------------------


def digits_table(path: Path, labels_last: bool, header: bool) -> np.ndarray:
    """Images of 6 x 6 bytes with their label beside them: last and bare, or first and named."""
    rng = np.random.RandomState(0)
    images, labels = rng.randint(0, 256, (60, 36)), np.arange(60) % 10
    table = np.column_stack([images, labels] if labels_last else [labels, images])
    lines = [",".join(map(str, row)) for row in table.tolist()]
    if header:
        lines.insert(0, ",".join(["label", *(f"pixel{i}" for i in range(36))]))
    written(path, gzip.compress("\n".join(lines).encode()))
    return images / 255


@pytest.mark.parametrize(
    ("last", "header", "column"), [(True, False, "-1"), (False, True, "label"), (False, True, "1")]
)
def test_images_with_their_label_in_a_table(tmp_path: Path, last: bool, header: bool, column: str) -> None:
    images = digits_table(tmp_path / "digits.csv.gz", last, header)
    data = datasets.load(str(tmp_path / "digits.csv.gz"), label_column=column, pixel_max=255)
    np.testing.assert_array_equal(data.x, images)
    np.testing.assert_array_equal(data.labels, np.arange(60) % 10)
    assert data.image_shape == (6, 6)
    assert data.feature_names == (tuple(f"pixel{i}" for i in range(36)) if header else ())
    arguments = f"--label-column {column} --pixel-max 255 --steps 2 --hidden-dim 8 --data {tmp_path}/digits.csv.gz"
    assert run(VAE["torch"], arguments, tmp_path / "run") == 0


def test_columns_that_hold_no_labels(tmp_path: Path) -> None:
    path = str(written(tmp_path / "t.csv", b"a,b\n1,2.5\n3,4\n"))
    for column in ("0", "3", "-3", "9" * 30, "", "1.0", "٣"):
        with pytest.raises(ValueError, match=r"label_column=.* is not one of the 2 column\(s\) of .*t\.csv"):
            datasets.load(path, label_column=column)
    with pytest.raises(ValueError, match=r"t\.csv: the labels are not whole numbers; .* choose another"):
        datasets.load(path, label_column="b")
    with pytest.raises(ValueError, match="pixel_max apply to files only"):
        datasets.load("digits", pixel_max=16)


# --- Damaged files --------------------------------------------------------------------------------

TABLE = np.array([[1.5, -2.0, 3e5], [0.1, np.nan, 7.0], [4.0, 5.0, 6.0]])
BYTES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
CONFIG = asdict(VAEOptions(out="run")) | {"framework": "pytorch_impl", "versions": {"numpy": "2"}}
METRICS = [{"step": i, "loss": 1 / i, "reconstruction": -1.0, "kl": 0.5, "seconds": 0.1} for i in range(1, 5)]


def read_options(path: Path) -> VAEOptions:
    return resumed(VAEOptions(resume=str(path.parent)), set(), read_config(path.parent))


def checkpoint_bytes(tmp: Path) -> bytes:
    checkpoint.save(tmp / "c", {"a.weight": np.arange(6.0).reshape(2, 3), "a.bias": np.float32([1, 2])}, 7, {"L": 3})
    return (tmp / "c").read_bytes()


Format = tuple[str, Callable[[Path], Any], Callable[[Path], bytes]]
FORMATS: dict[str, Format] = {
    "csv": ("t.csv", read_table, lambda _: b"a,b,c\n1.5,-2,3e5\n0.1,NA,7\n4,5,6\n"),
    "csv.gz": ("t.csv.gz", read_table, lambda _: gzip.compress(b"a,b,c\n1.5,-2,3e5\n0.1,NA,7\n4,5,6\n")),
    "npy": ("t.npy", readers.read_npy, lambda _: npy(TABLE)),
    "npz": ("t.npz", readers.read_npz, lambda _: npz(TABLE)),
    "idx": ("t-idx3-ubyte", readers.read_idx, lambda _: idx(BYTES)),
    "idx.gz": ("t-idx3-ubyte.gz", readers.read_idx, lambda _: gzip.compress(idx(BYTES))),
    "checkpoint": ("checkpoint.safetensors", checkpoint.load, checkpoint_bytes),
    "config": ("config.json", read_options, lambda _: json.dumps(CONFIG, indent=2).encode()),
    "metrics": (
        "metrics.jsonl",
        lambda path: read_metrics(path.parent),
        lambda _: "".join(json.dumps(row) + "\n" for row in METRICS).encode(),
    ),
}
TOKENS = [  # what parsers trip over
    *b'\0 \n \r " , NaN 1e999 null 1_0 True \xff \xef\xbb\xbf \\u0000 \x93NUMPY PK\x03\x04'.split(b" "),
    *b"'O' '|O' '<f4' '>f8' 'V8'".split(b" "),
    *(b"(3, 3)", b"(1000000000, 1000000000)", b"(-1, -1)", b"BF16", b"I64", b"9" * 400, b"9" * 5000),
    *(b"[" * 3000, b'{"a":' * 2000, b"(" * 300, b"-" * 3000),
    *((2**n - 1).to_bytes(n // 8, "little") for n in (16, 32, 64)),
]


@st.composite
def mutations(draw: st.DrawFn) -> list[tuple[str, float, bytes | int]]:
    """What is done to a file, at places given as shares of its length."""
    place = st.floats(0, 1, exclude_max=True)
    one = st.one_of(
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("set"), place, st.integers(0, 255)),
        st.tuples(st.just("delete"), place, st.integers(1, 40)),
        st.tuples(st.just("repeat"), place, st.integers(1, 40)),
        st.tuples(st.just("insert"), place, st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("overwrite"), place, st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=9)),
    )
    near_the_start = st.tuples(one, st.floats(0, 1)).map(
        lambda pair: (pair[0][0], pair[0][1] * pair[1] ** 3, pair[0][2])
    )
    return draw(st.lists(one | near_the_start, min_size=1, max_size=4))


def mutated(content: bytes, changes: list[tuple[str, float, bytes | int]]) -> bytes:
    for what, share, value in changes:
        at = int(share * len(content))
        before, after = content[:at], content[at:]
        if what == "cut":
            content = before
        elif what in ("flip", "set") and after:
            content = before + bytes([after[0] ^ 1 << value if what == "flip" else value]) + after[1:]
        elif what == "delete":
            content = before + after[value:]
        elif what == "repeat":
            content = before + after[:value] * 2 + after[value:]
        elif what in ("insert", "overwrite"):
            content = before + value + (after if what == "insert" else after[len(value) :])
    return content


def outcome(reader: Callable[[Path], Any], path: Path) -> tuple[Any, str | None]:
    """The answer or, without one, what was said."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return reader(path), None
    except ValueError as error:
        return None, str(error)


def check_outcome(reader: Callable[[Path], Any], path: Path) -> Any:
    """Read the file: an answer, or one line that names it; quickly, and in little memory."""
    tracemalloc.reset_peak()
    before, since = tracemalloc.get_traced_memory()[0], time.perf_counter()
    answer, message = outcome(reader, path)
    assert time.perf_counter() - since < 5
    assert tracemalloc.get_traced_memory()[1] - before < 32e6, "memory was taken for what a small file announces"
    if message is not None:
        named = str(path.parent) in message or (path.name == "config.json" and message.startswith("--"))
        assert named, message
        assert message.isprintable(), message
        assert len(message) < 1000, message
    return answer


def check_answer(kind: str, answer: Any) -> None:
    """What every right answer has, whatever the file said."""
    if kind in ("csv", "csv.gz", "npy"):
        x, header = (answer, ()) if kind == "npy" else answer
        assert x.ndim in ((2, 3) if kind == "npy" else (2,))
        assert x.size > 0
        assert x.dtype.kind == "f"
        assert len(header) in (0, x.shape[1])
    elif kind == "npz":
        assert all(isinstance(array, np.ndarray) for array in answer.values())
    elif kind in ("idx", "idx.gz"):
        assert answer.dtype == np.uint8
        assert 1 <= answer.ndim <= 4
    elif kind == "checkpoint":
        arrays, *others = answer
        assert others == [7, {"L": 3}]  # what has changed is refused
        assert np.array_equal(arrays["a.weight"], np.arange(6.0).reshape(2, 3))
    elif kind == "metrics":
        assert all(np.isfinite(row["loss"]) and row["step"] > 0 for row in answer)


@pytest.mark.parametrize("examples", [25, pytest.param(2_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_are_read_right_or_refused_in_one_line(tmp_path: Path, kind: str, examples: int) -> None:
    name, reader, valid = FORMATS[kind]
    content, path = valid(tmp_path), tmp_path / name
    answers = []

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=examples < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations())
    def holds(changes: list[tuple[str, float, bytes | int]]) -> None:
        changed = mutated(content, changes)
        path.write_bytes(changed)
        answer = check_outcome(reader, path)
        answers.append(answer is None)
        if answer is not None:
            check_answer(kind, answer)

    tracemalloc.start()
    try:
        path.write_bytes(content)
        check_answer(kind, check_outcome(reader, path))  # imports and caches are paid for
        holds()
    finally:
        tracemalloc.stop()
    assert any(answers), "no mutation did harm: then they are too mild"


@pytest.mark.parametrize("kind", ["idx.gz", "csv.gz"])
def test_every_bit_of_a_gzipped_file_counts(tmp_path: Path, kind: str) -> None:
    """Its CRC makes a flip either harmless (in the parts of the header that mean nothing) or noticed."""
    name, reader, valid = FORMATS[kind]
    content = valid(tmp_path)
    expected = reader(written(tmp_path / name, content))
    for at in range(8 * len(content)):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        found, message = outcome(reader, written(tmp_path / name, bytes(changed)))
        if message is None:
            np.testing.assert_equal(found, expected)
        assert message is None or name in message


# --- Files made to harm ---------------------------------------------------------------------------


def npy_announcing(shape: str, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)


def zipped(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as archive:
        archive.writestr("x.npy", content)
    return file.getvalue()


def safetensors_announcing(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + bytes(64)


def zeros(size: int) -> bytes:
    """A gzip bomb: it holds a thousand times its own size."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9, mtime=0) as stream:
        for _ in range(size // 2**20):
            stream.write(bytes(2**20))
    return file.getvalue()


HEAD = bytes([0, 0, 8, 3])
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "idx of 2^96 bytes": ("idx", lambda: HEAD + b"\xff" * 96, "cannot hold"),
    "idx of 1 GB": ("idx", lambda: HEAD + np.array([1000, 1000, 1000], ">u4").tobytes() + bytes(90), "cannot hold"),
    "idx of no bytes": ("idx", lambda: HEAD + np.array([2**31, 2**31, 0], ">u4").tobytes(), "cannot hold"),
    "idx of 255 dimensions": ("idx", lambda: b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x", "not an IDX file"),
    "idx.gz of 1 GB": ("idx.gz", lambda: gzip.compress(HEAD + b"\0\0\3\xe8" * 3 + bytes(90)), "cannot hold"),
    "idx.gz of 2^96 bytes": ("idx.gz", lambda: gzip.compress(HEAD + b"\xff" * 96), "cannot hold"),
    "idx.gz with a bomb": ("idx.gz", lambda: zeros(2**26), "not an IDX file"),
    "csv.gz with a bomb": ("csv.gz", lambda: zeros(2**26), "line 1 is longer than|field larger than"),
    "csv of one line": ("csv", lambda: b"1," * 2**20, "line 1 is longer than 1,048,576 characters"),
    "csv of one quoted cell": ("csv", lambda: b'"' + b"1\n" * 2**20, "field larger than|longer than"),
    "csv of one quoted row": ("csv", lambda: b'"1\n",' * 2**19, "longer than 1,048,576"),
    "npy of 8 GB": ("npy", lambda: npy_announcing("(1000, 1000000)"), "cannot be read as .npy"),
    "npy of 10^40 numbers": ("npy", lambda: npy_announcing(f"({10**20}, {10**20})"), "cannot be read as .npy"),
    "npy of negative size": ("npy", lambda: npy_announcing("(-5, 1)"), "cannot be read as .npy|is needed"),
    "npy of objects": ("npy", lambda: npy_announcing("(2, 2)", "'|O'"), "cannot be read as .npy"),
    "npy of deep nesting": ("npy", lambda: npy_announcing("(" * 5000 + ")" * 5000), "cannot be read as .npy"),
    "npz of 800 GB": ("npz", lambda: zipped(npy_announcing("(1000000, 100000)")), r"it announces \(1000000, 100000\)"),
    "npz with a bomb": ("npz", lambda: zipped(bytes(2**25), zipfile.ZIP_LZMA), "announces 33,554,432 bytes"),
    "npy that is a pickle": ("npy", lambda: b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", "does not start like one"),
    "npy that is an archive": ("npy", lambda: b"PK\x05\x06" + bytes(18), "does not start like one"),
    "checkpoint with a header of 2^63 bytes": ("checkpoint", lambda: safetensors_announcing(b"{}", 2**63), "header"),
    "checkpoint with a header of 90 MB": ("checkpoint", lambda: safetensors_announcing(b"{}", 9 * 10**7), "header"),
    "checkpoint of 8 GB": (
        "checkpoint",
        lambda: safetensors_announcing(b'{"a":{"dtype":"F64","shape":[1000000000],"data_offsets":[0,8000000000]}}'),
        "not a whole checkpoint",
    ),
    "checkpoint of deep nesting": (
        "checkpoint",
        lambda: safetensors_announcing(json.dumps({"__metadata__": {"about": "[" * 200_000}}).encode()),
        "not a whole checkpoint",
    ),
    "config of deep nesting": ("config", lambda: b"[" * 500_000, "config.json cannot be read"),
    "config of 100 MB": ("config", lambda: b'{"seed": "' + b"1" * 10**8 + b'"}', "is larger than 1,048,576 bytes"),
    "config that is a list": ("config", lambda: b"[1, 2]", "not an object"),
    "metrics of deep nesting": ("metrics", lambda: b'{"a":' * 10**5 + b"\n", "line 1 cannot be read as JSON"),
    "metrics of one line": ("metrics", lambda: b" " * 10**8, "line 1 is longer than"),
    "metrics with NaN": ("metrics", lambda: b'{"step": 1, "loss": NaN}\n', "other than finite numbers"),
    "metrics without loss": ("metrics", lambda: b'{"step": 1}\n', "lacks step or loss"),
    "metrics of a huge number": ("metrics", lambda: b'{"step": 1, "loss": 1' + b"0" * 400 + b"}\n", "finite"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_files_made_to_harm_are_refused_before_memory_is_taken(tmp_path: Path, case: str) -> None:
    kind, make, message = HOSTILE[case]
    name, reader, _ = FORMATS[kind]
    path = written(tmp_path / name, make())
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            reader(path)
        answer = check_outcome(reader, path)
    finally:
        tracemalloc.stop()
    assert answer is None


def test_what_a_small_file_may_hold_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, reader, content in (
        ("t.csv.gz", read_table, gzip.compress(b"1,2,3\n" * 10_000)),
        ("t.gz", readers.read_idx, gzip.compress(idx(np.zeros((10, 70, 70), np.uint8)))),
    ):
        reader(written(tmp_path / name, content))
        monkeypatch.setattr(lines, "LARGEST_TABLE", 2**15)
        monkeypatch.setattr(readers, "LARGEST_IDX", 2**15)
        with pytest.raises(ValueError, match=f"{name}: (holds more than 32,768 bytes|announces .* cannot hold)"):
            reader(tmp_path / name)
        monkeypatch.undo()


def test_hostile_files_within_a_limit_that_the_system_sets(tmp_path: Path) -> None:
    """All of them again where no more than 600 MB of addresses can be had, native code included."""
    files = [(HOSTILE[case][0], written(tmp_path / f"{i}", HOSTILE[case][1]())) for i, case in enumerate(HOSTILE)]
    lines = [f"{kind}\t{path}\t{tmp_path / str(i)}.{kind}" for i, (kind, path) in enumerate(files)]
    (tmp_path / "list").write_text("\n".join(lines))
    code = (
        "import os, resource, sys\nfrom pathlib import Path\n"
        "from common.data import readers\nfrom common.runs import checkpoint\n"
        "from common.runs.folder import read_config, read_metrics\n"
        "READ = dict.fromkeys(('csv', 'csv.gz'), readers.read_text_table) | {'checkpoint': checkpoint.load}\n"
        "READ |= dict.fromkeys(('idx', 'idx.gz'), readers.read_idx)\n"
        "READ |= {'npy': readers.read_npy, 'npz': readers.read_npz}\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 10**6,) * 2)\n"
        "for line in Path(sys.argv[1]).read_text().splitlines():\n"
        "    kind, made, name = line.split('\\t')\n"
        "    if kind in ('config', 'metrics'):\n"
        "        name = Path(name).with_suffix('')\n        folder = Path(f'{name}.run')\n        folder.mkdir()\n"
        "        os.rename(made, folder / ('config.json' if kind == 'config' else 'metrics.jsonl'))\n"
        "        read, name = (read_config if kind == 'config' else read_metrics), folder\n"
        "    else:\n        os.rename(made, name)\n        read = READ[kind]\n"
        "    try:\n        read(Path(name))\n    except ValueError:\n        print('refused')\n"
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    result = run_python(code, str(tmp_path / "list"), env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["refused"] * len(HOSTILE)


def test_nothing_but_files_is_read(tmp_path: Path) -> None:
    """A pipe would wait for ever."""
    for name, reader, _ in FORMATS.values():
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=r"no such file|cannot be read|not a whole"):
            reader(tmp_path / name)


# --- A run's folder, through the scripts ----------------------------------------------------------


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    assert run(GMM["torch"], "--steps 3 --init random", out) == 0
    return out


def damage_arrays(change: Callable[[dict[str, np.ndarray]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        arrays, step, architecture = checkpoint.load(folder / "checkpoint.safetensors")
        change(arrays)
        checkpoint.save(folder / "checkpoint.safetensors", arrays, step, architecture)

    return damage


def damage_config(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | values))

    return damage


def damage_metrics(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "metrics.jsonl").write_text(text) and None


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN in a mean": (damage_arrays(lambda a: a["means"].__setitem__(0, np.nan)), "'means' holds NaN or infinity"),
    "another shape": (damage_arrays(lambda a: a.update(means=a["means"].reshape(1, 4))), "means has shape (1, 4)"),
    "another tensor": (damage_arrays(lambda a: a.update(more=np.ones(2))), "names differ in ['more']"),
    "a tensor less": (damage_arrays(lambda a: a.pop("means")), "names differ in ['means']"),
    "words for a number": (damage_config(components="2"), "config.json has components = '2'"),
    "a list for a path": (damage_config(data_dir=["x"]), "config.json has data_dir = ['x']"),
    "an unknown choice": (damage_config(precision="half"), "config.json has precision = 'half'"),
    "true for a number": (damage_config(seed=True), "config.json has seed = True"),
    "a huge number": (damage_config(tol=10**400), "must be below 2^64"),
    "metrics of another kind": (
        damage_metrics('{"step": 1, "loss": 2.0, "log_likelihood": -544.0}\n{"step": 2, "loss": 2.0}\n'),
        "metrics.jsonl lacks log_likelihood at step 2",
    ),
    "metrics that are no numbers": (damage_metrics('{"step": 1, "loss": "2"}\n'), "line 1 of metrics.jsonl"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_run_is_refused_in_one_line(
    tmp_path: Path, a_run: Path, case: str, capsys: pytest.CaptureFixture
) -> None:
    damage, message = DAMAGE[case]
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.json", "metrics.jsonl", "checkpoint.safetensors"):
        written(folder / name, (a_run / name).read_bytes())
    damage(folder)
    before = contents(folder)
    assert run(GMM["torch"], f"--resume {folder} --steps 5") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert any(part in line for part in message.split("|")), line
    assert contents(folder) == before


# --- No code in files -----------------------------------------------------------------------------

UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("folder", ["common", "pytorch_impl", "tf2_impl"])
def test_no_module_turns_a_file_into_code(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in imported} & UNPICKLING, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "torch.load", "tf.saved_model.load"), f"{path}:{node.lineno}"
                if called in ("np.load", "numpy.load"):
                    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert keywords.get("allow_pickle") == "False", f"{path}:{node.lineno}"
