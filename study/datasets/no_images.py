"""Files that are named as images and are none: what they hold instead, recognised by their first bytes, and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HEAD = 1024  # bytes looked at


@dataclass(frozen=True)
class Holds:
    what: str  # after "is"
    way_out: str  # a command or deed


LFS = Holds("a pointer of Git LFS, not the image", "run git lfs pull where it was cloned")
ANNEX = Holds("a pointer of git-annex, not the image", "run git annex get . where it was cloned")
DVC = Holds("a pointer of DVC, not the image", "run dvc pull where it was cloned")
EMPTY = Holds("an empty file", "copy or download it again")
PAGE = Holds("a web page, not the image", "download it again: the address, or a login, gave a page instead")
NOTE = Holds("an answer of a server, not the image", "download it again, and look at what the answer says")
SVG = Holds("an SVG drawing", "export it as PNG")
PDF = Holds("a PDF", "export its pages as PNG")
ARCHIVE = Holds("an archive", "unpack it")
VIDEO = Holds("a video", "save its frames as PNG")
HEIC = Holds("a HEIC picture", "pip install pillow-heif and call it .heic, or save it as JPEG")
DICOM = Holds("a DICOM file", "export it as PNG")
ARRAY = Holds("a NumPy array", "save its pictures as PNG, or give them to own_dataset")
PICTURE = Holds("an intact picture, but none of JPEG/PNG/BMP/WEBP/GIF/TIFF", "save it as PNG or JPEG")
CUT = Holds("cut short", "copy or download it again")
LINK = Holds("a link to nowhere", "restore what it leads to, or remove the link")
LARGE = Holds("larger than is read", "save it smaller, or cut it")
OTHER = Holds("of a form that is not read", "save it as PNG or JPEG")
BAD = Holds("damaged", "repair or remove it")

PICTURES = (
    *(b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cJXL \r\n\x87\n", b"\xff\x0a"),  # JPEG 2000, JPEG XL
    *(
        b"8BPS",
        b"DDS ",
        b"%!PS",
        b"\xc5\xd0\xd3\xc6",
        b"gimp xcf",
        b"II\xbc",
        b"\x76\x2f\x31\x01",
        b"FUJIFILMCCD-RAW",
    ),  # Photoshop to OpenEXR, JPEG XR
    *(
        b"P1\n",
        b"P2\n",
        b"P3\n",
        b"P4\n",
        b"P5\n",
        b"P6\n",
        b"P1 ",
        b"P2 ",
        b"P3 ",
        b"P4 ",
        b"P5 ",
        b"P6 ",
        b"P7\n",
        b"Pf\n",
        b"PF\n",
    ),  # Netpbm
    *(
        b"\x00\x00\x01\x00\x01\x00",
        b"icns",
        b"qoif",
        b"SIMPLE  =",
        b"\x89HDF",
        b"\x01\xda\x01",
        b"\x01\xda\x00",
        b"#define ",
    ),  # icons, FITS, HDF5, SGI, XBM
)
"""First bytes of pictures that we do not read, and of containers of them."""

STARTS = (
    (b"version https://git-lfs", LFS),
    (b"version https://hawser", LFS),
    (b"/annex/objects/", ANNEX),
    (b"<svg", SVG),
    (b"<!doctype svg", SVG),
    (b"<!doctype", PAGE),
    (b"<html", PAGE),
    (b"<head", PAGE),
    (b'{"', NOTE),
    (b"{'", NOTE),
    (b"%pdf", PDF),
    (b"pk\x03\x04", ARCHIVE),
    (b"\x1f\x8b", ARCHIVE),
    (b"rar!", ARCHIVE),
    (b"7z\xbc\xaf", ARCHIVE),
    (b"\x93numpy", ARRAY),
    (b"\x1aE\xdf\xa3".lower(), VIDEO),
    *((start.lower(), PICTURE) for start in PICTURES),
)
BRANDS = {
    b"heic": HEIC,
    b"heix": HEIC,
    b"hevc": HEIC,
    b"mif1": HEIC,
    b"msf1": HEIC,
}  # of ISO media files; the others are videos, but for AVIF


def held_by(path: Path) -> Holds | None:
    """Return what an image's file holds instead; None where that cannot be told, or it is damaged."""
    try:
        if not path.is_file():  # a FIFO would wait for ever
            return None
        with open(path, "rb") as file:
            raw = file.read(HEAD)
    except OSError:
        return None
    head = raw.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not raw:
        return EMPTY
    if raw[4:8] == b"ftyp":
        return BRANDS.get(raw[8:12], None if raw[8:12] in (b"avif", b"avis") else VIDEO)
    if raw[128:132] == b"DICM":
        return DICOM
    if head.startswith(b"<?xml"):
        return SVG if b"<svg" in head else PAGE
    if b"annex/objects/" in head and len(raw) < HEAD:
        return ANNEX
    if head.startswith(b"outs:") and b"md5:" in head:
        return DVC
    return next((holds for start, holds in STARTS if head.startswith(start)), None)


def way_out(reason: str) -> Holds:
    """Return what to do about an image that cannot be read for this reason, in the words of the reader that failed."""
    known = next(
        (h for h in (LFS, ANNEX, DVC, EMPTY, PAGE, NOTE, SVG, PDF, ARCHIVE, VIDEO, HEIC, DICOM, ARRAY, PICTURE, LINK) if h.what in reason),
        None,
    )
    if known:
        return known
    if "truncated" in reason or "ends early" in reason:
        return CUT
    if "pixels" in reason:
        return LARGE
    return OTHER if any(word in reason for word in ("channels", "save it", "nothing says")) else BAD


def said(path: Path, reason: str) -> str:
    """Return why a file cannot be read as an image: what it holds instead, where that can be told."""
    held = held_by(path)
    return held.what if held else reason


def ways_out(reasons: Iterable[str]) -> str:
    """Return what to do about images that cannot be read for these reasons, the most frequent first."""
    counted = Counter(way_out(reason).way_out for reason in reasons).most_common()
    return "What to do: " + "; ".join(f"{way} ({count})" if len(counted) > 1 else way for way, count in counted) + "."
