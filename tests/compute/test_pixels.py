"""Every image becomes RGB by one rule, and a set whose pixels may mean something else is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from emt_plugin.catalog import Catalog, CatalogError
from emt_plugin.data.image_set import as_rgb, pixel_hash
from emt_plugin.data.pixels import PixelRule, decoded, to_rgb
from emt_plugin.errors import CouldNotRun
from tests.compute.image_files import bundled, catalog_with, class_folders, encoded, hashes, load


def photo(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)).convert(mode)


def pixels(image: Image.Image) -> list[list[list[int]]]:
    return np.asarray(image).tolist()


def sixteen(image: Image.Image, factor: int = 257) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * factor)


def white_ink(image: Image.Image) -> Image.Image:
    """The ink as transparency of an image that is white all over."""
    made = Image.new("RGBA", image.size, "white")
    made.putalpha(image.convert("L"))
    return made


def png_16(values: np.ndarray, clear: bytes = b"") -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write in colour."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", clear) if clear else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_plain_images_are_as_pillow_has_them(mode: str) -> None:
    image = photo(mode)
    seen = decoded(encoded(image))
    assert (seen.image.tobytes(), seen.done, seen.span) == (image.convert("RGB").tobytes(), (), None)
    assert as_rgb(photo()) is not None
    rgb = photo()
    assert as_rgb(rgb) is rgb


@given(st.tuples(*[st.integers(0, 255)] * 4), st.tuples(*[st.integers(0, 255)] * 3))
def test_alpha_is_laid_over_the_background(pixel: tuple[int, ...], background: tuple[int, ...]) -> None:
    colour = "#" + bytes(background).hex()
    (made,) = to_rgb(Image.new("RGBA", (1, 1), pixel), PixelRule(colour)).image.get_flattened_data()
    alpha = pixel[3] / 255
    for channel, ink, below in zip(made, pixel, background, strict=False):
        assert abs(channel - (alpha * ink + (1 - alpha) * below)) <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_every_mode_with_alpha_is_laid_over(mode: str) -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((0, 0), (51, 51, 51, 255))
    if mode == "PA":
        made = clear.convert("RGB").convert("P")
        made.putalpha(clear.getchannel("A"))
    else:
        by_way = {"La": "LA", "RGBa": "RGBA"}.get(mode, mode)
        made = clear.convert(by_way) if mode == by_way else clear.convert(by_way).convert(mode)
    assert made.mode == mode
    seen = to_rgb(made, PixelRule("#0000ff"))
    assert pixels(seen.image) == [[[51, 51, 51], [0, 0, 255]]]
    assert seen.done == ("transparency over #0000ff",)


@pytest.mark.parametrize(("mode", "clear"), [("P", b"\x00\xff"), ("P", 0), ("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_a_colour_that_stands_for_transparency(mode: str, clear: object) -> None:
    image = Image.new(mode, (2, 1), 0)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 255 if mode == "1" else 1 if mode == "P" else 7)
    seen = decoded(encoded(image, transparency=clear))
    first, second = np.asarray(seen.image)[0].tolist()
    assert first == [255, 255, 255]
    assert second == {"P": [10, 20, 30], "L": [7, 7, 7], "RGB": [9, 9, 9], "1": [255, 255, 255]}[mode]
    assert seen.done == ("transparency over white",)


def test_an_alpha_channel_that_hides_nothing_is_dropped() -> None:
    image = photo()
    opaque = image.copy()
    opaque.putalpha(255)
    seen = decoded(encoded(opaque))
    assert (seen.image.tobytes(), seen.done) == (image.tobytes(), ())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind: str) -> None:
    values = np.array([[0, 128, 129, 257, 4095, 65535]], dtype=np.uint16)
    seen = decoded(encoded(Image.fromarray(values), kind))
    assert [pixel[0] for pixel in pixels(seen.image)[0]] == [0, 0, 1, 1, 16, 255]  # v / 257, rounded
    assert seen.done == ("16-bit grey scaled from 0..65535",)
    assert seen.span is not None
    assert (seen.span.low, seen.span.high) == (0, 65535)


def test_big_endian_tiff_pgm_and_declared_ranges() -> None:
    big = Image.frombytes("I;16B", (2, 1), struct.pack(">2H", 257, 65535))
    assert pixels(to_rgb(big).image) == [[[1] * 3, [255] * 3]]
    pgm = b"P5 2 1 1023\n" + struct.pack(">2H", 512, 1023)
    assert pixels(decoded(pgm).image) == [[[128] * 3, [255] * 3]]
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert pixels(decoded(encoded(floats, "TIFF")).image) == [[[0] * 3, [128] * 3, [255] * 3]]
    hounsfield = Image.fromarray(np.array([[-1000, 0, 1000]], dtype=np.int32))
    seen = decoded(encoded(hounsfield, "TIFF"), PixelRule(range=(-1000, 1000)))
    assert [pixel[0] for pixel in pixels(seen.image)[0]] == [0, 128, 255]


def test_16_bit_colour_keeps_its_high_bytes() -> None:
    values = np.random.default_rng(2).integers(0, 65536, (3, 4, 3))
    seen = decoded(png_16(values))
    assert pixels(seen.image) == (values >> 8).tolist()
    assert seen.done == ("16-bit colour to 8 bits",)


@pytest.mark.parametrize(
    ("row", "clear", "expected"),
    [
        ([[1000], [65535], [0]], (1000,), [[0, 0, 255], [255] * 3, [0] * 3]),
        ([[65535, 0], [257 * 9, 65535]], (), [[0, 0, 255], [9] * 3]),
        ([[257] * 3, [257 * 9, 65535, 0]], (257,) * 3, [[0, 0, 255], [9, 255, 0]]),
        ([[65535, 65535, 65535, 0], [257 * 9, 0, 0, 65535]], (), [[0, 0, 255], [9, 0, 0]]),
    ],
    ids=["grey and a clear value", "grey and alpha", "colour and a clear colour", "colour and alpha"],
)
def test_16_bits_and_transparency(row: list[list[int]], clear: tuple[int, ...], expected: list[list[int]]) -> None:
    seen = decoded(png_16(np.array([row]), struct.pack(f">{len(clear)}H", *clear)), PixelRule("#0000ff"))
    assert pixels(seen.image) == [expected]
    assert "transparency over #0000ff" in seen.done
    assert len(seen.done) == 2


@pytest.mark.parametrize("turned", range(1, 9))
def test_exif_orientation_is_followed(turned: int) -> None:
    # What undoes each orientation, by the EXIF standard's table: rows and columns of the stored image.
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    upright = {
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.T, 6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T, 8: np.rot90(stored),
    }[turned]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turned
    seen = decoded(encoded(Image.fromarray(stored), exif=exif))
    assert np.asarray(seen.image)[..., 0].tolist() == upright.tolist()
    assert seen.done == (() if turned == 1 else ("turned by EXIF orientation",))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    seen = decoded(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options))
    assert seen.image.getpixel((0, 0)) == (255, 0, 0)
    assert seen.done == ("first of several frames",)


def test_other_colour_spaces() -> None:
    cmyk = photo("CMYK")
    seen = decoded(encoded(cmyk, "TIFF"))
    assert (seen.image.tobytes(), seen.done) == (cmyk.convert("RGB").tobytes(), ("CMYK to RGB",))
    lab = to_rgb(Image.new("LAB", (1, 1), (255, 128, 128)))
    assert lab.done == ("LAB to RGB",)
    assert min(lab.image.getpixel((0, 0))) >= 250  # L* of 100 is white


def test_white_ink_on_transparent_white_is_refused_and_read_over_black(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "digits", "mnist-mini", white_ink)
    with pytest.raises(
        CouldNotRun, match=r"19 of 20 files that differ decode to the same pixels.*background = \"black\""
    ) as caught:
        load(root, like="mnist")
    assert "\n" not in str(caught.value)
    over_black = load(root, 'background = "black"', like="mnist")
    plain = load(class_folders(tmp_path / "plain", "mnist-mini"), like="mnist")
    assert hashes(over_black) == hashes(plain)
    assert over_black.pixels == {"transparency over black": 20}
    assert plain.pixels == {}
    (image,) = over_black.images(over_black.items[:1])
    assert pixel_hash(image) == over_black.items[0].hash
    with pytest.raises(CouldNotRun, match=r'background = "white"'):
        load(
            class_folders(tmp_path / "black", "mnist-mini", lambda image: black_ink(image)),
            'background = "black"',
            like="mnist",
        )


def black_ink(image: Image.Image) -> Image.Image:
    made = Image.new("RGBA", image.size, "black")
    made.putalpha(image.convert("L"))
    return made


def test_16_bit_images_are_the_8_bit_images(tmp_path: Path) -> None:
    deep = load(class_folders(tmp_path / "deep", "fashion-mini", sixteen))
    plain = load(class_folders(tmp_path / "plain", "fashion-mini"))
    assert hashes(deep) == hashes(plain)
    assert deep.pixels == {"16-bit grey scaled from 0..65535": 20}


def test_12_bits_in_16_are_noticed_and_declared(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "deep", "fashion-mini", lambda image: sixteen(image, 16))
    with pytest.raises(CouldNotRun, match=r"values from 0 to 4080, a small part of 0 to 65535: write range = \[0, 4095\]"):
        load(root)
    declared = load(root, "range = [0, 4080]")
    assert hashes(declared) == hashes(load(class_folders(tmp_path / "plain", "fashion-mini")))
    with pytest.raises(CouldNotRun, match=r"values from 0 to 4080, outside 0 to 1023: write range = \[0, 4095\]"):
        load(root, "range = [0, 1023]")


@pytest.mark.parametrize(
    ("value", "says"),
    [(255.0, r"values from 0 to 255, outside 0 to 1: write range = \[0, 255\]"), (float("nan"), "no numbers")],
)
def test_floats_outside_their_range(tmp_path: Path, value: float, says: str) -> None:
    def floats(image: Image.Image) -> Image.Image:
        made = np.asarray(image.convert("L")).astype(np.float32) / 255
        return Image.fromarray((made * value).astype(np.float32))

    root = class_folders(tmp_path / "floats", "fashion-mini", floats, file="{}.tiff")
    with pytest.raises(CouldNotRun, match=says):
        load(root)


def test_dark_16_bit_colour_is_noticed(tmp_path: Path) -> None:
    labels, rows = bundled("fashion-mini")
    for index, (image, label) in enumerate(rows):
        folder = tmp_path / "set" / labels[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").write_bytes(png_16(np.asarray(image.convert("RGB")).astype(int) * 16))
    with pytest.raises(CouldNotRun, match="16-bit colour images use at most 6% of their range"):
        load(tmp_path / "set")


def test_a_range_for_plain_images_is_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "plain", "fashion-mini")
    with pytest.raises(CouldNotRun, match="range is for 16-bit, 32-bit and float images"):
        load(root, "range = [0, 4095]")


def test_a_few_alike_are_noted_and_copies_are_not(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set", "fashion-mini", n=40)
    first = next(iter(sorted(root.rglob("*.png"))))
    for copy in range(30):
        (first.parent / f"copy-{copy}.png").write_bytes(first.read_bytes())
    assert load(root).notes == ()
    with Image.open(first) as image:
        image.save(first.parent / "again.bmp")
    assert load(root).notes == ("1 file that differs decodes to the same pixels as another",)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('background = "grey"', 'must be "white", "black" or a colour like'),
        ("range = [1, 0]", "must be two numbers"),
        ("range = 4095", "must be two numbers"),
        ("range = [0, true]", "must be two numbers"),
    ],
)
def test_wrong_keys_say_what_they_must_be(tmp_path: Path, keys: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        catalog_with(tmp_path, tmp_path, keys)


def test_the_index_remembers_what_was_done(tmp_path: Path) -> None:
    from emt_plugin.data import load_image_set
    from emt_plugin.store import Store

    root = class_folders(tmp_path / "deep", "fashion-mini", sixteen)
    spec = Catalog.load().image_set(str(root))
    first = load_image_set(spec, store=Store(tmp_path / "store"))
    again = load_image_set(spec, store=Store(tmp_path / "store"))
    assert again == first
    assert again.pixels == {"16-bit grey scaled from 0..65535": 20}
    other = load_image_set(catalog_with(tmp_path, root, "range = [0, 131070]").image_set("it"), store=Store(tmp_path / "store"))
    assert hashes(other) != hashes(first)


def test_what_was_done_is_in_the_pairs_record(tmp_path: Path) -> None:
    from emt_plugin.evaluation import Evaluator
    from emt_plugin.settings import Compute, Settings, Storing

    class_folders(tmp_path / "ink/val", "mnist-mini", white_ink)
    class_folders(tmp_path / "plain", "mnist-mini")
    (tmp_path / "catalog.toml").write_text(
        f'[image_sets.ink]\nsource = "{tmp_path}/ink"\nlike = "mnist"\nbackground = "black"\n'
        f'[image_sets.plain]\nsource = "{tmp_path}/plain"\nlike = "mnist"\n'
    )
    catalog = Catalog.load(tmp_path / "catalog.toml")
    compute = Compute(limit=20, dtype="float32", device="cpu", batch_size=20)
    said: list[str] = []
    evaluator = Evaluator(Settings(catalog=catalog, compute=compute, store=Storing(tmp_path / "store")), None, said.append)
    model = evaluator.model(catalog.model("llava-mini"))
    ink, plain = (evaluator.measure(model, evaluator.image_set(catalog.image_set(name))) for name in ("ink", "plain"))
    evaluator.close()
    note = "it has no test split: its val split is evaluated"
    assert (ink.image_set_facts["pixels"], ink.image_set_facts["notes"]) == ({"transparency over black": 20}, [note])
    assert (plain.image_set_facts["pixels"], plain.image_set_facts["notes"]) == (None, None)
    assert [line for line in said if "split" in line] == [f"image set ink: {note}"]
    assert ink.scores[0].correct == plain.scores[0].correct
    assert ink.replay is not None
    assert plain.replay is not None
    assert (ink.replay.computed, plain.replay.computed) == (20, 0)  # the same pixels, so the same observations


def several(root: Path, first_frames_differ: bool, n: int = 12) -> Path:
    """Animations that may begin with one and the same frame."""
    labels, rows = bundled("fashion-mini")
    for index, (image, label) in enumerate(rows[:n]):
        frame = image.convert("RGB")
        first = frame if first_frames_differ else Image.new("RGB", frame.size)
        (root / labels[label]).mkdir(parents=True, exist_ok=True)
        path = root / labels[label] / f"{index}.webp"
        first.save(path, save_all=True, append_images=[frame.rotate(90)], lossless=True)
    return root


def test_animations_that_begin_alike_are_refused(tmp_path: Path) -> None:
    assert load(several(tmp_path / "differ", True)).pixels == {"first of several frames": 12}
    with pytest.raises(CouldNotRun, match=r"11 of 12 files that differ .* animations, of which the first frame is read"):
        load(several(tmp_path / "alike", False))


def test_duplicates_of_the_sets_own_are_noted_and_contradictions_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set", "fashion-mini", n=10)
    files = sorted(root.rglob("*.png"))
    for file in files:
        with Image.open(file) as image:
            image.save(file.with_suffix(".bmp"))
    assert load(root).notes == ("10 files that differ decode to the same pixels as another",)
    for file in files:
        other = next(folder for folder in sorted(root.iterdir()) if folder != file.parent)
        file.with_suffix(".bmp").rename(other / f"{file.parent.name}-{file.stem}.bmp")
    with pytest.raises(CouldNotRun, match=r"10 of 20 files that differ .* each with the class that it shows"):
        load(root)
