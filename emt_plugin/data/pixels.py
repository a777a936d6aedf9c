"""How a decoded image becomes RGB: one rule for every image that is looked at."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from PIL import Image, ImageColor

COLOUR_16 = "16-bit colour"
# What a mode's values run between where nothing else is declared.
DEEP = {"I": ("32-bit grey", 0, 65535), "F": ("float grey", 0, 1)}
SIXTEEN = ("16-bit grey", 0, 65535)
ORIENTATION = 0x0112
UPRIGHT = "turned by EXIF orientation"
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PixelRule:
    """What a catalog entry decides about pixels.

    Attributes:
        background: what shows through where an image is transparent: ``white``, ``black`` or ``#rrggbb``.
        range: the values that become 0 and 255 in 16-bit, 32-bit and float images; None for what their mode declares.
    """

    background: str = "white"
    range: tuple[float, float] | None = None


class Span(NamedTuple):
    """The values of a deep image.

    Attributes:
        kind: what sort of image it is.
        low: its least value; NaN where it holds a value that is no number.
        high: its greatest value.
        declared: the values that became 0 and 255.
    """

    kind: str
    low: float
    high: float
    declared: tuple[float, float]


class DecodedImage(NamedTuple):
    """An image as RGB.

    Attributes:
        image: it.
        done: what was done to its pixels, one phrase each; nothing for plain RGB, grey and palette images.
        span: the values of a deep image.
    """

    image: Image.Image
    done: tuple[str, ...] = ()
    span: Span | None = None


PLAIN = PixelRule()


def decoded(encoded: bytes, rule: PixelRule = PLAIN) -> DecodedImage:
    """An encoded image as RGB; of several frames the first.

    Raises:
        Exception: whatever the broken file leads Pillow to.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        several = bool(getattr(image, "is_animated", False))
        rawmode = _rawmode(image)
        seen = to_rgb(image, rule)
    if ";16" in rawmode and seen.span is None:
        # Pillow keeps the high byte of each channel.
        seen = seen._replace(done=(*seen.done, f"{COLOUR_16} to 8 bits"), span=_colour_span(seen.image))
    return seen._replace(done=(*seen.done, "first of several frames")) if several else seen


def to_rgb(image: Image.Image, rule: PixelRule = PLAIN) -> DecodedImage:
    """An image as RGB: turned upright, its transparency laid over a background, its deep values scaled to 0..255.

    Args:
        image: of any mode that Pillow has.
        rule: background and range.

    Returns:
        The image itself where it is RGB and nothing is to be done.
    """
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1) if image.info or hasattr(image, "tag_v2") else 1
    seen = _opaque(image, rule)
    if orientation in TURNED:
        return seen._replace(image=seen.image.transpose(TURNED[orientation]), done=(*seen.done, UPRIGHT))
    return seen


def as_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB, by the plain rule."""
    return to_rgb(image).image


def pixel_hash(image: Image.Image) -> str:
    """sha256 of an image's size and RGB pixels."""
    return rgb_hash(as_rgb(image))


def rgb_hash(rgb: Image.Image) -> str:
    """sha256 of an RGB image's size and pixels."""
    return sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def _opaque(image: Image.Image, rule: PixelRule) -> DecodedImage:
    mode = image.mode
    if mode in DEEP or mode.startswith("I;16"):
        return _scaled(image, rule)
    if image.has_transparency_data:
        return _composited(image, rule)
    if mode == "RGB":
        return DecodedImage(image)
    if mode == "LAB":
        return DecodedImage(_from_lab(image), ("LAB to RGB",))
    done = (f"{mode} to RGB",) if mode in {"CMYK", "YCbCr", "HSV"} else ()
    return DecodedImage(image.convert("RGB"), done)


def _composited(image: Image.Image, rule: PixelRule) -> DecodedImage:
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:
        return DecodedImage(rgba.convert("RGB"))
    below = Image.new("RGBA", rgba.size, (*ImageColor.getrgb(rule.background)[:3], 255))
    return DecodedImage(Image.alpha_composite(below, rgba).convert("RGB"), (f"transparency over {rule.background}",))


def _scaled(image: Image.Image, rule: PixelRule) -> DecodedImage:
    import numpy as np

    kind, low, high = DEEP.get(image.mode, SIXTEEN)
    declared = rule.range or (low, high)
    values = np.asarray(image).astype(np.float64)
    finite = bool(np.isfinite(values).all())
    span = Span(kind, float(values.min()) if finite else float("nan"), float(values.max()) if finite else 0.0, declared)
    share = (np.nan_to_num(values) - declared[0]) / (declared[1] - declared[0])
    grey = Image.fromarray(np.clip(np.rint(share * 255), 0, 255).astype(np.uint8))
    done = f"{kind} scaled from {declared[0]:g}..{declared[1]:g}"
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return DecodedImage(grey.convert("RGB"), (done,), span)
    grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    seen = _composited(grey, rule)
    return DecodedImage(seen.image, (done, *seen.done), span)


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
    assert made is not None
    return made


def _rawmode(image: Any) -> str:
    """How the file lays out its pixels, where Pillow says so."""
    tile = getattr(image, "tile", None)
    arguments = tile[0].args if tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _colour_span(image: Image.Image) -> Span:
    extrema = image.getextrema()
    return Span(COLOUR_16, min(low for low, _ in extrema), max(high for _, high in extrema), (0, 255))  # type: ignore[misc]
