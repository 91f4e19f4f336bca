"""Arrays: layouts, ranges and labels; two readings are refused, pickles never read."""

import zipfile

import numpy as np
import pytest

from fromnoise.core.errors import DataError, UsageError
from fromnoise.data import DataConfig, load

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(20, 6, 5), dtype=np.uint8)


def everything(dataset):
    """All stored rows, sorted so that the splits do not matter."""
    return np.sort(
        np.concatenate([split.x for split in dataset.splits.values()]).reshape(
            -1, dataset.spec.dims
        ),
        0,
    )


def refused(path, *words, kind=DataError, **options):
    with pytest.raises(kind) as error:
        load(str(path), DataConfig(**options))
    text = str(error.value)
    assert (
        "\n" not in text and all(word in text for word in (path.name, *words)) or kind is UsageError
    ), text


@pytest.fixture
def save(tmp_path):
    def save(array=None, name="my array.npy", **arrays):
        if arrays:
            np.savez(tmp_path / "my arrays.npz", **arrays)
            return tmp_path / "my arrays.npz"
        np.save(tmp_path / name, array)
        return tmp_path / name

    return save


@pytest.mark.parametrize(
    "array, shape",
    [
        (IMAGES, (1, 6, 5)),
        (IMAGES[..., None], (1, 6, 5)),
        (np.stack([IMAGES] * 3, -1), (3, 6, 5)),
        (np.stack([IMAGES] * 3, 1), (3, 6, 5)),
    ],
)
def test_layouts(save, array, shape):
    dataset = load(str(save(array)))
    assert dataset.spec.shape == shape and dataset.spec.levels == 256 and not dataset.notes
    assert [len(dataset.split(part)) for part in ("train", "validation", "test")] == [16, 2, 2]
    assert (
        everything(dataset) == np.sort(np.concatenate([IMAGES.reshape(20, -1)] * shape[0], 1), 0)
    ).all()


@pytest.mark.parametrize(
    "scaled, note", [(IMAGES / 255, "[0, 1]"), (IMAGES / 127.5 - 1, "[-1, 1]")]
)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_become_levels(save, scaled, note, dtype):
    dataset = load(str(save(scaled.astype(dtype))))
    assert note in dataset.notes[0] and dataset.spec.levels == 256
    assert np.abs(everything(dataset).astype(int) - np.sort(IMAGES.reshape(20, -1), 0)).max() <= (
        dtype == "f2"
    )


@pytest.mark.parametrize(
    "array, words",
    [
        (IMAGES.astype(float), ("0 to 255", "save x.astype('uint8')")),
        (IMAGES.astype(np.int64), ("int64", "save x.astype('uint8')")),
        (IMAGES - 300.0, ("-300", "scale them to [0, 1] or [-1, 1]")),
        (
            np.where(np.arange(600).reshape(20, 6, 5) == 95, np.nan, 0.5),
            ("row 3", "NaN or infinity", "remove that row"),
        ),
        (np.full((20, 3), np.inf), ("row 0", "NaN or infinity", "fill it")),
        (np.zeros((20, 6, 5, 4), np.uint8), ("(20, 6, 5, 4)", "x[..., :3]")),
        (np.zeros((32, 32, 3), np.uint8), ("32 images of 32x3", "x[None]")),
        (np.zeros(20), ("(20,)", "reshape")),
        (np.zeros((2, 3, 4, 5, 6)), ("reshape",)),
        (np.zeros((0, 6, 5), np.uint8), ("(0, 6, 5)",)),
        (np.zeros((20, 2), complex), ("complex128", "save numbers")),
        (np.array([["a", "b"]] * 20), ("<U1", "save numbers")),
        (np.zeros((5, 6, 6), np.uint8), ()),
    ],
)
def test_arrays_that_cannot_be_used(save, array, words):
    path = save(array)
    if not words:
        with pytest.raises(DataError, match="5 examples cannot be split.*give at least 10"):
            load(str(path))
    else:
        refused(path, *words)


def test_no_pickle_is_read(save, tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("the trap",))

    array = np.array([Trap()] * 20, object)
    refused(save(array), "Python objects", "numpy.save")
    refused(save(x=array), "Python objects", "numpy.save")
    (tmp_path / "raw.npy").write_bytes(__import__("pickle").dumps([1, 2]))
    refused(tmp_path / "raw.npy", "numpy.save")


@pytest.mark.parametrize(
    "content", [b"", b"PK\3\4 no zip", b"hello", b"\x93NUMPY\1\0\x76\0{'descr': '|u1'"]
)
@pytest.mark.parametrize("name", ["bad.npy", "bad.npz"])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "damaged", "numpy.save")


def test_truncated_and_lying_files(save, tmp_path):
    path = save(IMAGES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    refused(path, "damaged", "numpy.save")
    for header in (b"(20000000, 6, 5), }", b"(20000000, 6, 5),  ", b"(-2000000, 6, 5), }"):
        path.write_bytes(whole.replace(b"(20, 6, 5), }      ", header))
        assert header in path.read_bytes()
        refused(path, "damaged", "numpy.save")
    packed = save(x=IMAGES)
    packed.write_bytes(packed.read_bytes()[:-30])
    refused(packed, "damaged", "numpy.save")
    with zipfile.ZipFile(tmp_path / "short.npz", "w") as archive:
        archive.writestr("x.npy", whole[:-9])
    refused(tmp_path / "short.npz", "damaged", "numpy.save")


@pytest.mark.parametrize(
    "key, label", [("x", "y"), ("images", "labels"), ("data", "targets"), ("arr_0", "y")]
)
def test_npz_with_labels(save, key, label):
    dataset = load(str(save(**{key: IMAGES, label: np.arange(20) % 3 * 2, "more": np.zeros(1)})))
    assert dataset.spec.classes == 5 and dataset.class_names == (
        "0",
        "1",
        "2",
        "3",
        "4",
    )  # gaps are fine
    given = {bytes(x): i % 3 * 2 for i, x in enumerate(IMAGES)}
    for split in dataset.splits.values():
        assert [given[bytes(x)] for x in split.x] == split.y.tolist()


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"x": IMAGES, "data": IMAGES}, ("'x', 'data'", "one of x, images, data, arr_0")),
        ({"foo": IMAGES}, ("'foo'", "one of x, images, data, arr_0")),
        (
            {"x": IMAGES, "y": np.arange(20), "labels": np.arange(20)},
            ("'labels'", "y, labels, targets"),
        ),
        ({"x": IMAGES, "y": np.arange(19)}, ("(19,)", "give 20 whole numbers")),
        ({"x": IMAGES, "y": np.zeros(20)}, ("float64", "y.astype('int64')")),
        ({"x": IMAGES, "y": np.arange(20) - 1}, ("-1 to 18", "from 0", "numpy.unique")),
        ({"x": IMAGES, "y": np.arange(20) * 2}, ("0 to 38", "below 20", "numpy.unique")),
    ],
)
def test_npz_that_cannot_be_used(save, arrays, words):
    refused(save(**arrays), *words)


def test_a_table_of_numbers_is_standardised_and_undone(save):
    x = RNG.normal(size=(50, 3)) * (2, 30, 0) + (1, -500, 7)
    dataset = load(str(save(x=x, y=np.arange(50) % 2)))
    assert (
        dataset.spec.kind == "vector" and dataset.spec.shape == (2,) and dataset.spec.classes == 2
    )  # one is constant
    train = dataset.split("train").x
    assert np.abs(train.mean(0)).max() < 1e-6 and train.std(0) == pytest.approx([1, 1], abs=1e-5)
    undone = np.array(list(dataset.columns.decode(train).values())).T
    nearest = np.abs(undone[:, None] - x).sum(-1).argmin(1)
    assert len(set(nearest)) == 40 and undone == pytest.approx(x[nearest], abs=1e-3)
    whole = load(str(save(np.arange(40).reshape(20, 2))))
    assert all(isinstance(v, int) for v in whole.columns.decode(whole.split("test").x)["c0"])


def test_options(save):
    path = save(IMAGES)
    assert load(str(path), DataConfig(binarise="dynamic")).spec.levels == 2
    refused(path, kind=UsageError, resolution=8)
    refused(save(np.zeros((20, 2))), kind=UsageError, label="c0")
