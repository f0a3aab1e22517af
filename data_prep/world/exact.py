"""Arithmetic that ends with the same bits on every processor.

IEEE 754 fixes sums, products, quotients and square roots to the last bit; sines, exponentials and powers are
rounded differently by each mathematics library, and a product of matrices is summed in the order of its
kernel. What decides a pixel is therefore computed here, from the operations that are fixed, one array at a
time: numpy fuses no two of them. Reordering or regrouping an expression here changes pixels."""

import math

import numpy as np

SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(11)]  # Taylor's series, for |x| <= pi/2
EXPONENTIAL = [1 / math.factorial(k) for k in range(14)]  # Taylor's series, for |x| <= ln 2 / 2
LN2 = 0.6931471805599453


def series(x, coefficients):
    """The polynomial of x with these coefficients, the constant first (Horner's scheme)."""
    total = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def sine(x):
    """sin(x) of radians in float64, right to about 1e-13 up to |x| of a few hundred."""
    x = np.asarray(x, np.float64)
    half_turns = np.floor(x / math.pi + 0.5)
    rest = x - half_turns * math.pi  # in -pi/2..pi/2
    # each half turn changes the sign
    return (1 - 2 * (half_turns % 2)) * rest * series(rest * rest, SINE)


def cosine(x):
    """cos(x) of radians in float64."""
    return sine(np.asarray(x, np.float64) + math.pi / 2)


def exponential(x):
    """e^x in float64, right to about 1e-14; x from -700 to 700."""
    x = np.asarray(x, np.float64)
    doublings = np.floor(x / LN2 + 0.5)
    # e^x = e^rest * 2^doublings with |rest| <= ln 2 / 2; the scaling by a power of two is exact
    return np.ldexp(series(x - doublings * LN2, EXPONENTIAL), doublings.astype(np.int64))


def root_power(x, share):
    """x^(share / 32) of x >= 0, from square roots; share is a whole number from 1 to 31."""
    total = None
    root = x
    for bit in (16, 8, 4, 2, 1):
        root = np.sqrt(root)  # x^(bit / 32)
        if share & bit:
            total = root if total is None else total * root
    return total


def dot(a, b):
    """Sum over the last axis, which has three entries, of a times b."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def length(a):
    """Euclidean length over the last axis, which has three entries."""
    return np.sqrt(dot(a, a))


def cross(a, b):
    """The vector product of two vectors (3,)."""
    a0, a1, a2 = a
    b0, b1, b2 = b
    return np.array([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def apply(matrix, vector):
    """A matrix (3, 3) times a vector (3,)."""
    return dot(matrix, vector)


def noise(seed, shape):
    """float32 (shape) with mean 0 and variance 1, nearly normal: each a sum of eight bytes of Philox, whose
    numbers are whole."""
    words = np.random.Philox(key=seed).random_raw(math.prod(shape))
    total = words.astype("<u8").view(np.uint8).reshape(-1, 8).sum(1, dtype=np.int32)  # (n,)
    # eight bytes have the mean 8 * 127.5 = 1020 and the variance 8 * (256^2 - 1) / 12
    return ((total - 1020) / math.sqrt(8 * (256**2 - 1) / 12)).astype(np.float32).reshape(shape)


def scrambled(cells):
    """A number in 0..1 (float32) for each row of three whole numbers (n, 3), without visible order: an
    integer hash. Returns (n,)."""
    x, y, z = cells.astype(np.int64).astype(np.uint32).T  # negative numbers wrap around
    h = x * np.uint32(0x9E3779B1) ^ y * np.uint32(0x85EBCA77) ^ z * np.uint32(0xC2B2AE3D)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        h = (h ^ (h >> np.uint32(shift))) * np.uint32(factor)
    # the upper 24 bits, which float32 holds exactly
    return ((h ^ (h >> np.uint32(15))) >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def resized(picture, count, axis):
    """`picture` with `count` entries along an axis, by the triangle filter, antialiased: bilinear, as Pillow
    resizes."""
    picture = np.moveaxis(picture, axis, 0)
    weights, places = triangle(len(picture), count)  # both (count, taps)
    spread = (slice(None),) + (None,) * (picture.ndim - 1)  # a weight per entry, the same for all other axes
    total = sum(weights[:, k][spread] * picture[places[:, k]] for k in range(weights.shape[1]))
    return np.moveaxis(total, 0, axis)


def triangle(before, after):
    """Weights (after, taps), float32, and which of `before` entries they weigh, of resizing one axis."""
    scale = before / after
    reach = max(scale, 1.0)  # of the filter to each side, in old entries; wider when shrinking: antialiased
    centre = (np.arange(after) + 0.5) * scale
    first = np.floor(centre - reach + 0.5)
    places = first[:, None] + np.arange(math.ceil(2 * reach) + 1)
    weights = np.maximum(1 - np.abs((places + 0.5 - centre[:, None]) / reach), 0)
    weights[(places < 0) | (places >= before)] = 0  # nothing lies beyond the edge
    total = sum(weights[:, k] for k in range(weights.shape[1]))
    return (weights / total[:, None]).astype(np.float32), places.clip(0, before - 1).astype(int)
