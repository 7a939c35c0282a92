"""The journal of a job: what was committed survives, and only one process writes."""

import sqlite3

import pytest

from tinyslm.batch.journal import Journal
from tinyslm.core.errors import TinyslmError

RECORDS = [("a", {"text": "a\nb"}), (2, {"text": "Ça 🙂 \ud800"}), ("c", {"text": ""})]


def test_settings_and_records_survive(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, tmp_path) as journal:
        assert (journal.settings, journal.count, journal.last()) == (None, 0, None)
        journal.begin({"seed": 1})
        for key, record in RECORDS[:2]:
            journal.put(key, record)
    with Journal(path, tmp_path) as journal:
        assert (journal.settings, journal.count, journal.last()) == ({"seed": 1}, 2, RECORDS[1][1])
        journal.put(*RECORDS[2])
        assert list(journal) == RECORDS
        journal.put("a", {"text": "new"})
        assert dict(journal)["a"] == {"text": "new"}
        journal.begin({"seed": 2})
        assert (journal.settings, journal.count, list(journal)) == ({"seed": 2}, 0, [])
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]


def test_a_journal_without_settings_is_deleted(tmp_path):
    with Journal(tmp_path / "journal", tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_only_one_process_opens_it(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, tmp_path / "out") as journal:
        journal.begin({})
        with pytest.raises(TinyslmError, match=r"is already writing .*out"):
            Journal(path, tmp_path / "out")
        with sqlite3.connect(path, timeout=0) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM records")
        other.close()
    with Journal(path, tmp_path):
        pass


@pytest.mark.parametrize("content", [b"mine", b"x" * 10_000], ids=["short", "long"])
def test_a_file_of_another_program_is_not_changed(tmp_path, content):
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(TinyslmError, match="is not a journal"):
        Journal(path, tmp_path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_not_changed(tmp_path):
    path = tmp_path / "journal"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(TinyslmError, match="belongs to another program"):
        Journal(path, tmp_path)
    assert path.read_bytes() == before


def test_a_damaged_journal_is_refused(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, tmp_path) as journal:
        journal.begin({})
        for number in range(200):
            journal.put(number, {"text": "x" * 1000})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TinyslmError, match="damaged"), Journal(path, tmp_path) as journal:
        list(journal)
