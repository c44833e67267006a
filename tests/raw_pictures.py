"""Pictures of every mode and format, each with what a person sees in it. `python -m tests.raw_pictures` writes the table of docs/data.md.

PNG and TIFF are written by hand, number by number, since a test must not use the library that it tests.
"""

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from study.inference import pictures

PAGE = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- modes: python -m tests.raw_pictures -->\n", "<!-- end of modes -->\n"
AS_IT_IS, ON_WHITE = "as it is", "transparent pixels are white"


def grey(bits: int = 8) -> np.ndarray:
    """Return int [20, 24] from black to white, in numbers of so many bits, lighter to the right, so that any turn changes it."""
    return np.round(np.add.outer(np.linspace(0, 0.3, 20), np.linspace(0, 0.7, 24)) * (2**bits - 1)).astype(np.int64)


def colour(bits: int = 8) -> np.ndarray:
    """Return int [20, 24, 3] in numbers of so many bits."""
    ramp = grey(bits)
    return np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1)


def seen(numbers: np.ndarray, bits: int = 8) -> np.ndarray:
    """Return uint8 [20, 24, 3] for whole numbers whose white is the highest of so many bits."""
    eight = np.round(numbers / (2**bits - 1) * 255).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[..., None], 3, axis=2)


def whitened(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    out = picture.copy()
    out[where] = 255
    return out


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture. `shows` is uint8 [H, W, 3], or None where it is refused with `done`."""

    holds: str
    format: str
    data: bytes = field(repr=False)
    shows: np.ndarray | None = field(repr=False)
    done: str
    loss: int = 1  # of 255, that the format may cost

    @property
    def id(self) -> str:
        return f"{self.format}-{self.holds}".replace(" ", "_")


# ---- writers -------------------------------------------------------------------------------------------------


def png(numbers: np.ndarray, bits: int, kind: int, transparent: tuple[int, ...] | None = None) -> bytes:
    """Write a PNG. `kind` is its colour type (0 grey, 2 RGB, 4 grey with alpha, 6 RGB with alpha), `transparent` its tRNS chunk."""
    rows = b"".join(b"\0" + packed(row, bits, ">") for row in numbers)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", numbers.shape[1], numbers.shape[0], bits, kind, 0, 0, 0))]
    if transparent is not None:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(numbers: np.ndarray, bits: int, *, photometric: int | None = None, form: int = 1, tags: dict[int, Any] | None = None,
    order: str = "<") -> bytes:  # fmt: skip
    """Write a TIFF of `numbers` [H, W] or [H, W, channels]. `form` is its SampleFormat (1 unsigned, 2 signed, 3 float)."""
    channels = numbers.shape[2] if numbers.ndim == 3 else 1
    data = b"".join(packed(row, bits, order, form) for row in numbers)
    height, width = numbers.shape[:2]
    photometric = photometric if photometric is not None else 1 if channels < 3 else 2
    values: dict[int, Any] = {256: width, 257: height, 258: (bits,) * channels, 259: 1, 262: photometric, 273: 0, 277: channels,
        278: height, 279: len(data), 339: (form,) * channels}  # fmt: skip
    values |= tags or {}
    start = 8 + 2 + 12 * len(values) + 4
    extra, entries = b"", b""
    for tag, value in sorted(values.items()):
        listed = value if isinstance(value, tuple) else (value,)
        kind, code = (4, "I") if tag in (273, 279) else (3, "H")
        body = struct.pack(f"{order}{len(listed)}{code}", *listed)
        if len(body) > 4:
            body, extra = struct.pack(f"{order}I", start + len(extra)), extra + body + b"\0" * (len(body) % 2)
        entries += struct.pack(f"{order}HHI", tag, kind, len(listed)) + body.ljust(4, b"\0")
    entries = entries.replace(struct.pack(f"{order}HHII", 273, 4, 1, 0), struct.pack(f"{order}HHII", 273, 4, 1, start + len(extra)))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}IH", 8, len(values)) + entries + bytes(4) + extra + data


def packed(row: np.ndarray, bits: int, order: str, form: int = 1) -> bytes:
    """Return one row of samples as PNG and TIFF pack them: the first sample in the highest bits."""
    if bits >= 8 and bits != 12:
        return row.astype(f"{order}{'iuf'[(1, 0, 2)[form - 1]]}{bits // 8}").tobytes()
    text = "".join(f"{int(v):0{bits}b}" for v in row.ravel())
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# ---- the cases -----------------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    yield from _whole_numbers()
    yield from _transparent()
    yield from _refused()
    yield from _by_pillow()


def _whole_numbers() -> Iterator[Case]:
    for bits in (1, 2, 4, 8, 16):
        name, done = f"grey, {bits} bit{'s' * (bits > 1)}", "65535 is white" if bits == 16 else AS_IT_IS
        yield Case(holds=name, format="PNG", data=png(grey(bits), bits, 0), shows=seen(grey(bits), bits), done=done)
        yield Case(holds=name, format="TIFF", data=tiff(grey(bits), bits), shows=seen(grey(bits), bits), done=done)
        yield Case(
            holds=f"{name}, 0 is white", format="TIFF", data=tiff(grey(bits), bits, photometric=0), shows=255 - seen(grey(bits), bits),
            done="inverted"
        )  # fmt: skip
    yield Case(holds="grey, 12 bits", format="TIFF", data=tiff(grey(12), 12), shows=seen(grey(12), 12), done="4095 is white")
    for bits in (10, 12, 14):
        data = tiff(grey(bits), 16, tags={281: 2**bits - 1})
        yield Case(holds=f"grey, 16 bits, MaxSampleValue {2**bits - 1}", format="TIFF", data=data, shows=seen(grey(bits), bits),
            done=f"{2**bits - 1} is white")  # fmt: skip
    yield Case(holds="grey, 16 bits, MaxSampleValue 50000", format="TIFF", data=tiff(grey(15), 16, tags={281: 50000}),
        shows=seen(grey(15), 16), done="65535 is white")  # fmt: skip
    for bits in (8, 16):
        done = "the upper 8 bits" if bits == 16 else AS_IT_IS
        yield Case(holds=f"RGB, {bits} bits", format="PNG", data=png(colour(bits), bits, 2), shows=seen(colour(bits), bits), done=done)
        yield Case(holds=f"RGB, {bits} bits", format="TIFF", data=tiff(colour(bits), bits), shows=seen(colour(bits), bits), done=done)
    floats = grey(8) / 255
    yield Case(holds="floats, 0 to 1", format="TIFF", data=tiff(floats, 32, form=3), shows=seen(grey(8)), done="1 is white")
    yield Case(holds="floats, 0 to 1, 0 is white", format="TIFF", data=tiff(floats, 32, form=3, photometric=0),
        shows=255 - seen(grey(8)), done="inverted")  # fmt: skip
    yield Case(holds="floats, 0 to 0.5", format="TIFF", data=tiff(floats / 2, 32, form=3), shows=seen(grey(8) / 2), done="1 is white")


def _transparent() -> Iterator[Case]:
    for bits in (1, 2, 4, 8, 16):
        key = 1 if bits < 4 else int(grey(bits)[3, 5])
        shows = whitened(seen(grey(bits), bits), grey(bits) == key)
        yield Case(holds=f"grey, {bits} bit{'s' * (bits > 1)}, one value transparent", format="PNG",
            data=png(grey(bits), bits, 0, (key,)), shows=shows, done=ON_WHITE)  # fmt: skip
    key = tuple(int(v) for v in colour()[4, 6])
    yield Case(holds="RGB, 8 bits, one colour transparent", format="PNG", data=png(colour(), 8, 2, key),
        shows=whitened(seen(colour()), (colour() == key).all(axis=2)), done=ON_WHITE)  # fmt: skip
    hole = np.zeros((20, 24), bool)
    hole[5:12, 3:20] = True
    alpha = np.where(hole, 0, 255)
    for bits in (8, 16):
        high = 257 if bits == 16 else 1
        for holds, numbers, plain, kind in (("grey", grey(), seen(grey()), 4), ("RGB", colour(), seen(colour()), 6)):
            data = np.dstack([numbers, alpha]) * high
            yield Case(holds=f"{holds} with alpha, {bits} bits", format="PNG", data=png(data, bits, kind), shows=whitened(plain, hole),
                done=ON_WHITE)  # fmt: skip
            if holds == "grey" and bits == 16:
                continue
            for extra, what in ((2, ""), (1, ", multiplied by it")):
                made = np.where(hole[..., None], 0, data) if extra == 1 else data
                yield Case(holds=f"{holds} with alpha{what}, {bits} bits", format="TIFF", data=tiff(made, bits, tags={338: extra}),
                    shows=whitened(plain, hole), done=ON_WHITE)  # fmt: skip
    palette = Image.fromarray(colour().astype(np.uint8)).quantize(16)
    numbers, colours = np.asarray(palette), np.asarray(palette.convert("RGB"))
    for format in ("PNG", "GIF"):
        yield Case(holds="a palette", format=format, data=saved(palette, format), shows=colours, done=AS_IT_IS)
        shows = whitened(colours, numbers == 3)
        yield Case(holds="a palette, one entry transparent", format=format, data=saved(palette, format, transparency=3), shows=shows,
            done=ON_WHITE)  # fmt: skip
    yield Case(holds="a palette", format="TIFF", data=saved(palette, "TIFF"), shows=colours, done=AS_IT_IS)
    rgba = Image.fromarray(np.dstack([colour(), alpha]).astype(np.uint8))
    yield Case(holds="RGB with alpha, 8 bits", format="WEBP", data=saved(rgba, "WEBP", lossless=True),
        shows=whitened(seen(colour()), hole), done=ON_WHITE)  # fmt: skip


def _refused() -> Iterator[Case]:
    no_sign = "refused: whole numbers with a sign"
    for bits in (8, 16, 32):
        yield Case(
            holds=f"whole numbers with a sign, {bits} bits", format="TIFF", data=tiff(grey(7), bits, form=2), shows=None, done=no_sign
        )
    yield Case(holds="whole numbers, 32 bits", format="TIFF", data=tiff(grey(8), 32), shows=None, done="refused: 32 bits")
    for bad, what in ((np.nan, "NaN"), (np.inf, "infinity"), (1e6, "a number above 1"), (-0.5, "a number below 0")):
        values = grey(8) / 255
        values[0, 0] = bad
        done = "refused: NaN or infinite" if not np.isfinite(bad) else "refused: floats from"
        yield Case(holds=f"floats, with {what}", format="TIFF", data=tiff(values, 32, form=3), shows=None, done=done)
    yield Case(holds="floats, 0 to 255", format="TIFF", data=tiff(grey(8), 32, form=3), shows=None, done="refused: floats from")
    yield Case(holds="grey, 16 bits, more than its MaxSampleValue 4095", format="TIFF", data=tiff(grey(14), 16, tags={281: 4095}),
        shows=None, done="refused: numbers from")  # fmt: skip
    yield Case(holds="RGB, 16 bits, MaxSampleValue 4095", format="TIFF", data=tiff(colour(12), 16, tags={281: (4095,) * 3}), shows=None,
        done="refused: MaxSampleValue")  # fmt: skip
    yield Case(holds="RGB, 16 bits, one colour transparent", format="PNG", data=png(colour(16), 16, 2, (1799, 1799, 1799)), shows=None,
        done="refused: transparent")  # fmt: skip
    yield Case(holds="L*a*b*", format="TIFF", data=tiff(colour(), 8, photometric=8), shows=None, done="refused: colours in L*a*b*")
    for bits in (8, 16):
        five = np.dstack([colour(), grey(), grey()])
        yield Case(holds=f"five channels, {bits} bits", format="TIFF", data=tiff(five, bits), shows=None, done="refused: 5 channels")
    yield Case(holds="RGB as floats", format="TIFF", data=tiff(colour() / 255, 32, form=3), shows=None, done="refused: 3 channels")


def _by_pillow() -> Iterator[Case]:
    """Yield cases that Pillow writes: lossy formats, and formats that nobody writes by hand."""
    soft = np.stack([grey(), grey() // 2, 255 - grey()], axis=-1).astype(np.uint8)
    rgb = Image.fromarray(soft)
    options: dict[str, dict[str, Any]] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"quality": 98}, "AVIF": {"quality": 98},
        "HEIF": {"quality": 98}}  # fmt: skip
    for format in ("JPEG", "BMP", "WEBP", "AVIF", "HEIF"):
        if format in pictures.formats():
            yield Case(holds="RGB, 8 bits", format=format, data=saved(rgb, format, **options.get(format, {})), shows=soft,
                done=AS_IT_IS, loss=24)  # fmt: skip
    for format in ("JPEG", "BMP"):
        yield Case(holds="grey, 8 bits", format=format,
            data=saved(Image.fromarray(grey().astype(np.uint8)), format, **options.get(format, {})), shows=seen(grey()), done=AS_IT_IS,
            loss=6)  # fmt: skip
    four = rgb.convert("CMYK")
    for format in ("JPEG", "TIFF"):
        yield Case(holds="CMYK, 8 bits", format=format, data=saved(four, format, **options.get(format, {})), shows=soft,
            done="to RGB, without a colour profile", loss=24)  # fmt: skip


def table() -> str:
    """Return a table from the results of `pictures.decode`: rows by what the file holds, columns by format."""
    found: dict[str, dict[str, str]] = {}
    for case in cases():
        if case.format not in ("AVIF", "HEIF"):  # whether these are read depends on the machine
            found.setdefault(case.holds, {})[case.format] = done(case)
    formats = list(dict.fromkeys(f for row in found.values() for f in row))
    lines = ["| the file holds | " + " | ".join(formats) + " |", "| --- " * (len(formats) + 1) + "|"]
    rows = [f"| {holds} | " + " | ".join(row.get(f, "") for f in formats) + " |" for holds, row in found.items()]
    return "\n".join([*lines, *rows]) + "\n"


def done(case: Case) -> str:
    try:
        pictures.decode(io.BytesIO(case.data), 3)
    except ValueError:
        return "refused"
    return case.done


def page(of: Callable[[], str] = table) -> str:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    return before + BEGIN + of() + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.exit(0 if PAGE.write_text(page()) else 1)
