"""A file of lines that only grows, and survives being cut off anywhere."""

import fcntl

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.serving.automation.journal import BLOCK, Journal, as_json

LINES = [{"n": 1, "text": "a\nb"}, {"n": 2, "text": "Ça 🙂"}, {"n": 3, "text": ""}]


def write(path, lines):
    with Journal(path) as journal:
        for line in lines:
            journal.append(line)


def test_lines_stay_and_more_can_follow(tmp_path):
    path = tmp_path / "a.part"
    write(path, LINES[:2])
    with Journal(path) as journal:
        assert (journal.count, journal.last) == (2, LINES[1])
        journal.append(LINES[2])
        assert (journal.count, journal.last) == (3, LINES[2])
        assert list(journal) == LINES


def test_a_file_cut_off_at_any_byte_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "a.part"
    write(path, LINES)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            assert list(journal) == LINES[: sum(end <= length for end in ends)]
            journal.append({"n": 9})
            assert list(journal)[-1] == {"n": 9}


def test_what_follows_a_damaged_line_is_cut_off_too(tmp_path):
    path = tmp_path / "a.part"
    path.write_bytes(as_json(LINES[0]) + b"\n\0\0\0\0\n" + as_json(LINES[1]) + b"\n")
    with Journal(path) as journal:
        assert list(journal) == LINES[:1]


def test_only_one_process_writes(tmp_path):
    path = tmp_path / "a.part"
    with Journal(path), pytest.raises(TinyslmError, match="is already writing"):
        Journal(path)
    with Journal(path):
        pass


def test_halves_of_surrogate_pairs_survive(tmp_path):
    path = tmp_path / "a.part"
    write(path, [{"text": "\ud800 Ça"}])
    with Journal(path) as journal:
        assert list(journal) == [{"text": "\ud800 Ça"}]


def test_another_file_at_its_path_is_not_taken_for_it(tmp_path):
    path = tmp_path / "a.part"
    with Journal(path) as journal:
        journal.append(LINES[0])
        path.unlink()
        write(path, LINES[1:])
        journal.append(LINES[2])
        assert list(journal) == [LINES[0], LINES[2]]
        journal.remove()
    with Journal(path) as other:
        assert list(other) == LINES[1:]


def test_a_file_that_goes_while_it_is_opened_is_not_written(tmp_path, monkeypatch):
    path = tmp_path / "a.part"
    monkeypatch.setattr(fcntl, "flock", lambda file, how: path.unlink())
    with pytest.raises(TinyslmError, match="is already writing"):
        Journal(path)


def test_lines_may_be_longer_than_what_is_read_at_once(tmp_path):
    path = tmp_path / "a.part"
    lines = [{"text": "x" * length} for length in (3, BLOCK, 2 * BLOCK, 1)]
    write(path, lines)
    with Journal(path) as journal:
        assert list(journal) == lines
        journal.clear()
        assert (list(journal), journal.count, journal.last) == ([], 0, None)
        journal.append(LINES[0])
        assert list(journal) == LINES[:1]
