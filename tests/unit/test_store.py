"""The store: what is put is there, for any number of writers and whatever a kill leaves; and it can be made smaller."""

from __future__ import annotations

import json
import mmap
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emt_plugin.cli import main
from emt_plugin.store import Store, byte_sizes, content_hash, file_hash, hashes, key_hash, prune, shelves

KEY = {"weights": "abc", "prompt": "What?"}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def shelf(folder: Path, key: dict[str, Any] = KEY, mode: Any = "use") -> Any:
    return Store(folder, mode).shelf("answer", key)


@given(st.dictionaries(st.text(min_size=1), PLAIN, max_size=5))
def test_any_plain_data_survives(tmp_path_factory: pytest.TempPathFactory, rows: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder)
    store.shelf("answer", KEY).put(rows)
    again = shelf(folder)
    assert {name: again.get(name).value for name in rows} == json.loads(json.dumps(rows))


def test_another_key_is_another_shelf(tmp_path: Path) -> None:
    shelf(tmp_path).put({"image": 1})
    assert shelf(tmp_path).get("image").value == 1
    assert shelf(tmp_path, {**KEY, "prompt": "What!"}).get("image") is None
    assert key_hash({"a": 1, "b": 2}) == key_hash({"b": 2, "a": 1}) != key_hash({"a": 2, "b": 1})


def test_a_kill_at_any_byte_costs_the_last_line_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.shelf("answer", KEY)
    for number in range(4):
        first.put({f"image{number}": [f"answer {number}", number]})
    (file,) = first.path.glob("*.jsonl")
    whole = file.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends) + (cut + 1 in ends)
        found = shelf(tmp_path)
        assert [found.get(f"image{number}") is not None for number in range(4)] == [number < complete for number in range(4)]
        # Whoever goes on does so behind no torn line.
        if cut % 17 == 0:
            later = Store(tmp_path)
            later.shelf("answer", KEY).put({"later": cut})
            assert shelf(tmp_path).get("later").value == cut
            for other in first.path.glob("*.jsonl"):
                if other != file:
                    other.unlink()


def write_many(folder: Path, writer: int) -> None:
    mine = shelf(folder)
    for number in range(50):
        mine.put({f"{writer}:{number}": number, "shared": "same"})


def test_several_writers_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = shelf(tmp_path)
    assert all(found.get(f"{writer}:{number}").value == number for writer in range(4) for number in range(50))
    assert found.get("shared").value == "same"


def test_what_is_put_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, signal, pathlib; from emt_plugin.store import Store; "
        f"s = Store(pathlib.Path({str(tmp_path)!r})).shelf('answer', {KEY!r}); "
        "s.put({'a': 1}); s.put({'b': 2}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (shelf(tmp_path).get("a").value, shelf(tmp_path).get("b").value) == (1, 2)


def test_refresh_reads_nothing_old_and_its_rows_are_the_newest(tmp_path: Path) -> None:
    shelf(tmp_path).put({"image": "old", "other": "old"})
    later = shelf(tmp_path, mode="refresh")
    assert later.get("image") is None
    time.sleep(1.1)  # rows are dated by the second
    later.put({"image": "new"})
    assert later.get("image").value == "new"
    again = shelf(tmp_path)
    assert (again.get("image").value, again.get("other").value) == ("new", "old")


def test_off_touches_no_file_and_keeps_nothing_for_the_next(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", "off")
    store.shelf("answer", KEY).put({"image": 1})
    assert store.shelf("answer", KEY).get("image") is None
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_said_once_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in its place")
    said: list[str] = []
    store = Store(tmp_path / "store", "use", said.append)
    first = store.shelf("answer", KEY)
    first.put({"image": 1})
    first.put({"image": 2})
    store.shelf("encoder", KEY).put({"image": 3})
    assert first.get("image").value == 2
    assert len(said) == 1
    assert "cannot be written" in said[0]


def test_what_cannot_be_written_can_still_be_read(tmp_path: Path) -> None:
    shelf(tmp_path).put({"image": "old"})
    store = Store(tmp_path, "use")
    store.give_up(OSError(28, "No space left on device"))
    found = store.shelf("answer", KEY)
    assert found.get("image").value == "old"
    found.put({"other": "new"})
    assert found.get("other").value == "new"
    assert shelf(tmp_path).get("other") is None


def test_a_shelf_that_is_pruned_while_it_is_written_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    found = Store(tmp_path, "use", said.append).shelf("answer", KEY)
    found.put({"first": 1})
    assert prune(tmp_path, most_bytes=0).shelves == 1
    found.put({"second": 2})
    assert said == []
    assert shelf(tmp_path).get("second").value == 2


@pytest.mark.parametrize(
    "line", ['{"rows": [1], "at": "2026"}', '{"at": 5, "rows": {}}', "[]", "null", "{", '"text"', "\x00\xff"]
)
def test_damaged_lines_are_passed_over(tmp_path: Path, line: str) -> None:
    found = shelf(tmp_path)
    found.put({"image": 1})
    (found.path / "damaged.jsonl").write_text(line + "\n")
    assert shelf(tmp_path).get("image").value == 1


def test_a_shelf_without_its_key_is_listed_and_goes(tmp_path: Path) -> None:
    found = shelf(tmp_path)
    found.put({"image": 1})
    (found.path / "key.json").write_text("{")
    assert [info.kind for info in shelves(tmp_path)] == ["damaged"]
    assert main(["store", "prune", "--dir", str(tmp_path), "--all"]) == 0
    assert not found.path.exists()


def test_the_folder_stays_out_of_version_control(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    shelf(tmp_path / ".emt_store").put({"image": 1})
    done = subprocess.run(["git", "-C", str(tmp_path), "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert (tmp_path / ".emt_store" / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute has passed since any file changed: nobody can set a file's ctime to fake that."""
    real = time.time
    monkeypatch.setattr("emt_plugin.store.hashes.time.time", lambda: real() + 60)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content is read."""
    read: list[Path] = []
    real = hashes._read
    monkeypatch.setattr(hashes, "_read", lambda path: read.append(path) or real(path))
    return read


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    read = reads(monkeypatch)
    for _ in range(3):
        assert file_hash(path, Store(tmp_path / "store")) == sha256(b"one").hexdigest()
    assert read == [path]


def in_place(path: Path, content: bytes, aside: Path) -> None:
    with path.open("r+b") as file:
        file.write(content)


def mapped(path: Path, content: bytes, aside: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = content


def rewritten(path: Path, content: bytes, aside: Path) -> None:
    path.write_bytes(content)


def replaced(path: Path, content: bytes, aside: Path) -> None:
    aside.write_bytes(content)
    os.replace(aside, path)


def linked_elsewhere(path: Path, content: bytes, aside: Path) -> None:
    aside.write_bytes(content)
    path.unlink()
    path.symlink_to(aside)


def by(*command: str) -> Any:
    def overwrite(path: Path, content: bytes, aside: Path) -> None:
        aside.write_bytes(content)
        shutil.copystat(path, aside)
        named = [word.replace("FROM", str(aside)).replace("TO", str(path)) for word in command]
        subprocess.run(named, check=True, capture_output=True)

    return overwrite


def unpacked(path: Path, content: bytes, aside: Path) -> None:
    aside.write_bytes(content)
    shutil.copystat(path, aside)
    archive = aside.with_suffix(".tar")
    with tarfile.open(archive, "w") as tar:
        tar.add(aside, path.name)
    subprocess.run(["tar", "--overwrite", "-xpf", str(archive), "-C", str(path.parent)], check=True)


@pytest.mark.parametrize(
    "overwrite",
    [
        in_place,
        mapped,
        rewritten,
        replaced,
        linked_elsewhere,
        unpacked,
        by("cp", "-p", "FROM", "TO"),
        by("dd", "conv=notrunc", "if=FROM", "of=TO"),
        pytest.param(
            by("rsync", "--inplace", "-t", "--ignore-times", "FROM", "TO"),
            marks=pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync here"),
        ),
    ],
    ids=["in-place", "mmap", "rewritten", "replaced", "symlink", "tar", "cp-p", "dd", "rsync"],
)
def test_a_file_overwritten_at_its_size_with_its_mtime_restored_is_read_again(
    tmp_path: Path, later: None, overwrite: Any
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"last week")
    store = Store(tmp_path / "store")
    assert file_hash(path, store) == sha256(b"last week").hexdigest()
    before = path.stat()
    time.sleep(0.02)  # more than a tick of the file system's clock
    overwrite(path, b"this week", tmp_path / "aside")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert file_hash(path, store) == sha256(b"this week").hexdigest()


def test_another_host_with_the_same_store_reads_for_itself(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    read = reads(monkeypatch)
    for host in ("one", "other", "one"):
        monkeypatch.setattr(hashes, "_host", lambda host=host: host)
        file_hash(path, Store(tmp_path / "store"))
    assert len(read) == 2


def test_where_the_file_system_may_not_keep_ctime_the_file_is_read(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    read = reads(monkeypatch)
    for kind in ("fuse.sshfs", "vfat", ""):
        monkeypatch.setattr(hashes, "_file_system", lambda device, kind=kind: kind)
        file_hash(path, Store(tmp_path / "store"))
    assert len(read) == 3


def test_a_file_that_just_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    os.utime(path, (0, 0))  # its content's time is not what tells
    read = reads(monkeypatch)
    for _ in range(2):
        file_hash(path, Store(tmp_path / "store"))
    assert len(read) == 2


def test_the_content_hash_is_of_names_and_content(tmp_path: Path) -> None:
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert content_hash([one, two]) == content_hash([two, one])
    before = content_hash([one, two])
    two.write_bytes(b"3")
    assert content_hash([one, two]) != before


def test_pruning_takes_the_longest_unused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    for days, name in ((30, "old"), (10, "middle"), (0, "new")):
        found = Store(tmp_path).shelf("features" if name == "middle" else "answer", {"name": name}, {"model": name})
        found.put({"image": "x" * 1000})
        os.utime(found.path / "key.json", (now - days * 86400,) * 2)
    assert [found.about["model"] for found in shelves(tmp_path)] == ["old", "middle", "new"]
    assert main(["store", "show", "--dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "answer: 2 cache entries" in shown
    assert "model middle" in shown
    assert main(["store", "prune", "--dir", str(tmp_path)]) == 2
    assert main(["store", "prune", "--dir", str(tmp_path), "--older-than", "20"]) == 0
    assert [found.about["model"] for found in shelves(tmp_path)] == ["middle", "new"]
    assert prune(tmp_path, most_bytes=10, kinds={"answer"}).shelves == 1
    assert [found.about["model"] for found in shelves(tmp_path)] == ["middle"]
    assert main(["store", "prune", "--dir", str(tmp_path), "--max-size", "lots"]) == 1
    assert "lots is not a size" in capsys.readouterr().err
    assert main(["store", "prune", "--dir", str(tmp_path), "--all"]) == 0
    assert shelves(tmp_path) == []
    assert main(["store", "show", "--dir", str(tmp_path)]) == 0
    assert "holds nothing" in capsys.readouterr().out


def test_a_shelf_that_is_used_is_not_old(tmp_path: Path) -> None:
    found = shelf(tmp_path)
    found.put({"image": 1})
    os.utime(found.path / "key.json", (time.time() - 90 * 86400,) * 2)
    shelf(tmp_path)
    assert prune(tmp_path, older_than=3600).shelves == 0


@pytest.mark.parametrize(("text", "size"), [("20GB", 20 * 10**9), ("24GiB", 24 * 2**30), ("1000", 1000), ("1.5 kb", 1500)])
def test_sizes(text: str, size: int) -> None:
    assert byte_sizes.parsed(text) == size


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (1500, "1.5 kB"), (2_360_000_000, "2.36 GB")])
def test_sizes_in_words(size: int, text: str) -> None:
    assert byte_sizes.words(size) == text
