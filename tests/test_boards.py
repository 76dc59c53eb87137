"""The boards' integer trainers: bit for bit what docs/boards.md says."""

import numpy as np
import pytest
import reference

from zipml_codec.kernels import boards

CODES = [(1, False), (2, False), (4, False), (8, False), (2, True), (4, True), (8, True)]


def levels(generator, shape, bits, signed):
    """Random levels, and that of 1.0."""
    one = 2 ** (bits - 2) if signed else 2 ** (bits - 1)
    return generator.integers(-one if signed else 0, one + 1, shape), one


def models(generator, features, size):
    """A model to start from, of int32 below `size`."""
    return generator.integers(-size, size, features).astype(np.int32)


def test_the_golden_vector_of_the_hardware():
    lines = np.zeros((2, 16), "<u4")
    lines[:, 0], lines[:, 15] = (0x00432188, 0x00103488), (0x00400000, 0xFFE00000)
    x, later = np.zeros((2, 3), np.int32)
    assert boards.harp(lines.view(np.uint8), x, later, 4, False, 4, 0) == 0
    assert x.tolist() == later.tolist() == [112640, 9472, 112384]
    q1, q2, labels = np.array([[8, 1, 3], [8, 4, 0]]), np.array([[8, 2, 4], [8, 3, 1]]), np.array([2**22, -(2**21)])
    np.testing.assert_array_equal(reference.harp_rows(q1, q2, labels, 4), lines.view(np.uint8))
    assert reference.harp_epoch(q1, q2, labels, 8, 4, 0, [0, 0, 0]) == ([112640, 9472, 112384], 0)


@pytest.mark.parametrize(("bits", "signed"), CODES)
@pytest.mark.parametrize(("rows", "shift", "mask"), [(1, 0, 0), (21, 0, 0), (21, 9, 3), (16, 5, 7), (5, 31, 15)])
def test_harp_bit_for_bit(bits, signed, rows, shift, mask):
    generator = np.random.default_rng([bits, signed, rows, shift])
    wrapped = 0
    for features, size in ((1, 2**31), (7, 2**24), (512 // bits + 5, 2**23), (240 // bits, 2**31)):
        start = models(generator, features, size)
        x, later, expected = start.copy(), start.copy(), start.tolist()
        copies = []
        for _ in range(2):
            q1, one = levels(generator, (rows, features), bits, signed)
            q2, _ = levels(generator, (rows, features), bits, signed)
            labels = models(generator, rows, max(size, 2**23))
            copies.append((q1, q2, labels, reference.harp_rows(q1, q2, labels, bits)))
        for epoch in range(3):
            q1, q2, labels, lines = copies[epoch % 2]
            expected, lost = reference.harp_epoch(q1, q2, labels, one, shift, mask, expected)
            assert boards.harp(lines, x, later, bits, signed, shift, mask) == lost
            assert x.tolist() == later.tolist() == expected
            wrapped += lost
    assert wrapped or rows == 1, "no register has wrapped: the test is of less than it should be"


@pytest.mark.parametrize(("bits", "signed"), CODES)
@pytest.mark.parametrize(("rows", "shift", "mask"), [(1, 0, 0), (21, 0, 0), (21, 9, 3), (16, 5, 7), (5, 31, 15)])
def test_pynq_bit_for_bit(bits, signed, rows, shift, mask):
    generator = np.random.default_rng([bits, signed, rows, shift])
    for features, size, label in ((1, 2**31, 1e3), (7, 2**24, 1.0), (130, 2**23, 1.0), (64 // bits, 2**31, 1e30), (9, 9, 1e-6)):
        q, one = levels(generator, (rows, features), bits, signed)
        labels = (generator.normal(size=rows) * label).astype(np.float32)
        words = reference.pynq_rows(q, labels, bits)
        x, later = models(generator, features, size), models(generator, features, size)
        expected = x.tolist(), later.tolist()
        for _ in range(3):
            *expected, lost = reference.pynq_epoch(q, labels, one, shift, mask, *expected)
            assert boards.pynq(words, x, later, bits, signed, shift, mask) == lost
            assert (x.tolist(), later.tolist()) == tuple(expected)
        if mask >= rows:
            assert x.tolist() != later.tolist() or shift == 31, "a batch that has not ended is not in the model yet"


@pytest.mark.parametrize("planes", [1, 2, 3, 5, 8, 13, 16, 24, 31, 32])
@pytest.mark.parametrize(("groups", "chunks", "shift", "batch"), [(1, 1, 0, 8), (3, 2, 4, 8), (3, 1, 7, 16), (2, 3, 31, 64)])
def test_mlweaving_bit_for_bit(planes, groups, chunks, shift, batch):
    generator = np.random.default_rng([planes, groups, chunks, shift])
    for features, size, label in ((64 * chunks, 2**31, 2**31), (64 * chunks - 9, 2**23, 2**23), (64 * chunks - 63, 40, 40)):
        v = np.zeros((8 * groups, 64 * chunks), np.uint32)
        v[:, :features] = generator.integers(0, 2**32, (8 * groups, features), np.uint32)
        data, labels = reference.mlweaving_lines(v[:, :features]).ravel(), models(generator, 8 * groups, label)
        x, later = models(generator, 64 * chunks, size), models(generator, 64 * chunks, size)
        expected = x.tolist(), later.tolist()
        for _ in range(2):
            *expected, lost = reference.mlweaving_epoch(v, labels, planes, shift, batch, *expected)
            assert boards.mlweaving(data, labels, x, later, planes, shift, batch - 1) == lost
            assert (x.tolist(), later.tolist()) == tuple(expected)


def test_codes_that_no_level_has_are_what_the_cores_make_of_them():
    """RTL/qfixed_dot_product.vhd: of 2 bits 3 is 1.0 and -2 nothing; of more, the top bit alone is what it is, not minus that."""
    odd = [(2, False, 3, 1.0), (2, True, 2, 0.0), (4, True, 8, 2.0), (4, False, 9, -7 / 8), (8, False, 128, 1.0)]
    for bits, signed, code, value in odd:
        row = np.zeros((1, 16), np.uint8)
        row[0, 0] = code
        np.testing.assert_array_equal(boards.decode(row, 1, bits, signed, 0, 1), [[value]])


def test_decoded_values_are_the_levels():
    generator = np.random.default_rng(0)
    for bits, signed in CODES:
        (q1, one), (q2, _) = (levels(generator, (5, 600), bits, signed) for _ in range(2))
        lines = reference.harp_rows(q1, q2, np.zeros(5, int), bits)
        np.testing.assert_array_equal(boards.decode(lines, 600, bits, signed, 0, 2), q1 / one)
        np.testing.assert_array_equal(boards.decode(lines, 600, bits, signed, 1, 2), q2 / one)


@pytest.mark.parametrize("mask", [0, 3])
def test_float_sgd(mask):
    generator = np.random.default_rng(mask)
    a1, a2, labels = generator.normal(size=(11, 5)), generator.normal(size=(11, 5)), generator.normal(size=11)
    x, later = np.zeros((2, 5))
    expected, pending = np.zeros((2, 5))
    for row in range(11):
        pending = pending - (a1[row] @ expected - labels[row]) * a2[row] / 16
        if row & mask == mask or row == 10:
            expected = pending
    for first, last in ((0, 4), (4, 4), (4, 11)):
        boards.floats(a1[first:last], a2[first:last], labels[first:last], x, later, 1 / 16, first, mask, 10)
    np.testing.assert_allclose(x, expected, rtol=1e-13)
    np.testing.assert_array_equal(x, later)


def test_the_kernels_refuse_what_does_not_fit():
    rows, x = np.zeros((2, 64), np.uint8), np.zeros(60, np.int32)
    for call in (
        lambda: boards.harp(rows, x, x.copy(), 4, False, 32, 0),
        lambda: boards.harp(rows, x, x.copy(), 4, False, 4, 2),
        lambda: boards.harp(rows, x, x[:9].copy(), 4, False, 4, 0),
        lambda: boards.harp(rows, x, x.copy(), 8, False, 4, 0),
        lambda: boards.harp(rows, x, x.copy(), 1, True, 4, 0),
        lambda: boards.pynq(rows[:, :32].copy(), x, x.copy(), 4, False, 4, 0),
        lambda: boards.mlweaving(rows[0], x[:8], np.zeros(64, np.int32), np.zeros(64, np.int32), 4, 4, 7),
        lambda: boards.decode(rows, 65, 8, False, 0, 1),
        lambda: boards.floats(np.zeros((1, 2)), np.zeros((1, 3)), np.zeros(1), np.zeros(2), np.zeros(2), 1.0, 0, 0, 0),
    ):
        with pytest.raises(ValueError):
            call()
