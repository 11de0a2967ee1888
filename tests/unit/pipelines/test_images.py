import base64
import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipelines.data.bigbench_images import CIFAR_CLASSES, bigbench_images
from pipelines.data.image_parts import one_class, shared_images, split
from pipelines.data.images import READERS, digits, image_folder
from pipelines.data.npz_images import npz
from pipelines.errors import DataError

RANDOM = np.random.default_rng(0)


def picture(height: int = 4, width: int = 5, channels: int = 3) -> NDArray[np.uint8]:
    return RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(pixels: NDArray[np.generic], kind: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, kind)
    return stream.getvalue()


def example(pixels: NDArray[np.uint8], name: str) -> dict[str, Any]:
    scores = {each: int(each == name) for each in CIFAR_CLASSES}
    return {"input": base64.b64encode(encoded(pixels)).decode(), "target_scores": scores}


def task(folder: Path, examples: object) -> Path:
    path = folder / "task.json"
    path.write_text(json.dumps({"examples": examples}))
    return path


def class_folder(root: Path, **classes: list[bytes]) -> Path:
    for name, files in classes.items():
        (root / name).mkdir(parents=True)
        for number, content in enumerate(files):
            (root / name / f"{number}.png").write_bytes(content)
    return root


def refused(path: Path, reader: str) -> str:
    with pytest.raises(DataError) as caught:
        READERS[reader](path)
    assert caught.value.hint
    return caught.value.message.replace(str(path), "DATA")


def test_bigbench_images_are_pixels_and_cifars_class_numbers(tmp_path: Path) -> None:
    pictures = [picture() for _ in range(3)]
    names = ("truck", "airplane", "cat")

    pixels, labels = bigbench_images(task(tmp_path, [example(*pair) for pair in zip(pictures, names, strict=True)]))

    np.testing.assert_array_equal(pixels, np.stack(pictures))
    assert (pixels.dtype, pixels.shape, labels.dtype) == (np.uint8, (3, 4, 5, 3), np.int64)
    assert labels.tolist() == [9, 0, 3]


def test_bigbench_class_may_stand_under_target(tmp_path: Path) -> None:
    given_target = {"input": example(picture(), "cat")["input"], "target": "ship"}

    assert bigbench_images(task(tmp_path, [given_target]))[1].tolist() == [8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": 7}, "no image under `input`"),
        ({"input": " "}, "no image under `input`"),
        ({"input": "***"}, "`input` is not base64: Only base64 data is allowed"),
        ({"target_scores": None}, "no class under `target_scores` or `target`"),
        ({"target_scores": {"cat": 1, "dog": 1}}, "2 classes share the highest score"),
        ({"target_scores": {"cat": 0, "unicorn": 1}}, "the class 'unicorn' is not CIFAR-10's"),
    ],
)
def test_example_that_cannot_be_used_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    examples = [example(picture(), "cat"), {**example(picture(), "dog"), **change}]

    assert refused(task(tmp_path, examples), "bigbench-images") == f"DATA, example 2: {message}"


def test_example_that_is_no_image_is_named(tmp_path: Path) -> None:
    broken = {**example(picture(), "cat"), "input": base64.b64encode(b"no image at all").decode()}

    message = refused(task(tmp_path, [example(picture(), "cat"), broken]), "bigbench-images")

    assert message.startswith("DATA, example 2: the image cannot be decoded: cannot identify image file")


def test_example_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    examples = [example(picture(4, 5), "cat"), example(picture(4, 6), "dog")]

    assert refused(task(tmp_path, examples), "bigbench-images") == (
        "DATA, example 2: 6x4 pixels, not 5x4 like DATA, example 1"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "DATA: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[" * 100_000, "DATA: not JSON: maximum recursion depth exceeded"),
        ("[]", "DATA: no list under `examples`"),
        ('{"examples": []}', "DATA: no list under `examples`"),
        ('{"examples": ["text"]}', "DATA, example 1: no class under `target_scores` or `target`"),
    ],
)
def test_file_of_another_layout_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "task.json"
    path.write_text(content)

    assert refused(path, "bigbench-images").startswith(message)


def test_task_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json", "bigbench-images") == "DATA: cannot be read: No such file or directory"


@given(st.integers(0, 2**20), st.integers(0, 255), st.booleans())
@settings(max_examples=60, deadline=None)
def test_damaged_image_is_decoded_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: bool
) -> None:
    content = bytearray(encoded(np.arange(60, dtype=np.uint8).reshape(4, 5, 3)))
    position %= len(content)
    content[position] = value
    root = tmp_path_factory.mktemp("damaged")
    class_folder(root, a=[bytes(content[:position] if cut else content)])

    with suppress(DataError):
        assert image_folder(root)[0].dtype == np.uint8


def test_folder_of_classes_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    first, second, third = picture(), picture(), picture()
    class_folder(tmp_path, zebra=[encoded(first)], ant=[encoded(second), encoded(third)])
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()

    pixels, labels = image_folder(tmp_path)

    np.testing.assert_array_equal(pixels, np.stack([second, third, first]))
    assert labels.tolist() == [0, 0, 1]


def test_jpeg_is_read_as_well(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "flat.JPG").write_bytes(encoded(np.full((8, 8, 3), 90, dtype=np.uint8), "JPEG"))

    pixels, _ = image_folder(tmp_path)

    assert pixels.shape == (1, 8, 8, 3)
    assert abs(int(pixels.mean()) - 90) <= 2


def test_grey_images_have_one_channel_unless_one_is_coloured(tmp_path: Path) -> None:
    grey, coloured = encoded(picture(channels=1)), encoded(picture())

    assert image_folder(class_folder(tmp_path / "grey", a=[grey], b=[grey]))[0].shape == (2, 4, 5, 1)
    assert image_folder(class_folder(tmp_path / "mixed", a=[grey], b=[coloured]))[0].shape == (2, 4, 5, 3)


def test_first_image_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    class_folder(tmp_path, a=[encoded(picture(4, 5))], b=[encoded(picture(4, 5)), encoded(picture(8, 9))])

    assert refused(tmp_path, "image-folder") == "DATA/b/1.png: 9x8 pixels, not 5x4 like DATA/a/0.png"


def test_image_of_sixteen_bits_is_refused_not_clipped(tmp_path: Path) -> None:
    class_folder(tmp_path, a=[encoded(np.full((4, 5, 1), 40_000, dtype=np.uint16))])

    assert refused(tmp_path, "image-folder") == "DATA/a/0.png: pixels of the kind I;16, not 8 bits a channel"


def test_folder_without_classes_or_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    class_folder(tmp_path / "half", a=[encoded(picture())], b=[])

    assert refused(tmp_path / "none", "image-folder") == "DATA: no such folder"
    assert refused(tmp_path / "empty", "image-folder") == "DATA: holds no sub-folders"
    assert refused(tmp_path / "half", "image-folder") == "DATA/b: holds no PNG and no JPEG file"


def test_npz_keeps_its_own_pixels(tmp_path: Path) -> None:
    images = RANDOM.normal(size=(3, 4, 5, 2)).astype(np.float32)
    np.savez(tmp_path / "set.npz", images=images, labels=np.array([2, 0, 1], dtype=np.uint8))

    pixels, labels = npz(tmp_path / "set.npz")

    np.testing.assert_array_equal(pixels, images)
    assert (labels.dtype, labels.tolist()) == (np.int64, [2, 0, 1])


IMAGES, LABELS = np.zeros((2, 4, 5, 1), dtype=np.uint8), np.array([0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": IMAGES, "labels": LABELS}, "DATA: no array `images`, it holds pixels, labels"),
        ({"images": IMAGES}, "DATA: no array `labels`, it holds images"),
        ({}, "DATA: no array `images`, it holds none"),
        (
            {"images": IMAGES[..., 0], "labels": LABELS},
            "DATA: `images` is uint8 (2, 4, 5), not numbers of shape (n, height, width, channels)",
        ),
        (
            {"images": IMAGES.astype(str), "labels": LABELS},
            "DATA: `images` is <U3 (2, 4, 5, 1), not numbers of shape (n, height, width, channels)",
        ),
        ({"images": IMAGES, "labels": LABELS[:1]}, "DATA: `labels` is int64 (1,), not 2 class numbers"),
        ({"images": IMAGES, "labels": LABELS * 0.5}, "DATA: `labels` is float64 (2,), not 2 class numbers"),
        ({"images": IMAGES, "labels": LABELS - 1}, "DATA: a label is -1"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "DATA: holds no images"),
        ({"images": IMAGES * np.nan, "labels": LABELS}, "DATA: an image holds NaN or infinity"),
    ],
)
def test_npz_of_another_layout_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)

    assert refused(tmp_path / "set.npz", "npz") == message


def test_file_that_is_no_npz_is_refused_and_nothing_pickled_is_read(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not an archive")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04cut")
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object), labels=LABELS)
    np.save(tmp_path / "alone.npy", IMAGES)

    for name in ("text.npz", "cut.npz", "objects.npz", "none.npz"):
        assert refused(tmp_path / name, "npz").startswith("DATA: cannot be read as .npz: "), name
    assert refused(tmp_path / "alone.npy", "npz") == "DATA: holds one array, not `images` and `labels`"


@pytest.mark.slow
def test_digits_are_grey_and_whole() -> None:
    pixels, labels = digits()

    assert (pixels.dtype, pixels.shape) == (np.uint8, (1797, 8, 8, 1))
    assert (int(pixels.min()), int(pixels.max())) == (0, 16)
    assert sorted(set(labels.tolist())) == list(range(10))


@given(st.integers(1, 300), st.data())
def test_parts_are_disjoint_and_together_everything(n: int, data: st.DataObject) -> None:
    held_out = data.draw(st.integers(0, n - 1))
    pixels, labels = np.arange(n)[:, None, None, None], np.arange(n)

    shown, measured = (split(pixels, labels, part, held_out) for part in ("calibration", "evaluation"))

    assert len(shown[1]) == held_out
    assert sorted([*shown[1], *measured[1]]) == list(range(n))
    assert shown[0].ravel().tolist() == shown[1].tolist()
    assert shared_images(*[part[0] for part in (measured, shown)]) == 0
    assert split(pixels, labels, "all", held_out)[1].tolist() == list(range(n))


def test_set_sorted_by_class_is_drawn_from_every_class_alike() -> None:
    labels = np.repeat(np.arange(10), 1000)

    _, shown = split(np.zeros((10_000, 1, 1, 1)), labels, "calibration", 400)

    assert np.bincount(shown).tolist() == [40] * 10


def test_training_calibration_and_evaluation_images_share_none() -> None:
    pixels, labels = np.zeros((100, 1, 1, 1)), np.arange(100)

    parts = [split(pixels, labels, part, 10, 40)[1] for part in ("calibration", "training", "evaluation")]

    assert [len(part) for part in parts] == [10, 40, 50]
    assert sorted(np.concatenate(parts).tolist()) == labels.tolist()
    assert split(pixels, labels, "calibration", 10)[1].tolist() == parts[0].tolist()


def test_training_images_that_leave_none_to_evaluate_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        split(np.zeros((5, 1, 1, 1)), np.arange(5), "training", 2, 3)

    assert caught.value.message == "2 calibration images and 3 training images of 5 leave none to evaluate"


@pytest.mark.parametrize("held_out", [5, 6])
def test_holding_out_everything_is_refused(held_out: int) -> None:
    with pytest.raises(DataError) as caught:
        split(np.zeros((5, 1, 1, 1)), np.arange(5), "calibration", held_out)

    assert caught.value.message == f"{held_out} calibration images of 5 leave none to evaluate"


def test_image_that_stands_in_both_parts_is_counted_by_its_pixels() -> None:
    first, second = RANDOM.integers(0, 256, (2, 6, 4, 4, 3), dtype=np.uint8)
    second[[1, 4]] = first[[5, 0]]

    assert shared_images(first, second) == 2
    assert shared_images(first, first) == 6
    assert shared_images(first, first[:, ::-1]) == 0


def test_set_of_one_class_is_told() -> None:
    assert one_class(np.full(1200, 3)) == "all 1,200 images are of class 3"
    assert one_class(np.array([0, 1])) == ""
