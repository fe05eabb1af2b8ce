"""The words of examples/detection.py are where it says, and boxes are given to the right ones."""

import numpy as np
import pytest

from examples.detection import Answer, Word, answers_of, overlap, write_words


def test_overlap():
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (3, 3, 4, 4)) == overlap((0, 0, 2, 2), (2, 0, 4, 2)) == 0


def test_each_word_gets_the_box_at_its_place():
    words = [
        Word("River", 10, (0, 0, 40, 10)),
        Word("123", 10, (0, 50, 30, 60)),
        Word("zebra", 5, (90, 90, 99, 99)),
    ]
    detected = [
        ((50, 0, 90, 10), "river"),
        ((1, 0, 42, 10), "rIvEr."),
        ((0, 49, 30, 60), "128"),
        ((0, 0, 8, 9), "R"),
    ]
    answers, false = answers_of(words, detected)
    assert answers == [Answer(True, "rIvEr.", True), Answer(True, "128", False), Answer(False, "", False)]
    assert false == 2


def test_nothing_is_found():
    words = [Word("River", 10, (0, 0, 40, 10))]
    assert answers_of(words, []) == ([Answer(False, "", False)], 0)


def test_words_are_in_their_boxes_and_apart():
    photograph = np.random.default_rng(0).integers(100, 150, (240, 320, 3)).astype(np.uint8)
    image, words = write_words(photograph, np.random.default_rng(1))
    inked = (image != photograph).any(axis=2)
    assert len(words) > 5
    for i, word in enumerate(words):
        left, top, right, bottom = map(int, word.box)
        ink = inked[top:bottom, left:right]
        assert ink.any(axis=1).all() and ink.any(axis=0).mean() > 0.5
        assert bottom - top >= word.height - 2
        inked[top:bottom, left:right] = False
        assert all(overlap(word.box, other.box) == 0 for other in words[:i])
    assert not inked.any()
