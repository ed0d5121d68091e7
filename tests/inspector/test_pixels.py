"""Pixel formats against memory that was packed bit by bit, as the Pixel Format Naming Convention draws it."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from inspector.camera.pixels import FORMATS, PixelFormatError, to_image

WIDTH, HEIGHT = 12, 6  # a width that no group of packed samples divides evenly at 10 bits


def samples(depth: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(depth).integers(0, 2**depth, (height, width)).astype(np.uint16)


def bit_stream(values: npt.NDArray[np.uint16], depth: int) -> bytes:
    """Little-endian: the first sample's lowest bit is the first byte's lowest."""
    total = sum(int(value) << (index * depth) for index, value in enumerate(values.ravel()))
    return total.to_bytes(-(-values.size * depth // 8), "little")


def group_packed(values: npt.NDArray[np.uint16], depth: int) -> bytes:
    """GigE Vision: upper bits of two samples around a byte that holds both lower ones."""
    low = depth - 8
    memory = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        mask = (1 << low) - 1
        memory += bytes([first >> low, (first & mask) | (second & mask) << 4, second >> low])
    return bytes(memory)


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
def test_unpacked_words_keep_their_upper_eight_bits(depth: int) -> None:
    values = samples(depth)
    image = to_image(values.astype("<u2").tobytes(), f"Mono{depth}", WIDTH, HEIGHT)
    np.testing.assert_array_equal(image[:, :, 0], values >> (depth - 8))


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("width", [WIDTH, 7])
def test_a_packed_stream_of_bits_runs_on_from_line_to_line(depth: int, width: int) -> None:
    values = samples(depth, width=width)
    image = to_image(bit_stream(values, depth), f"Mono{depth}p", width, HEIGHT)
    np.testing.assert_array_equal(image[:, :, 0], values >> (depth - 8))


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("padding", [1, 4])
def test_padded_lines_of_a_packed_format_begin_with_a_byte_each(depth: int, padding: int) -> None:
    values = samples(depth, width=7)
    memory = b"".join(bit_stream(line, depth) + b"\xff" * padding for line in values)
    image = to_image(memory, f"Mono{depth}p", 7, HEIGHT, padding=padding)
    np.testing.assert_array_equal(image[:, :, 0], values >> (depth - 8))


@pytest.mark.parametrize("depth", [10, 12])
def test_gige_visions_packed_groups(depth: int) -> None:
    values = samples(depth)
    image = to_image(group_packed(values, depth), f"Mono{depth}Packed", WIDTH, HEIGHT)
    np.testing.assert_array_equal(image[:, :, 0], values >> (depth - 8))


@pytest.mark.parametrize("pattern", ["RG", "GR", "GB", "BG"])
def test_a_bayer_pattern_is_named_by_its_first_two_pixels(pattern: str) -> None:
    colour = np.array([200, 120, 40], np.uint8)  # red, green, blue of an even surface
    first, second = ("RGB".index(letter) for letter in pattern)
    third, fourth = {"RG": (1, 2), "GR": (2, 1), "GB": (0, 1), "BG": (1, 0)}[pattern]
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint8)
    mosaic[::2, ::2], mosaic[::2, 1::2] = colour[first], colour[second]
    mosaic[1::2, ::2], mosaic[1::2, 1::2] = colour[third], colour[fourth]
    image = to_image(mosaic.tobytes(), f"Bayer{pattern}8", WIDTH, HEIGHT)
    np.testing.assert_array_equal(image, np.broadcast_to(colour, (HEIGHT, WIDTH, 3)))


def test_colours_become_rgb() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    alpha = np.full((HEIGHT, WIDTH, 1), 9, np.uint8)
    for name, memory in {
        "RGB8": rgb,
        "BGR8": rgb[:, :, ::-1],
        "RGBa8": np.concatenate([rgb, alpha], axis=2),
        "BGRa8": np.concatenate([rgb[:, :, ::-1], alpha], axis=2),
    }.items():
        np.testing.assert_array_equal(to_image(memory.tobytes(), name, WIDTH, HEIGHT), rgb, err_msg=name)


@pytest.mark.parametrize("padding", [0, 3])
def test_an_image_without_lines_is_an_error(padding: int) -> None:
    with pytest.raises(PixelFormatError, match="12 x 0 pixels"):
        to_image(b"", "Mono8", 12, 0, padding=padding)


def test_padding_is_no_pixel() -> None:
    values = samples(8).astype(np.uint8)
    padded = np.concatenate([values, np.full((HEIGHT, 5), 255, np.uint8)], axis=1)
    np.testing.assert_array_equal(to_image(padded.tobytes(), "Mono8", WIDTH, HEIGHT, padding=5)[:, :, 0], values)


def test_what_follows_the_image_is_left_alone() -> None:
    values = samples(8).astype(np.uint8)
    image = to_image(values.tobytes() + b"chunk data", "Mono8", WIDTH, HEIGHT)
    np.testing.assert_array_equal(image[:, :, 0], values)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_gives_an_image_of_its_size(name: str) -> None:
    image = to_image(bytes(WIDTH * HEIGHT * 4), name, WIDTH, HEIGHT)
    assert image.shape[:2] == (HEIGHT, WIDTH)
    assert image.shape[2] in {1, 3}
    assert image.dtype == np.uint8


def test_a_short_buffer_is_an_error() -> None:
    with pytest.raises(PixelFormatError, match="71 bytes of 72"):
        to_image(bytes(WIDTH * HEIGHT - 1), "Mono8", WIDTH, HEIGHT)


def test_an_unknown_format_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(PixelFormatError, match="Coord3D_C16 cannot be read: set PixelFormat"):
        to_image(bytes(1000), "Coord3D_C16", WIDTH, HEIGHT)


def test_the_colours_of_a_photograph_survive_a_bayer_pattern() -> None:
    y, x = np.mgrid[:64, :64].astype(np.float32)
    smooth = np.stack([x * 3, y * 3, 255 - x * 3], axis=2).astype(np.uint8)
    mosaic = np.zeros((64, 64), np.uint8)
    for (top, left), channel in {(0, 0): 0, (0, 1): 1, (1, 0): 1, (1, 1): 2}.items():
        mosaic[top::2, left::2] = smooth[top::2, left::2, channel]
    image = to_image(mosaic.tobytes(), "BayerRG8", 64, 64)
    assert cv2.absdiff(image[2:-2, 2:-2], smooth[2:-2, 2:-2]).max() <= 3
