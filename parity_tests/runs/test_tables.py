"""Tables as R, pandas, Excel and the archives write them: each is read right, or refused by name."""

import gzip
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from common.compare import models as compare_models
from common.compare import report as compare_report
from common.compare import runs as compare_runs
from common.data import datasets
from common.data import files as data_files
from common.figures import draw as draw_chapters
from common.figures import runs as figures
from common.runs import launch_workers
from common.runs.folder import RunFolder, read_config
from common.runs.options import GMMOptions, VAEOptions, parse, resumed
from parity_tests.conftest import idx
from parity_tests.runs.test_figures import legend
from parity_tests.support.scripts import GMM, ROOT, VAE, both, run, written

# Velocities of 82 galaxies in km/s: K. Roeder, JASA 85 (1990); `galaxies` in R's MASS, with misprint 26690.
GALAXIES = """
9172 9350 9483 9558 9775 10227 10406 16084 16170 18419 18552 18600 18927 19052 19070 19330 19343 19349 19440 19473 19529
19541 19547 19663 19846 19856 19863 19914 19918 19973 19989 20166 20175 20179 20196 20215 20221 20415 20629 20795 20821
20846 20875 20986 21137 21492 21701 21814 21921 21960 22185 22209 22242 22249 22314 22374 22495 22746 22747 22888 22914
23206 23241 23263 23484 23538 23542 23666 23706 23711 24129 24285 24289 24366 24717 24990 25633 26690 26995 32065 32789
34279"""
VELOCITIES = np.array(GALAXIES.split(), float)


def read(path: Path, content: str | bytes, **arguments: str) -> tuple[datasets.Dataset, list[str]]:
    """A table, and what was said of it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = datasets.load(str(written(path, content)), **arguments)
    return data, [str(warning.message).partition(": ")[2] for warning in said]


# --- Text tables ----------------------------------------------------------------------------------

TWO = [[3.6, 79], [1.8, 54]]
RIGHT: dict[str, tuple[str | bytes, list[list[float]], tuple[str, ...]]] = {
    "Excel, German": ("a;b\r\n3,6;79\r\n1,8;54\r\n", TWO, ("a", "b")),
    "Excel, German, with its first line": ("sep=;\na;b\n3,6;79\n1,8;54\n", TWO, ("a", "b")),
    "decimals after semicolons": ("3,600;79,00\n1,800;54,00\n", TWO, ()),
    "tabs": ("a\tb\n3.6\t79\n1.8\t54\n", TWO, ("a", "b")),
    "tabs and decimal commas": ("3,6\t79\n1,8\t54\n", TWO, ()),
    "bars": ("a|b\n3.6|79\n1.8|54\n", TWO, ("a", "b")),
    "numpy.savetxt": ("# made on Monday\n3.6e+00 7.9e+01\n1.8e+00 5.4e+01\n", TWO, ()),
    "aligned with spaces": ("   a    b \n  3.6   79\n  1.8   54 \n", TWO, ("a", "b")),
    "spaces and decimal commas": ("3,6 79\n1,8 54\n", TWO, ()),
    "comments": ("% x\na,b\n3.6,79\n# a remark, with a comma\n1.8,54\n", TWO, ("a", "b")),
    "a mark of bytes": (b"\xef\xbb\xbfa;b\n3,6;79\n1,8;54\n", TWO, ("a", "b")),
    "quoted": ('"a","b"\n"3.6","79"\n"1.8","54"\n', TWO, ("a", "b")),
    "quoted decimal commas of one column": ('x\n"1,5"\n"2,7"\n', [[1.5], [2.7]], ("x",)),
    "one decimal point": ("x\n1.5\n2.7\n", [[1.5], [2.7]], ("x",)),
    "two columns of whole numbers": ("3,6\n1,8\n", [[3, 6], [1, 8]], ()),
    "quoted decimal commas": ('a,b\n"3,6","79"\n"1,8","54"\n', TWO, ("a", "b")),
    "old Mac": ("a,b\r3.6,79\r1.8,54\r", TWO, ("a", "b")),
    "blank lines": ("a,b\n\n3.6,79\n   \n1.8,54\n\n", TWO, ("a", "b")),
    "lines that end in commas": ("a,b,\n3.6,79,\n1.8,54,\n", TWO, ("a", "b")),
    "a last column without a name": ("a,b,\n3.6,79,\n1.8,54,7\n", [[3.6, 79, np.nan], [1.8, 54, 7]], ("a", "b", "")),
    "names twice": ("a,a\n3.6,79\n1.8,54\n", TWO, ("a", "a")),
    "what is missing": ("a,b\n?,2\n#N/A,\nNULL,n/a\n", [[np.nan, 2], [np.nan, np.nan], [np.nan, np.nan]], ("a", "b")),
    "a column": ("x\n1\n2\n3\n", [[1], [2], [3]], ("x",)),
    "a few rows that count": ("0,9\n1,8\n", [[0, 9], [1, 8]], ()),
}


@pytest.mark.parametrize("case", RIGHT)
def test_tables_of_many_kinds_are_read(tmp_path: Path, case: str) -> None:
    content, rows, names = RIGHT[case]
    data, said = read(tmp_path / "t.csv", content)
    np.testing.assert_array_equal(data.x, rows)
    assert (data.feature_names, said) == (names, [])


def test_columns_that_pandas_counts(tmp_path: Path) -> None:
    data, said = read(tmp_path / "t.csv", "0,1\n3.6,79.0\n1.8,54.0\n")
    assert (data.x.tolist(), data.feature_names) == (TWO, ("0", "1"))
    assert said == ["line 1 is taken for a header, 0,1"]
    assert read(tmp_path / "t.csv", "0,1,2\n3,4,5\n")[0].x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read(tmp_path / "t.csv", "0,1\n0.5,2\n")[0].x.tolist() == [[0, 1], [0.5, 2]]


@pytest.mark.parametrize("end", ["csv", "CSV", "csv.gz", "CSV.GZ", "tsv", "txt", "dat", "Data"])
def test_names_of_tables(tmp_path: Path, end: str) -> None:
    content = b"a,b\n3.6,79\n1.8,54\n"
    data, _ = read(tmp_path / f"t.{end}", gzip.compress(content) if end.lower().endswith("gz") else content)
    np.testing.assert_array_equal(data.x, TWO)
    np.save(tmp_path / "t", TWO)
    (tmp_path / "t.npy").rename(tmp_path / "T.NPY")
    np.testing.assert_array_equal(datasets.load(str(tmp_path / "T.NPY")).x, TWO)


REFUSED = {
    "thousands": ('a,b\n"1,234",5\n"2,345",6\n', "line 2 has '1,234', which may be thousands or have a decimal comma"),
    "thousands after tabs": ("1,234\t5\n2,345\t6\n", "line 1 has '1,234', which may be thousands"),
    "thousands and a point": ('"1,234.5",5\n"2,345.5",6\n', "line 1, column 1 is '1,234.5'; write numbers without"),
    "millions": ("a;b\n1,234,567;5\n", "is '1,234,567'; write numbers without separators of thousands"),
    "thousands, German": ("a;b\n1.234,5;79\n", "line 2, column 1 is '1.234,5'; write numbers without separators"),
    "thousands, French": ("a;b\n1 234;79\n", "line 2, column 1 is '1 234'; write numbers without separators"),
    "thousands without quotes": ("x\n1,234\n5,678\n9,012\n", "line 2 is 1,234, one number or two columns, and the "),
    "thousands beside others": ("x,y\n1,234,5\n5,678,6\n", "one column more than the header"),
    "decimal commas of one column": ("x\n1,5\n2,7\n3,1\n4,2\n", "line 2 is 1,5, one number or two columns, and the "
                                     "header has one name; write numbers without commas, as 1.5, or quoted, or name "),
    "decimal commas that do not count": ("x\n3,5\n,7\n", "line 2 is 3,5, one number or two columns"),
    "a decimal comma further down": ("x\n1\n2,7\n", "line 3 has 2 columns, not 1; if commas are decimal, write points"),
    "two decimal signs": ("a;b\n3,6;79\n1.8;54\n", "line 2 has '3,6' and line 3 has '1.8'; write all numbers with one"),
    "thousands of one column": ("a;b\n1.234;3,6\n2.345;1,8\n", "line 2 has '3,6' and line 2 has '1.234'; write all"),
    "decimal and other commas": ("a,b\n1,5,2,5\n", "line 2 has 4 columns, not 2; if commas are decimal, separate the"),
    "a line too long": ("a,b\n1,2\n3,4,5\n", "line 3 has 3 columns, not 2; is a cell missing, or a separator"),
    "ends in commas": ("a,b\n1,2,\n3,4,\n", "line 2 has 3 columns, not 2; remove the separator at its end"),
    "text": (
        "a,b,species\n1,2,setosa\n3,4,virginica\n",
        "line 2, column 3 is 'setosa'; if the column holds labels, add --label-column species, "
        "and --columns 1-2 leaves out what is text",
    ),
    "text twice": ("day,a,kind\n1 May,2,x\n", "add --label-column day, and --columns 2 leaves out what is text"),
    "text without a header": ("1.5,2,setosa\n3,4,setosa\n", "line 1, column 3 is 'setosa'; if the column holds labels, "
                              "add --label-column 3"),
    "text further down": ("a,b\n1,2\n3,x\n", "line 3, column 2 is 'x'; only numbers, or for what is missing NA"),
    "UTF-16": ("a,b\n1,2\n".encode("utf-16"), "(it is UTF-16 text); save it as UTF-8"),
    "UTF-16, unmarked": ("1,2\n".encode("utf-16-le"), "(it is UTF-16 text); save it as UTF-8"),
    "Latin-1": (b"gr\xf6sse,b\n1,2\n", "give a UTF-8 text table of numbers"),
    "a workbook": (b"PK\x03\x04\x14\0", "(it is a spreadsheet or an archive); save the sheet as CSV"),
    "a header alone": ("a;b\n", "holds no rows of numbers below the header a,b"),
    "comments alone": ("# a\n# b\n", "holds no rows of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_tables_that_could_be_misread_are_refused_with_a_remedy(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    with pytest.raises(ValueError, match=r"t\.csv: ") as error:
        read(tmp_path / "t.csv", content)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 't.csv'}: ")
    assert str(error.value).isprintable()


# --- Row numbers ----------------------------------------------------------------------------------

NOT_FITTED = {  # all hold 9, 8, 7 in a column y, beside what names or numbers the rows
    "R's write.csv": ('"","y"\n"1",9\n"2",8\n"3",7\n', "column 1 numbers the rows, 1 to 3"),
    "R's write.table": ('"y"\n"1" 9\n"2" 8\n"3" 7\n', "column 1 numbers the rows, 1 to 3"),
    "R's write.table, unquoted": ("y\n1\t9\n2\t8\n3\t7\n", "column 1 numbers the rows, 1 to 3"),
    "R's, of a sorted subset": ('"","y"\n"17",9\n"4",8\n"11",7\n', "column 1 numbers the rows, 17 to 11"),
    "R's row names": ('"","y"\n"Mazda RX4",9\n"Datsun, 710",8\n"Fiat 128",7\n', "column 1 names the rows, Mazda RX4"),
    "R's col.names": ('y;x\n"a";9;1\n"b";8;1\n"c";7;1\n', "column 1 names the rows, a to c"),
    "Rdatasets'": (
        "rownames,y\n1,9\n2,8\n3,7\n",
        "column 1 (rownames) counts the rows, 1 to 3, and is not fitted; --columns 1-2 keeps it",
    ),
    "pandas'": (",y\n0,9\n1,8\n2,7\n", "column 1 numbers the rows, 0 to 2, and is not fitted; --columns 1- keeps it"),
    "pandas', read again": ("Unnamed: 0,y\n0,9\n1,8\n2,7\n", "column 1 numbers the rows, 0 to 2"),
    "pandas', twice": (",Unnamed: 0,y\n0,0,9\n1,1,8\n2,2,7\n", "column 2 numbers the rows, 0 to 2"),
    "pandas', of an array": (",0\n0,9\n1,8\n2,7\n", "column 1 numbers the rows, 0 to 2, and is not fitted"),
    "pandas' reset_index": ("index,y\n0,9\n1,8\n2,7\n", "column 1 (index) counts the rows, 0 to 2"),
    "without a header": ('"1",9\n"2",8\n"3",7\n', "column 1 numbers the rows, 1 to 3"),
}


@pytest.mark.parametrize("case", NOT_FITTED)
def test_row_numbers_are_not_fitted_and_that_is_said(tmp_path: Path, case: str) -> None:
    content, message = NOT_FITTED[case]
    data, said = read(tmp_path / "t.csv", content)
    np.testing.assert_array_equal(data.x[:, 0], [9, 8, 7])
    assert message in said[-1]
    assert "is not fitted" in said[-1]
    if "names" not in said[-1].partition(",")[0] and '"1" 9' not in content:
        kept, said = read(tmp_path / "t.csv", content, columns="1-")
        assert kept.x.shape[1] - data.x.shape[1] in (1, 2)
        assert "is not fitted" not in "".join(said)


def test_columns_that_may_or_may_not_be_row_numbers(tmp_path: Path) -> None:
    """A true name is fitted, and said; no name at all is settled by the user."""
    path, counting = tmp_path / "t.csv", "".join(f"{i},{i * i % 7}\n" for i in range(12))
    data, said = read(path, "time,y\n" + counting)
    assert data.feature_names == ("time", "y")
    assert said == ["column 1 (time) counts the rows, 0 to 11, and is fitted as data; --columns 2 leaves it out"]
    assert read(path, "time,y\n" + counting, columns="time,y")[1] == []
    with pytest.raises(
        ValueError, match="counts the rows, 0 to 11; leave it out by --columns 2, or keep it by --columns 1-2"
    ):
        read(path, counting)
    assert read(path, counting, columns="2")[0].x.shape == (12, 1)
    assert read(path, counting, columns="1-2")[0].x.shape == (12, 2)
    with pytest.raises(
        ValueError, match="column 1 has no name and does not number the rows; leave it out by --columns 2-"
    ):
        read(path, ",y\n0.5,9\n1.5,8\n")
    assert read(path, ",y\n0.5,9\n1.5,8\n", columns="1-")[0].x.tolist() == [[0.5, 9], [1.5, 8]]
    data, said = read(path, "y,n\n9,0\n8,1\n7,2\n")  # only a first column numbers rows
    assert (data.x.shape, said) == ((3, 2), [])


@pytest.mark.parametrize(("label", "first"), [("species", ""), ("1", ""), ("2", '"",'), ("species", ",")])
def test_row_numbers_behind_a_label_column(tmp_path: Path, label: str, first: str) -> None:
    """They are the first column that is neither the label nor a row's name."""
    rows = [f"{'ab'[i % 2]},{i},{i * i % 7}" for i in range(1, 6)]
    named = [f"{i}," * bool(first) + row for i, row in enumerate(rows, start=1)]
    path = tmp_path / "t.csv"
    data, said = read(path, "\n".join([first + "species,id,x", *named]) + "\n", label_column=label)
    assert (data.x.tolist(), data.feature_names) == ([[1], [4], [2], [2], [4]], ("x",))
    column = 3 if first else 2
    assert f"column {column} (id) counts the rows, 1 to 5, and is not fitted; --columns {column}-" in said[-1]
    data, said = read(path, "\n".join([first + "species,time,x", *named]) + "\n", label_column=label)
    assert data.feature_names == ("time", "x")
    assert said[-1].endswith(f"is fitted as data; --columns {column + 1} leaves it out")
    chosen, said = read(path, "species,id,x\n" + "\n".join(rows), label_column="species", columns="id,x")
    assert (chosen.feature_names, said) == (("id", "x"), [])


@pytest.mark.parametrize(
    ("variable", "first", "second"),
    [
        ("RANK", "0", "1"),
        ("TF_CONFIG", '{"task": {"type": "worker", "index": 0}}', '{"task": {"type": "worker", "index": 1}}'),
    ],
)
def test_one_of_several_workers_tells_of_row_numbers(
    tmp_path: Path, variable: str, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "id,x\n1,9\n2,8\n3,7\n"
    monkeypatch.delenv("RANK", raising=False)
    for value, count in ((first, 1), (second, 0)):
        monkeypatch.setenv(variable, value)
        data, said = read(tmp_path / "t.csv", table)
        assert (data.feature_names, len(said)) == (("x",), count)


@both
def test_galaxies_as_r_writes_them(tmp_path: Path, framework: str, capsys: pytest.CaptureFixture) -> None:
    """The log likelihood is the velocities', by scikit-learn too; with the row numbers it was -981.08."""
    table = '"","x"\n' + "".join(f'"{i}",{v:.0f}\n' for i, v in enumerate(VELOCITIES, start=1))
    data = written(tmp_path / "galaxies.csv", table)
    assert run(GMM[framework], f"--data {data} --components 3", tmp_path / "run") == 0
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.endswith("galaxies.csv: column 1 numbers the rows, 1 to 82, and is not fitted; --columns 1- keeps it")
    assert "log likelihood               -769.615" in told.out
    x = VELOCITIES[:, None]
    peer = GaussianMixture(3, tol=1e-10, max_iter=5000, random_state=0).fit(x)
    assert peer.score(x) * 82 == pytest.approx(-769.615, abs=1e-3)
    means = load_file(tmp_path / "run" / "checkpoint.safetensors")["means"]
    np.testing.assert_allclose(np.sort(means[:, 0]), np.sort(peer.means_[:, 0]), rtol=1e-5)


# --- Labels and columns ---------------------------------------------------------------------------


def iris_table(separator: str = ",", header: bool = True) -> str:
    iris = load_iris()
    names = separator.join(["sepal length", "sepal width", "petal length", "petal width", "species"])
    rows = (separator.join([*map(str, x), iris.target_names[k]]) for x, k in zip(iris.data, iris.target, strict=True))
    return "\n".join([names] * header + list(rows)) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("header", "column"), [(True, "species"), (True, "5"), (True, "-1"), (False, "5"), (False, "-1")]
)
def test_text_labels_are_classes(tmp_path: Path, separator: str, header: bool, column: str) -> None:
    data, said = read(tmp_path / "iris.data", iris_table(separator, header), label_column=column)
    iris = load_iris()
    np.testing.assert_array_equal(data.x, iris.data)
    np.testing.assert_array_equal(data.labels, iris.target)
    assert data.label_names == ("setosa", "versicolor", "virginica")
    assert data.feature_names[:1] == (("sepal length",) if header else ())
    assert said == []
    for part in data.split():
        assert part.label_names == data.label_names


def test_labels_beside_row_numbers_and_text(tmp_path: Path) -> None:
    table = '"","site","x","y","kind"\n"1","A",1.5,2,"b"\n"2","B",3,4,"a"\n"3","A",5,6.5,"b"\n'
    data, said = read(tmp_path / "t.csv", table, label_column="kind", columns="x,y")
    assert (data.x.tolist(), data.labels.tolist()) == ([[1.5, 2], [3, 4], [5, 6.5]], [1, 0, 1])
    assert (data.label_names, said) == (("a", "b"), [])
    assert read(tmp_path / "t.csv", table, label_column="2", columns="y,3")[0].feature_names == ("y", "x")
    assert read(tmp_path / "t.csv", "x,kind\n1, b\n2,b \n", label_column="kind")[0].label_names == ("b",)
    assert read(tmp_path / "t.csv", table, columns="-2,x")[0].x.tolist() == [[2, 1.5], [4, 3], [6.5, 5]]
    assert read(tmp_path / "t.csv", table, columns="3-4")[0].feature_names == ("x", "y")
    assert read(tmp_path / "t.csv", "x,kind\n1, b \n2,b\n", label_column="kind")[0].label_names == ("b",)
    assert read(tmp_path / "t.csv", "x,y,\n1,2,3\n4,5,\n")[0].x.shape == (2, 3)  # a gap
    for labels, message in (("Kind", "did you mean kind?"), ("kin", "did you mean kind?"), ("9", "of the 5 column(s)")):
        with pytest.raises(ValueError, match="label_column=") as error:
            read(tmp_path / "t.csv", table, label_column=labels, columns="x")
        assert message in str(error.value)
    for columns in ("z", "0", "6", "4-3", "3-9", "x,,y", "kind", "", "1.5"):
        with pytest.raises(ValueError, match="columns="):
            read(tmp_path / "t.csv", table, label_column="kind", columns=columns)
    with pytest.raises(ValueError, match=r"columns='b'.*did you mean \\x00b\?$"):  # out of the file, and printable
        read(tmp_path / "t.csv", "a,\0b\n1,2\n", columns="b")


def test_labels_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 of the data has no label"):
        read(tmp_path / "t.csv", "a,k\n1,x\n2,\n", label_column="k")
    with pytest.raises(ValueError, match=r"2 columns of that name; give a number, such as 1"):
        read(tmp_path / "t.csv", "a,a,b\n1,2,3\n", label_column="a")
    with pytest.raises(ValueError, match=r"no column of numbers besides labels and row names"):
        read(tmp_path / "t.csv", '"","k"\n"1","x"\n"2","y"\n', label_column="k")
    _, said = read(tmp_path / "t.csv", "name,2019\nfoo,5\nbar,6\n", label_column="1")
    assert said == ["line 1 is taken for data, name,2019"]  # nothing tells it from data, but it is odd


def test_columns_of_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.arange(12.0).reshape(3, 4))
    data = datasets.load(str(tmp_path / "t.npy"), label_column="-1", columns="1-2")
    assert (data.x.tolist(), data.labels.tolist()) == ([[0, 1], [4, 5], [8, 9]], [3, 7, 11])
    data = datasets.load(str(tmp_path / "t.npy"), label_column="-4", columns="4,-2")
    assert (data.x.tolist(), data.labels.tolist()) == ([[3, 2], [7, 6], [11, 10]], [0, 4, 8])
    assert isinstance(datasets.load(str(tmp_path / "t.npy")).x, np.memmap)
    with pytest.raises(ValueError, match="label_column='x'"):
        datasets.load(str(tmp_path / "t.npy"), label_column="x")
    with pytest.raises(ValueError, match="columns and pixel_max apply to files only"):
        datasets.load("digits", columns="1")


def test_figures_name_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{i % 7 / 7},{i % 5 / 5},{i % 3 / 3},0.5,{('cat', 'dog')[i % 2]}" for i in range(60)]
    path, shown = written(tmp_path / "t.csv", "\n".join(["a,b,c,d,kind", *lines])), {}
    monkeypatch.setattr(RunFolder, "save_figure", lambda run, name, draw, *arguments: shown.update({name: arguments}))
    arguments = f"--data {path} --label-column kind --steps 2 --hidden-dim 4 --latent-dim 2"
    assert run(VAE["torch"], arguments, tmp_path / "run") == 0
    assert shown["latent_space"][2] == ("cat", "dog")


def test_a_label_may_be_any_whole_number() -> None:
    figure = figures.latent_space(np.eye(3), np.array([-7, 2**30, -7]))
    assert {text.get_text() for text in figure.axes[0].texts} == {"-7", str(2**30)}


# --- Images ---------------------------------------------------------------------------------------

PIXELS = np.random.RandomState(0).randint(0, 256, (12, 6, 5)).astype(np.uint8)
CLASSES = (np.arange(12) % 3).astype(np.uint8)


def idx_files(folder: Path, name: Callable[[str], str]) -> None:
    for usual in [usual for pair in data_files.IDX_FILES.values() for usual in pair]:
        array = (CLASSES if "labels" in usual else PIXELS)[: 4 if "t10k" in usual else None]
        content = idx(array)
        written(folder / name(usual), gzip.compress(content) if name(usual).lower().endswith("gz") else content)


WILD = {
    "usual": lambda name: name,
    "gzipped": lambda name: f"{name}.gz",
    "dotted": lambda name: name.replace("-idx", ".idx"),
    "dotted, gzipped": lambda name: name.replace("-idx", ".idx") + ".gz",
    "in capitals": lambda name: name.upper() + ".GZ",
}


@pytest.mark.parametrize("case", WILD)
def test_idx_files_under_the_names_they_have(tmp_path: Path, case: str) -> None:
    idx_files(tmp_path, WILD[case])
    for data in (datasets.load("mnist", tmp_path), datasets.load(str(tmp_path))):
        np.testing.assert_allclose(data.x, PIXELS.reshape(12, -1) / 255, rtol=1e-6)
        assert (data.labels.tolist(), data.image_shape) == (CLASSES.tolist(), (6, 5))
        assert len(data.held_out.x) == 4
    images = WILD[case](data_files.IDX_FILES["train"][0])
    data = datasets.load(str(tmp_path / images))
    assert (data.x.shape, data.image_shape, data.held_out) == ((12, 30), (6, 5), None)
    if case != "in capitals":
        assert data.labels.tolist() == CLASSES.tolist()


def test_images_in_numpys_files(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "mnist.npz", **ARRAYS)
    for data in (
        datasets.load(str(tmp_path / "mnist.npz")),
        datasets.load("mnist", tmp_path),
        datasets.load(str(tmp_path)),
    ):
        np.testing.assert_allclose(data.x, PIXELS.reshape(12, -1) / 255, rtol=1e-6)
        assert (data.labels.tolist(), data.held_out.labels.tolist()) == (CLASSES.tolist(), CLASSES[:4].tolist())
    with pytest.raises(ValueError, match="is missing; put the four IDX files of fashion-mnist"):
        datasets.load("fashion-mnist", tmp_path)
    for images in (PIXELS, PIXELS[..., None], PIXELS / 255):
        np.save(tmp_path / "images.npy", images)
        data = datasets.load(str(tmp_path / "images.npy"))
        np.testing.assert_allclose(data.x, PIXELS.reshape(12, -1) / 255, rtol=1e-6)
        assert data.image_shape == (6, 5)
        if images.dtype == np.uint8:  # once, whoever says so
            white = datasets.load(str(tmp_path / "images.npy"), pixel_max=255)
            np.testing.assert_array_equal(white.x, data.x)
    np.testing.assert_allclose(datasets.load(str(tmp_path / "mnist.npz"), pixel_max=510).x.max(), 0.5, atol=2e-3)
    np.save(tmp_path / "masks.npy", (PIXELS > 128).astype(np.uint8))
    assert set(np.unique(datasets.load(str(tmp_path / "masks.npy")).x)) == {0, 1}
    np.savez(tmp_path / "table.npz", x=np.array(TWO))
    np.testing.assert_array_equal(datasets.load(str(tmp_path / "table.npz")).x, TWO)
    np.save(tmp_path / "four.npy", np.array([[0, 1, 2, 4]]))
    assert datasets.load(str(tmp_path / "four.npy")).image_shape is None
    white = datasets.load(str(tmp_path / "four.npy"), pixel_max=4)
    assert (white.x.tolist(), white.image_shape) == ([[0, 0.25, 0.5, 1]], (2, 2))
    with pytest.raises(ValueError, match=r"is for tables, and .* holds images"):
        datasets.load(str(tmp_path / "images.npy"), label_column="1")


ARRAYS = dict(zip(data_files.ARCHIVE, (PIXELS, CLASSES, PIXELS[:4], CLASSES[:4, None]), strict=True))
BAD_ARCHIVES = {
    "holds a, b; give an archive of one array": {"a": np.eye(2), "b": np.eye(2)},
    "holds no array": {},
    "cannot be read as .npz": {"a": np.array([{}], dtype=object)},
    "images (N, H, W), is needed": {"a": np.zeros((2, 4, 4, 3))},
    "images have shapes (6, 5) and (5, 5); give images of one shape": ARRAYS | {"x_test": PIXELS[:4, :5]},
    "there are 4 images and 12 labels; give one for each": ARRAYS | {"y_test": CLASSES},
    "the images have shape (12, 30); (N, H, W) is needed": ARRAYS | {"x_train": PIXELS.reshape(12, -1)},
    "the labels have shape (12, 3); (N,) is needed": ARRAYS | {"y_train": np.eye(3)[CLASSES]},
    "the labels are not whole numbers": ARRAYS | {"y_train": CLASSES / 2},
    "not whole numbers; number the classes": ARRAYS | {"y_train": CLASSES - 2.0**40},
}


@pytest.mark.parametrize("message", BAD_ARCHIVES)
def test_archives_that_hold_no_images(tmp_path: Path, message: str) -> None:
    np.savez(tmp_path / "t.npz", **BAD_ARCHIVES[message])
    with pytest.raises(ValueError, match=re.escape(message)):
        datasets.load(str(tmp_path / "t.npz"))


# --- Gaps and dead components in figures ----------------------------------------------------------


def test_gaps_are_ticks_on_the_axis_of_what_was_seen() -> None:
    x = np.array([[1, 2, 0], [3, np.nan, 0], [np.nan, 5, 0], [np.nan, 7, 1], [np.nan, np.nan, 4]])
    gamma = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    data = datasets.Dataset("t", x, feature_names=("a (m)", "b (s)", "c"))
    figure = figures.mixture(data, np.array([0.6, 0.4]), np.ones((2, 3)), np.ones((2, 3)), "diag", gamma)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    points, along_x, along_y = (collection.get_offsets() for collection in axes.collections)
    assert np.ma.compressed(points[:1]).tolist() == [1, 2]
    assert np.isnan(np.ma.filled(points[1:], np.nan)).any(axis=1).all()  # not at the mean, nor anywhere
    assert along_x[:, 0].tolist() == [3]
    assert along_y[:, 1].tolist() == [5, 7]
    np.testing.assert_allclose(axes.collections[2].get_facecolors()[:, :3], figures.palette(2))
    assert legend(figure)[2:] == ["1 without b", "2 without a", "1 without either: not shown"]


def test_each_entry_of_a_legend_is_seen() -> None:
    """Components beyond the longest legend are counted, and not listed."""
    data = datasets.Dataset("t", np.random.RandomState(0).rand(50, 2))
    parameters = np.full(40, 1 / 40), np.zeros((40, 2)), np.ones((40, 2)), "diag"
    many = figures.mixture(data, *parameters, np.full((50, 40), 1 / 40))
    assert legend(many)[-1] == f"and {40 - figures.LONGEST_LEGEND} more"


# --- The command line -----------------------------------------------------------------------------

MISSPELT = {
    "--dta digits": "unrecognized arguments: --dta digits; did you mean --data?",
    "--latent_dim 3": "unrecognized arguments: --latent_dim 3; did you mean --latent-dim?",
    "--epoch=3": "unrecognized arguments: --epoch=3; did you mean --epochs?",
    "-seed 3": "unrecognized arguments: -seed 3; did you mean --seed?",
    "--zzzz": "unrecognized arguments: --zzzz",
    "digits": "unrecognized arguments: digits",
    "--model dens": "invalid choice: 'dens' (choose from dense, conv, autoencoder); did you mean dense?",
    "--likelihood gausian": "did you mean gaussian?",
    "--precision Float64": "did you mean float64?",
    "--model xyz": "argument --model: invalid choice: 'xyz' (choose from dense, conv, autoencoder)",
}


@pytest.mark.parametrize("arguments", MISSPELT)
def test_what_is_misspelt_is_told_what_was_meant(arguments: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(VAEOptions, arguments.split(), "pytorch_impl.train_vae")
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(MISSPELT[arguments])


@pytest.mark.parametrize("kind", [GMMOptions, VAEOptions])
def test_help_has_groups_and_two_examples_that_run(kind: type, capsys: pytest.CaptureFixture) -> None:
    script = "train_gmm" if kind is GMMOptions else "train_vae"
    with pytest.raises(SystemExit):
        parse(kind, ["--help"], f"tf2_impl.{script}")
    text = capsys.readouterr().out
    examples = [line.split() for line in text.splitlines() if line.startswith(f"  python -m tf2_impl.{script} ")]
    assert len(examples) == 2
    for example in examples:
        parse(kind, example[3:], f"tf2_impl.{script}")  # each flag is one
    for title in ("data:", "model and training:", "run:", "output:"):
        assert f"\n{title}\n" in text


def test_a_run_from_before_an_option_was_there_can_be_resumed(tmp_path: Path) -> None:
    assert run(GMM["torch"], "--steps 2 --quiet", tmp_path / "run") == 0
    config = read_config(tmp_path / "run")
    del config["columns"]
    options = GMMOptions(resume=str(tmp_path / "run"))
    assert resumed(options, set(), config).columns is None


SCRIPTS = ["pytorch_impl/train_gmm", "pytorch_impl/train_vae", "tf2_impl/train_gmm", "tf2_impl/train_vae"]
OTHERS = ["compare/runs", "compare/report", "runs/launch_workers"]  # as their siblings do


def as_file(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / f"{script}.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("script", [*SCRIPTS, *(f"common/{name}" for name in OTHERS)])
def test_scripts_run_as_files_from_anywhere(tmp_path: Path, script: str) -> None:
    told = as_file(script, tmp_path, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"python -m {script.replace('/', '.')} " in told.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["pytorch_impl", pytest.param("tf2_impl", marks=pytest.mark.long)])
def test_paths_are_the_callers(tmp_path: Path, package: str) -> None:
    written(tmp_path / "t.csv", "a;b\n" + "".join(f"{i * i % 17},5;{i * 7 % 13}\n" for i in range(40)))
    told = as_file(f"{package}/train_gmm", tmp_path, "--data", "t.csv", "--out", "here/run", "--steps", "3")
    assert (told.returncode, told.stderr) == (0, "")
    assert (tmp_path / "here" / "run" / "mixture.png").is_file()


@pytest.mark.parametrize("main", [compare_runs.main, compare_models.main, compare_report.main, draw_chapters.main])
@pytest.mark.parametrize("arguments", [[], ["--out", "x"], ["--verbose"], ["a", "b", "c", "d"]])
def test_other_scripts_refuse_in_one_line(main: Callable, arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ": error: " in line
    assert main(["--help"]) == 0
    assert capsys.readouterr().out


def test_the_launcher_refuses_what_it_cannot_start(capsys: pytest.CaptureFixture) -> None:
    for arguments, message in (
        (["2", "pytorch_impl.train_gm"], "there is no module pytorch_impl.train_gm"),
        (["2", "nothing.at.all"], "there is no module nothing.at.all"),
        (["100000", "pytorch_impl.train_gmm"], "at most 256"),
    ):
        assert launch_workers.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_decimal_commas_that_may_mark_thousands_are_said(tmp_path: Path) -> None:
    """After semicolons they are decimal, as the rest of Europe has it; whoever means thousands is told."""
    path = tmp_path / "table.csv"
    path.write_text("a;b\n3,600;79,000\n1,800;54,000\n")
    with pytest.warns(UserWarning, match=r"line 2 has '3,600', read as a number with a decimal comma; if commas mark"):
        assert datasets.load(str(path)).x.tolist() == TWO
    path.write_text("a;b\n3,6;79,000\n1,8;54,000\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert datasets.load(str(path)).x.tolist() == TWO
