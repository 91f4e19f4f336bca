"""Discovery of what a user adds in files outside of the package."""

import os
import sys
from types import ModuleType

import pytest

from fromnoise.core.errors import UsageError
from fromnoise.core.extensions import defined_kinds, discover, extension_files

THING = (
    "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Thing:\n    name: str\n\n"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one module, which defines the thing "old"; no user's folder."""
    monkeypatch.delenv("FROMNOISE_EXTENSIONS", raising=False)
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "old.py").write_text(THING + 'METRIC = Thing("old")\n')
    (folder / "none.py").write_text("x = 1\n")
    module = ModuleType("things_of_test_extensions")
    module.__path__ = [str(folder)]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module
    for name in ("old", "none"):
        sys.modules.pop(f"{module.__name__}.{name}", None)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into a folder of extensions."""

    def write_file(name: str, text: str, folder: str = "mine"):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        known = os.environ.get("FROMNOISE_EXTENSIONS", "").split(os.pathsep)
        folders = dict.fromkeys([*filter(None, known), str(path.parent)])
        monkeypatch.setenv("FROMNOISE_EXTENSIONS", os.pathsep.join(folders))
        return path

    return write_file


def names(package) -> list[str]:
    return [item.name for _, item in discover(package, "METRIC")]


def test_the_package_comes_first_then_the_files_of_the_user(package, write):
    assert names(package) == ["old"]
    b = write("b.py", THING + 'METRICS = (Thing("one"), Thing("two"))\n')
    a = write("a.py", THING + 'METRIC = Thing("three")\n')
    other = write("a.py", THING + 'METRIC: Thing = Thing("four")\n', folder="other")
    assert names(package) == ["old", "three", "one", "two", "four"]
    assert [path for path, _ in discover(package, "METRIC")][1:] == [a, b, b, other]


def test_only_files_that_define_the_attribute_are_executed(package, write):
    write("figure.py", "FIGURE = 1 / 0\n")
    write("script.py", "raise SystemExit(1)\n")
    write("inside.py", "class A:\n    METRIC = 1 / 0\n")
    assert names(package) == ["old"]
    assert [path.name for path in extension_files("FIGURE")] == ["figure.py"]
    assert defined_kinds(extension_files("FIGURE")[0], ("METRIC", "FIGURE")) == ["FIGURE"]


def test_a_file_is_executed_again_only_when_it_changed(package, write):
    text = (
        "import fromnoise\nfromnoise.count_of_test = getattr(fromnoise, 'count_of_test', 0) + 1\n"
    )
    write("a.py", text + THING + 'METRIC = Thing("new")\n')
    assert names(package) == names(package) == ["old", "new"]
    import fromnoise

    assert vars(fromnoise).pop("count_of_test") == 1
    write("a.py", THING + 'METRIC = Thing("newer")\n')
    assert names(package) == ["old", "newer"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("METRIC = 1 / 0\n", r"'.*a\.py' cannot be imported: line 1: ZeroDivisionError: "),
        ("import nothing_like_this\nMETRIC = 1\n", r"a\.py' .*line 1: ModuleNotFoundError"),
        ("raise SystemExit(1)\nMETRIC = 1\n", r"a\.py' cannot be imported: line 1: SystemExit"),
        ("METRIC = (\n", r"a\.py' cannot be imported: line 1: SyntaxError: .* mend the file"),
        ("METRIC = '\0'\n", r"a\.py' cannot be imported"),
        (THING + 'METRIC = Thing("old")\n', r"a\.py' .* metric 'old', which '.*old\.py' .* choose"),
        (THING + 'METRICS = [Thing("x"), Thing("x")]\n', r"a\.py' defines the metric 'x'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(package, write, text, message):
    write("a.py", text)
    with pytest.raises(UsageError, match=message) as error:
        discover(package, "METRIC")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_folder_that_is_missing_is_refused(package, monkeypatch, tmp_path):
    monkeypatch.setenv("FROMNOISE_EXTENSIONS", str(tmp_path / "missing"))
    with pytest.raises(
        UsageError, match="FROMNOISE_EXTENSIONS names .*missing', which is no folder"
    ):
        discover(package, "METRIC")


def test_the_package_may_not_define_a_name_twice(package, tmp_path):
    (tmp_path / "package" / "none.py").write_text(THING + 'METRIC = Thing("old")\n')
    with pytest.raises(ValueError, match="'old' is defined in"):
        discover(package, "METRIC")
