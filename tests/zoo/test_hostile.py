"""Files of samples that lie, burst or lead elsewhere: refused in one line, within what was asked for."""

import io
import os
import random
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spikemorph.graph.errors import InputError
from spikemorph.zoo import load_data

SHAPE = (4_000_000, 1, 32, 32)  # four gigabytes of bytes


def one_line(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data(str(path))
    assert str(caught.value).isprintable(), caught.value  # so it is one line, too
    for word in words:
        assert word in str(caught.value), caught.value


# npz: what the header says, against what is there


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + content


def said(kind: str, shape: str, fortran: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


def written(path: Path, members: Mapping[str, bytes], packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


GOOD = npy(said("'|u1'", "(2, 3)"), bytes(6))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (npy(said("'|u1'", "(2, 4)"), bytes(6)), "x holds 6 bytes where its header promises 8"),
        (npy(said("'|u1'", "(2, 2)"), bytes(6)), "x holds 6 bytes where its header promises 4"),
        (npy(said("'<f4'", f"({10**12}, 9)"), bytes(6)), "header promises"),
        (npy(said("'|u1'", f"({'9' * 5000},)"), bytes(6)), "cannot be read"),
        (npy(said("'|u1'", f"({'1, ' * 40})"), bytes(1)), "x has no shape"),
        (npy(said("'|u1'", "(2, , 3)"), bytes(6)), "x has no shape"),
        (npy(said("'|u1'", "(-2, 3)"), bytes(6)), "header that cannot be read"),
        (npy(said("'|u1'", "(2, 3.0)"), bytes(6)), "header that cannot be read"),
        (npy("{'descr': __import__('os')", bytes(6)), "header that cannot be read"),
        (npy("(" * 5000, bytes(6)), "header that cannot be read"),
        (npy(said("'|O'", "(2, 3)"), bytes(48)), "x holds objects"),
        (npy(said("[('a', '<f4')]", "(2,)"), bytes(8)), "x holds records"),
        (npy(said("'<c8'", "(2,)"), bytes(16)), "x holds complex"),
        (npy(said("'<M8[s]'", "(2,)"), bytes(16)), "x holds dates"),
        (npy(said("'<f16'", "(2,)"), bytes(32)), "x holds <f16"),
        (npy(said("'|b1'", "(2, 3)"), bytes(6)), "x is bool; give uint8"),
        (npy(said("'|u1'", "()"), bytes(1)), "no samples"),
        (npy(said("'|u1'", "(2, 0, 3)")), "no samples"),
        (npy(said("'|u1'", "(2, 3)"), bytes(6), b"\x07\x00"), "no array of a known version"),
        (GOOD[:9], "header that cannot be read"),
        (b"", "no array of a known version"),
        (b"plain text", "no array of a known version"),
    ],
)
def test_a_header_that_is_none_or_lies_is_refused(tmp_path: Path, x: bytes, message: str) -> None:
    one_line(written(tmp_path / "own.npz", {"x.npy": x}), "own.npz: ", message)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (npy(said("'<i8'", "(1000000,)"), bytes(8_000_000)), "2 samples but 1000000 labels"),
        (npy(said("'|i1'", "(0, 2)"), b""), "y is of shape (0, 2)"),
        (npy(said("'<u8'", "(2,)"), b"\xff" * 16), "label 18446744073709551615 is no class"),
        (npy(said("'<f8'", "(2,)"), b"\xff" * 16), "y at index (0,) is nan"),
        (npy(said("'|b1'", "(2,)"), bytes(2)), "y is bool; give integers"),
    ],
)
def test_labels_are_checked_before_they_are_read(tmp_path: Path, y: bytes, message: str) -> None:
    one_line(written(tmp_path / "own.npz", {"x.npy": GOOD, "y.npy": y}), message)


def test_members_are_named_once_and_plainly(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", GOOD)
        archive.writestr("x.npy", npy(said("'|u1'", "(2, 3)"), bytes(range(6))))
    one_line(path, "it has 'x.npy' twice")
    one_line(written(path, {"x.npy": GOOD, "run.py": b"1"}), "member 'run.py' is no array")
    one_line(written(path, {"x.npy": GOOD, "a\nb.npy": GOOD}), "is no array")
    written(path, {"x.npy": GOOD, "x.np!y": GOOD})
    path.write_bytes(path.read_bytes().replace(b"x.np!y", b"x.npy\0"))
    one_line(path, "is no array")
    one_line(written(path, {"x.npy": GOOD}, zipfile.ZIP_LZMA), "packed in an unknown way")


def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    """In both orders of axes and of bytes, in all widths; whole, and the first few."""
    path, drawn = tmp_path / "own.npz", np.random.default_rng(0)
    for kind in ("<f2", ">f4", "<f8", "|u1"):
        for shape in ((7,), (7, 2), (7, 1, 3, 2)):
            plain = (255 * drawn.random(shape)).astype(kind)
            for x in (plain, np.asfortranarray(plain)):
                np.savez(path, x=x, y=np.arange(7, dtype=">i2"))
                wanted = x if kind == "|u1" else x.astype(np.float32)
                for spec, count in ((str(path), 7), (f"{path}:3", 3)):
                    found = load_data(spec)
                    assert np.array_equal(found.x.numpy(), wanted[:count])
                    assert found.y is not None and found.y.tolist() == list(range(count))
                assert len(load_data(str(path), most=2)) == 2 == len(load_data(f"{path}:5", most=2))
    with pytest.raises(InputError, match="cannot take 8 of 7 samples; ask for 1 to 7"):
        load_data(f"{path}:8")
    with pytest.raises(InputError, match="no data set"):
        load_data(f"{path}:0")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_changed_value_is_found_by_its_checksum(
    tmp_path: Path, save: Callable[..., None]
) -> None:
    path, x = tmp_path / "own.npz", np.random.default_rng(0).integers(0, 256, (50, 40), np.uint8)
    save(path, x=x)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    one_line(path, "cannot be read")


def test_no_damage_ends_otherwise_than_in_one_line(tmp_path: Path) -> None:
    """A thousand files with a few bytes changed, cut out, or put in; some are still whole."""
    rng, path, whole = random.Random(0), tmp_path / "own.npz", []
    words = (b"PK\x01\x02", b"PK\x05\x06", b"\xff" * 4, b"(99999999,", b"'|O'", b"{", b"\x93NUMPY")
    for save in (np.savez, np.savez_compressed):
        for x in (np.arange(60, dtype=np.uint8).reshape(6, 10), np.ones((5, 3), order="F")):
            content = io.BytesIO()
            save(content, x=x, y=np.arange(len(x)))
            whole.append(content.getvalue())
    fine = 0
    for _ in range(1000):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(content))
            word = rng.choice((*words, bytes([rng.randrange(256)])))
            content[at : at + rng.choice((0, 1, len(word)))] = rng.choice((word, word, b""))
        path.write_bytes(content)
        try:
            load_data(str(path))
            fine += 1
        except InputError as error:
            assert str(error).isprintable(), error
    assert 0 < fine < 500


# More than memory


def huge(path: Path, packed: bool) -> Path:
    """An npz of four gigabytes of zeros and their labels: small where packed, else full of holes.

    Its checksums are not right: they are compared only where all is read.
    """
    values = SHAPE[0] * SHAPE[2] * SHAPE[3]
    head = npy(said("'|u1'", str(SHAPE)))
    parts, listing = [], b""
    for name, start, size in (
        ("x.npy", head, values),
        ("y.npy", npy(said("'|u1'", f"({SHAPE[0]},)")), SHAPE[0]),
    ):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        first = deflate.compress(start) + deflate.flush(zlib.Z_FULL_FLUSH)
        block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
        rest = deflate.compress(bytes(size % 2**20)) + deflate.flush()
        content = first + block * (size // 2**20) + rest
        length = len(content) if packed else len(start) + size
        way = 8 if packed else 0
        numbers = (0, length, len(start) + size)
        middle = (
            way.to_bytes(2, "little")
            + bytes(4)
            + b"".join(n.to_bytes(4, "little") for n in numbers)
        )
        ends = len(name).to_bytes(2, "little")
        local = b"PK\x03\x04\x14\x00\x00\x00" + middle + ends + bytes(2) + name.encode()
        offset = sum(length for _, length in parts)
        listing += b"PK\x01\x02\x14\x00\x14\x00\x00\x00" + middle + ends + bytes(12)
        listing += offset.to_bytes(4, "little") + name.encode()
        parts.append((local + (content if packed else start), len(local) + length))
    total = sum(length for _, length in parts)
    end = b"PK\x05\x06" + bytes(4) + b"\x02\x00\x02\x00" + len(listing).to_bytes(4, "little")
    with path.open("wb") as file:
        at = 0
        for content, length in parts:
            file.seek(at)
            file.write(content)
            at += length
        file.seek(total)
        file.write(listing + end + total.to_bytes(4, "little") + bytes(2))
    return path


_LIMITED = """
import resource, sys
from pathlib import Path
from spikemorph.graph.errors import InputError
from spikemorph.zoo import load_data
load_data("digits:test:1")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
few = load_data(sys.argv[1] + ":120000")  # 123 MB, which copies would double
assert few.x.shape == (120000, 1, 32, 32) and few.y.shape == (120000,), few.x.shape
assert len(load_data(sys.argv[1], most=100)) == 100
try:
    load_data(sys.argv[1])
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "plain"])
def test_a_few_samples_of_more_than_memory_are_read(tmp_path: Path, packed: bool) -> None:
    """A process that may have 256 MiB more reads 120000 of four million samples, and cannot read all."""
    path = huge(tmp_path / "huge.npz", packed)
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("x.npy").file_size > 4_000_000_000
    ran = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(path)],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "more than memory holds; give the first N samples of it" in ran.stdout


# Folders of images


def image(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    made.save(path, **options)
    return path


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_images_that_are_more_or_other_than_pixels_are_refused(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(GREY).convert("P")
    frames = [Image.fromarray(GREY + 20 * k) for k in range(3)]
    cases: list[tuple[str, Image.Image | np.ndarray, dict[str, object], str]] = [
        ("a.jpg", GREY, {"exif": exif}, "EXIF orientation 6"),
        ("a.png", palette, {"transparency": 0}, "transparent pixels"),
        ("a.gif", frames[0], {"save_all": True, "append_images": frames[1:]}, "several frames"),
        ("a.webp", frames[0], {"save_all": True, "append_images": frames[1:]}, "several frames"),
        ("a.png", GREY.astype(np.uint16), {}, "its pixels are I;16"),
        ("a.jpg", Image.new("CMYK", (4, 3)), {}, "its pixels are CMYK"),
        ("a.png", Image.new("LA", (4, 3)), {}, "its pixels are LA"),
        ("a.tif", Image.new("F", (4, 3)), {}, "its pixels are F"),
        ("a.png", Image.new("1", (5000, 5000)), {}, "5000x5000 pixels, more than 16777216"),
    ]
    for k, (name, pixels, options, message) in enumerate(cases):
        path = image(tmp_path / str(k) / name, pixels, **options)
        one_line(path.parent, name, message)
    image(tmp_path / "fine" / "a.png", palette)
    image(tmp_path / "fine" / "b.png", Image.new("1", (4, 3)))
    assert load_data(str(tmp_path / "fine")).x.shape == (2, 3, 3, 4)


def test_an_image_that_bursts_is_not_decoded(tmp_path: Path) -> None:
    """A header of 60000 by 60000 pixels in front of a few bytes; one that Pillow only warns of."""
    whole = image(tmp_path / "a.png", GREY).read_bytes()
    for side in (60_000, 10_000):
        size = side.to_bytes(4, "big") * 2
        chunk = b"IHDR" + size + whole[24:29]
        broken = whole[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + whole[33:]
        (tmp_path / "a.png").write_bytes(broken)
        one_line(tmp_path, "a.png")


def test_a_file_of_another_kind_is_not_opened_by_its_own_decoder(tmp_path: Path) -> None:
    """PostScript would be run by another program; a portable map is harmless, and as foreign."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\nshowpage\n"
    for content in (postscript, b"P5 4 3 255\n" + bytes(12)):
        (tmp_path / "a.png").write_bytes(content)
        one_line(tmp_path, "a.png: not a readable image")


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    folder, other = tmp_path / "own", tmp_path / "other"
    image(folder / "cat" / "a.png", GREY)
    image(other / "b.png", GREY)
    (folder / "cat" / "again.png").symlink_to(folder / "cat" / "a.png")
    assert len(load_data(str(folder))) == 2  # stays inside
    (folder / "cat" / "b.png").symlink_to(other / "b.png")
    one_line(folder, "b.png: leads out of the folder")
    (folder / "cat" / "b.png").unlink()
    (folder / "dog").symlink_to(other)
    one_line(folder, "dog: leads out of the folder")
    (folder / "dog").unlink()
    (folder / "cat" / "c.png").symlink_to(folder / "cat" / "c.png")
    one_line(folder, "c.png")
    (folder / "cat" / "c.png").unlink()
    os.mkfifo(folder / "cat" / "c.png")
    one_line(folder, "c.png: is no plain file")


def test_names_and_places_that_are_odd(tmp_path: Path) -> None:
    image(tmp_path / "cat" / "a.png", GREY)
    image(tmp_path / "cat" / ".b.png", GREY + 1)  # hidden, as what file managers leave
    assert len(load_data(str(tmp_path))) == 1
    odd = tmp_path / "cat" / os.fsdecode(b"b\n\xff.png")
    odd.write_bytes(b"no image")
    one_line(tmp_path, r"b\n\udcff.png")
    odd.unlink()
    image(tmp_path / "beside.png", GREY)
    one_line(tmp_path, "beside.png: an image beside the folders of classes")


def test_thousands_of_classes_are_told_apart(tmp_path: Path) -> None:
    content = image(tmp_path / "one" / "a.png", GREY).read_bytes()
    for k in range(2000):
        (tmp_path / f"c{k:04}").mkdir()
        (tmp_path / f"c{k:04}" / "a.png").write_bytes(content)
    found = load_data(str(tmp_path))
    assert found.y is not None and found.y.tolist() == list(range(2001))
    assert found.classes[:2] == ("c0000", "c0001") and found.classes[-1] == "one"
