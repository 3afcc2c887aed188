from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest
from ssvideo_core.datasets.classes import class_names
from ssvideo_core.datasets.official import OFFICIAL_COUNTS, official_videos
from ssvideo_core.datasets.splits import Split, find_splits, group_of, official_split, read_splits
from ssvideo_core.errors import DataError

ORIGIN = (files("ssvideo_core.datasets") / "data" / "ORIGIN.md").read_text("utf-8")


def write_hmdb51_files(folder: Path, dataset: str = "hmdb51") -> dict[str, str]:
    """The official files of HMDB51, made again from the packaged list; split to joined text."""
    joined = {}
    for number in (1, 2, 3):
        split = official_split(dataset, number)
        tag = {**dict.fromkeys(split.train, 1), **dict.fromkeys(split.test, 2)}
        texts: dict[str, str] = {}
        for video in official_videos(dataset):
            name, file = video.split("/")
            texts[name] = texts.get(name, "") + f"{file} {tag.get(video, 0)} \n"
        for name, text in texts.items():
            (folder / f"{name}_test_split{number}.txt").write_text(text)
        in_order = sorted(texts, key=lambda name: f"{name}_test_split{number}.txt")
        joined[str(number)] = "".join(texts[name] for name in in_order)
    return joined


def write_ucf101_files(folder: Path) -> None:
    numbers = {name: index for index, name in enumerate(class_names("ucf101"), start=1)}
    (folder / "classInd.txt").write_text("".join(f"{i} {name}\n" for name, i in numbers.items()))
    for number in (1, 2, 3):
        split = official_split("ucf101", number)
        train = "".join(f"{video} {numbers[video.split('/')[0]]}\n" for video in split.train)
        (folder / f"trainlist0{number}.txt").write_text(train)
        (folder / f"testlist0{number}.txt").write_text("".join(f"{v}\n" for v in split.test))


def test_hmdb51_gives_back_the_official_files_byte_for_byte(tmp_path: Path) -> None:
    for number, text in write_hmdb51_files(tmp_path).items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert re.search(rf"HMDB51 split {number}\b[^|]*\| `{digest}`", ORIGIN)
    found = read_splits(tmp_path, dataset="hmdb51")
    assert list(found) == ["1", "2", "3"]
    for name, split in found.items():
        official = official_split("hmdb51", int(name))
        assert set(split.train) == set(official.train) and set(split.test) == set(official.test)


def test_ucf101_gives_back_the_official_files_byte_for_byte(tmp_path: Path) -> None:
    write_ucf101_files(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == 7
    for path in written:
        assert f"`{path.name}` | `{hashlib.sha256(path.read_bytes()).hexdigest()}`" in ORIGIN
    official = {str(number): official_split("ucf101", number) for number in (1, 2, 3)}
    assert read_splits(tmp_path, dataset="ucf101") == official


@pytest.mark.parametrize("dataset", ["hmdb51", "ucf101"])
def test_official_counts_and_balance(dataset: str) -> None:
    assert len(official_videos(dataset)) == {"hmdb51": 6766, "ucf101": 13320}[dataset]
    for number, counts in enumerate(OFFICIAL_COUNTS[dataset], start=1):
        split = official_split(dataset, number)
        assert (len(split.train), len(split.test)) == counts
        assert not set(split.train) & set(split.test)
        assert {v.split("/")[0] for v in split.train} == set(class_names(dataset))
        assert {v.split("/")[0] for v in split.test} == set(class_names(dataset))


def test_hmdb51_has_70_and_30_videos_of_each_class_and_unused_ones() -> None:
    used: set[str] = set()
    for number in (1, 2, 3):
        split = official_split("hmdb51", number)
        for name in class_names("hmdb51"):
            assert sum(v.startswith(name + "/") for v in split.train) == 70
            assert sum(v.startswith(name + "/") for v in split.test) == 30
        used.update(split.train, split.test)
    assert len(official_videos("hmdb51")) - len(used) == 395


@pytest.mark.parametrize("dataset", ["hmdb51", "ucf101"])
def test_no_group_is_in_training_and_test(dataset: str) -> None:
    for number in (1, 2, 3):
        split = official_split(dataset, number)
        train = {group_of(dataset, video) for video in split.train}
        assert not train & {group_of(dataset, video) for video in split.test}
        assert None not in train
    groups = {group_of("ucf101", video) for video in official_videos("ucf101")}
    assert len(groups) == 101 * 25


@pytest.mark.parametrize(
    ("dataset", "video", "group"),
    [
        ("ucf101", "Biking/v_Biking_g07_c02.avi", "Biking/g07"),
        ("ucf101", "HandstandPushups/v_HandStandPushups_g01_c04.avi", "HandstandPushups/g01"),
        ("ucf101", "train/Biking/v_Biking_g07_c02.avi", "Biking/g07"),
        ("hmdb51", "wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi", "wave/TrumanShow"),
        ("hmdb51", "climb_stairs/A_B_climb_stairs_f_cm_np1_ba_bad_0.avi", "climb_stairs/A_B"),
        # the class occurs in the source as well
        ("hmdb51", "pour/How_to_pour_beer_pour_u_nm_np1_fr_goo_0.avi", "pour/How_to_pour_beer"),
        ("hmdb51", "sword/#1!_(x)_[y];z_sword_f_nm_np2_le_med_0.avi", "sword/#1!_(x)_[y];z"),
        ("demo", "anything", None),
    ],
)
def test_groups(dataset: str, video: str, group: str | None) -> None:
    assert group_of(dataset, video) == group


@pytest.mark.parametrize(
    ("dataset", "video"),
    [
        ("ucf101", "v_Biking_g07_c02.avi"),
        ("ucf101", "Biking/v_Biking_07.avi"),
        ("hmdb51", "run/TrumanShow_wave_f_nm_np1_fr_med_26.avi"),
        ("hmdb51", "wave/TrumanShow_wave.avi"),
    ],
)
def test_a_name_that_tells_no_group_is_an_error_not_a_guess(dataset: str, video: str) -> None:
    with pytest.raises(DataError, match=f"'{video}' is no name of {dataset}: expected class/"):
        group_of(dataset, video)


def test_class_orders() -> None:
    names = class_names("ucf101")
    assert names.index("Hammering") + 1 == names.index("HammerThrow")
    assert names.index("JumpingJack") + 1 == names.index("JumpRope")
    assert names == sorted(names, key=str.lower) and names != sorted(names)
    assert class_names("ucf101", "alphabetical") == sorted(names)
    assert class_names("ucf101", "coclr") == names
    assert class_names("hmdb51") == sorted(class_names("hmdb51"))
    coclr = class_names("hmdb51", "coclr")
    assert coclr[:3] == ["brush_hair", "chew", "climb_stairs"] and coclr[-1] == "wave"
    assert coclr != sorted(coclr) and sorted(coclr) == class_names("hmdb51")


@pytest.mark.parametrize(
    ("dataset", "count", "name"),
    [
        ("kinetics400", 400, "massaging person's head"),
        ("kinetics_sound", 32, "playing drums"),
        ("vggsound", 309, "ambulance siren"),
        ("ave", 28, "Baby cry, infant cry"),
    ],
)
def test_other_class_lists_are_read_by_line(dataset: str, count: int, name: str) -> None:
    names = class_names(dataset)
    assert len(names) == len(set(names)) == count and name in names
    assert names == sorted(names)


def test_unknown_names_are_errors_that_list_what_there_is() -> None:
    with pytest.raises(DataError, match=r"class list of 'sports1m' .* only of hmdb51, ucf101, kin"):
        class_names("sports1m")
    with pytest.raises(DataError, match="'kinetics400' in coclr order, only of hmdb51, ucf101"):
        class_names("kinetics400", "coclr")
    with pytest.raises(DataError, match=r"no split 4 of 'hmdb51'.*--split-files"):
        official_split("hmdb51", 4)


def test_own_lists_of_hmdb51s_form(tmp_path: Path) -> None:
    (tmp_path / "sit_down_test_split1.txt").write_text(
        "a test 1.avi 1 \nb [x];#.avi 2\n\nc.avi 0 \n"
    )
    (tmp_path / "run_test_split1.txt").write_text("a.avi 2 \nb.avi 1 \n")
    (tmp_path / "run_test_split10.txt").write_text("a.avi 1\nb.avi 2\n")
    (tmp_path / "notes.txt").write_text("nothing")
    assert read_splits(tmp_path, dataset="mine") == {
        "1": Split(
            "mine",
            "1",
            ("run/b.avi", "sit_down/a test 1.avi"),
            ("run/a.avi", "sit_down/b [x];#.avi"),
        ),
        "10": Split("mine", "10", ("run/a.avi",), ("run/b.avi",)),
    }


def test_own_lists_of_ucf101s_form(tmp_path: Path) -> None:
    (tmp_path / "trainlist01.txt").write_text("Run/a b.mp4 1\nSit/c.mp4 2\n")
    (tmp_path / "testlist01.txt").write_text("Run/d.mp4\nSit/e.mp4 2\n")
    expected = Split("mine", "1", ("Run/a b.mp4", "Sit/c.mp4"), ("Run/d.mp4", "Sit/e.mp4"))
    assert read_splits(tmp_path, dataset="mine") == {"1": expected}


def test_own_csv_with_one_or_several_splits(tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    one.write_text('video,label,split\nx/a.mp4,x,train\n"y/b,c.mp4",y,test\nz.mp4,x,validation\n')
    assert read_splits(one, dataset="d") == {"all": Split("d", "all", ("x/a.mp4",), ("y/b,c.mp4",))}
    three = tmp_path / "three.csv"
    three.write_text("video,split1,split2\na,1,2\nb,2,1\nc,0,\n")
    assert read_splits(three, dataset="d") == {
        "1": Split("d", "1", ("a",), ("b",)),
        "2": Split("d", "2", ("b",), ("a",)),
    }


def test_a_csv_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes('\ufeffvideo, split\r\n./x//a.mp4, train\r\n\r\n"b, c.mp4",test\r\n'.encode())
    expected = Split("d", "all", ("x/a.mp4",), ("b, c.mp4",))
    assert read_splits(path, dataset="d") == {"all": expected}


def test_a_root_with_train_and_test_folders(tmp_path: Path) -> None:
    for video in ("train/run/a.mp4", "train/sit/b.mp4", "test/run/c.mp4", "val/run/d.mp4"):
        (tmp_path / video).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / video).touch()
    expected = Split("mine", "all", ("train/run/a.mp4", "train/sit/b.mp4"), ("test/run/c.mp4",))
    assert read_splits(tmp_path, dataset="mine") == {"all": expected}


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "run_test_split1.txt",
            "a.avi 1\nb.avi 3\n",
            r"line 2: found 'b.avi 3', expected a file name",
        ),
        (
            "run_test_split1.txt",
            "a.avi 1\n2\n",
            r"line 2: found '2', expected a file name and 0, 1",
        ),
        (
            "run_test_split1.txt",
            "a.avi 1\nb.avi 2\na.avi 2\n",
            r"'run/a.avi' is listed twice, for train and test",
        ),
        ("run_test_split1.txt", "a.avi 1\n", r"split 1: 1 training and 0 test videos among 1"),
        ("trainlist01.txt", "Run/a.avi 1\n", r"split 1: 1 training and 0 test videos"),
        ("testlist01.txt", "a.avi\n", r"line 1: found 'a.avi', expected class/file"),
        ("list.csv", "video,label\na,b\n", r"has columns video, label; expected video and split"),
        ("list.csv", "", r"has columns none; expected video and split"),
        ("list.csv", "video,split\na,train\nb,tset\n", r"line 3: found video 'b' and split 'tset'"),
        (
            "list.csv",
            "video,split\na,train\n,test\n",
            r"line 3: found video '' and split 'test'",
        ),
        ("list.csv", "video,split\na,train\nb\n", r"line 3: found video 'b' and split 'None'"),
        ("list.csv", 'video,split\n"a,train\n', r"list.csv, line 2: unexpected end of data"),
        ("other.txt", "", r"holds no splits: expected a CSV file"),
    ],
)
def test_lists_that_are_wrong(tmp_path: Path, file: str, text: str, message: str) -> None:
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_splits(path if file.endswith(".csv") else tmp_path, dataset="mine")


def test_a_list_that_is_no_text_and_a_list_that_is_absent(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"video,split\n\xff,train\n")
    with pytest.raises(DataError, match=r"list.csv is no text in UTF-8"):
        read_splits(tmp_path / "list.csv", dataset="mine")
    with pytest.raises(DataError, match="absent holds no splits"):
        read_splits(tmp_path / "absent", dataset="mine")


def test_finding_the_splits_of_a_command(tmp_path: Path) -> None:
    assert [split.name for split in find_splits("ucf101")] == ["1", "2", "3"]
    assert find_splits("hmdb51", names=["3", "1"]) == [official_split("hmdb51", k) for k in (3, 1)]
    path = tmp_path / "mine.csv"
    path.write_text("video,split\na,train\nb,test\n")
    assert find_splits("", files=path) == [Split("mine", "all", ("a",), ("b",))]
    with pytest.raises(DataError, match="no split named 1; there is all"):
        find_splits("", names=["1"], files=path)
    with pytest.raises(DataError, match=r"splits of 'mine' are not in this package.*--split-files"):
        find_splits("mine")
