import re
from pathlib import Path

import pytest

from gspn2bench.cases import scenario, selection
from gspn2bench.cases.axes import Axis, parse_axis
from gspn2bench.cases.scenario import Case, Scenario
from gspn2bench.errors import UsageError

HEAD = 'title = "t"\ndescription = "d"\nsource = "s"\nrungs = ["r01"]\n'
ONE = HEAD + "[axes]\nbatch = 1\nchannels = 2\nsize = 8\n"


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def read(folder: Path, text: str) -> Scenario:
    return scenario.load(write(folder, text))


def expand(folder: Path, text: str, *overrides: str) -> list[Case]:
    return selection.cases(read(folder, text), [parse_axis(token) for token in overrides])


def test_shipped_scenarios() -> None:
    assert scenario.names() == [
        "dtypes", "fig1", "fig3", "fig4", "figS2", "figS3", "four", "memory", "module", "normalize",
        "peers", "quick", "sdxl", "sdxl_unet", "single", "small", "table1", "tableS2", "tableS4",
        "train", "vit",
    ]  # fmt: skip


@pytest.mark.parametrize("name", scenario.names())
def test_every_shipped_scenario_loads(name: str) -> None:
    loaded = scenario.load(name)
    assert loaded.name == name
    assert loaded.l2 == "cold"
    assert selection.cases(loaded)


@pytest.mark.parametrize(
    ("name", "label", "bars"),
    [
        ("fig3", "N16 C8 1024x1024 float32", [71.4, 57.4, 2.4, 2.2, 2.1, 1.9, 1.8]),
        ("figS3", "N256 C1 1024x1024 float32", [143.7, 139.2, 4.1, 4.5, 4.4, 4.0, 3.9]),
        ("single", "N1 C1 1024x1024 float32", []),
    ],
)
def test_figures_of_the_paper(name: str, label: str, bars: list[float]) -> None:
    loaded = scenario.load(name)
    case = selection.cases(loaded)[0]
    assert case.label == label
    assert [figure.latency_ms for figure in loaded.published] == bars
    assert [figure.rung for figure in loaded.published] == [f"r{i:02}" for i in range(1, 8)][
        : len(bars)
    ]
    for figure in loaded.published:
        assert figure.where.items() <= vars(case).items()


@pytest.mark.parametrize("name", scenario.names())
def test_a_shipped_scenario_that_mixes_kinds_of_rungs_names_its_base(name: str) -> None:
    loaded = scenario.load(name)
    alone = len(loaded.rungs) == 1
    ladder = all(re.fullmatch(r"r\d+[a-z]?", rung) for rung in loaded.rungs)
    assert loaded.base is not None or alone or ladder
    assert loaded.base is None or not alone


def test_a_scenario_names_one_of_its_rungs_as_the_base(tmp_path: Path) -> None:
    two = ONE.replace('["r01"]', '["r01", "mine"]')
    assert read(tmp_path, two).base is None
    assert read(tmp_path, "base = 'mine'\n" + two).base == "mine"


def test_a_scenario_lists_its_latency_modes(tmp_path: Path) -> None:
    assert read(tmp_path, ONE).timing == ("eager", "graph", "device")
    assert read(tmp_path, "timing = ['graph', 'eager']\n" + ONE).timing == ("graph", "eager")
    for name in ("memory", "module", "tableS4"):
        assert scenario.load(name).timing == ("eager", "graph")


def test_axes_vary_in_file_order(tmp_path: Path) -> None:
    text = HEAD + "[axes]\nsize = [4, 8]\nbatch = [2, 1]\nchannels = 3\n"
    found = [(case.height, case.width, case.batch) for case in expand(tmp_path, text)]
    assert found == [(4, 4, 2), (4, 4, 1), (8, 8, 2), (8, 8, 1)]


def test_explicit_cases_follow_the_axes_and_repeats_are_dropped(tmp_path: Path) -> None:
    text = ONE + "[[case]]\nbatch = 3\nchannels = 2\nheight = 4\nwidth = 5\ndtype = 'float16'\n"
    text += "[[case]]\nbatch = 1\nchannels = 2\nheight = 8\nwidth = 8\n"
    labels = [case.label for case in expand(tmp_path, text)]
    assert labels == ["N1 C2 8x8 float32", "N3 C2 4x5 float16"]


def test_override_replaces_the_field_in_every_case(tmp_path: Path) -> None:
    text = ONE + "[[case]]\nbatch = 3\nchannels = 5\nheight = 4\nwidth = 6\n"
    found = expand(tmp_path, text, "channels=[7,9]", "phase=backward")
    assert [(case.batch, case.channels, case.phase) for case in found] == [
        (1, 7, "backward"),
        (1, 9, "backward"),
        (3, 7, "backward"),
        (3, 9, "backward"),
    ]


@pytest.mark.parametrize(
    ("tokens", "sizes"),
    [
        (["size=[2,3]"], [(2, 2), (3, 3)]),
        (["height=2"], [(2, 8), (2, 6)]),
        (["width=2"], [(8, 2), (4, 2)]),
        (["height=2", "width=3"], [(2, 3)]),
    ],
)
def test_size_and_its_halves(
    tmp_path: Path, tokens: list[str], sizes: list[tuple[int, int]]
) -> None:
    text = ONE + "[[case]]\nbatch = 1\nchannels = 2\nheight = 4\nwidth = 6\n"
    assert [(case.height, case.width) for case in expand(tmp_path, text, *tokens)] == sizes


def test_size_overrides_swept_halves_without_repeats(tmp_path: Path) -> None:
    text = HEAD + "[axes]\nbatch = [1, 2]\nheight = [4, 5, 6]\nwidth = [7, 8]\nchannels = 1\n"
    found = expand(tmp_path, text, "size=3")
    assert [(case.batch, case.height, case.width) for case in found] == [(1, 3, 3), (2, 3, 3)]


def test_label_names_only_what_is_unusual() -> None:
    plain = Case(16, 8, 1024, 512)
    assert plain.label == "N16 C8 1024x512 float32"
    assert Case(16, 8, 1024, 512, phase="backward").label == plain.label
    odd = Case(1, 1, 65, 64, "bfloat16", "up", 64, "shared")
    assert odd.label == "N1 C1 65x64 bfloat16, shared weights, chunk 64, up"
    given = Case(1, 1, 65, 64, weights="shared", logits=1)
    assert given.label == "N1 C1 65x64 float32, shared weights, logits"
    assert given.problem("down").logits is True


def test_problem_takes_the_native_direction_unless_told() -> None:
    assert Case(1, 2, 3, 4).problem("left").direction == "left"
    assert Case(1, 2, 3, 4, direction="up").problem("left").direction == "up"
    problem = Case(1, 2, 3, 4, "float16", "up", 3, "shared", "backward").problem("down")
    assert (problem.data_shape, problem.chunk) == ((1, 2, 3, 4), 3)
    assert (problem.dtype, problem.weights, problem.phase) == ("float16", "shared", "backward")


def test_chunk_none_is_the_whole_scan(tmp_path: Path) -> None:
    found = expand(tmp_path, ONE, "chunk=[none,8]")
    assert [case.chunk for case in found] == [None, 8]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("title = [", "is not TOML"),
        ("a = " + "[" * 5000, "is not TOML"),
        ("n = " + "9" * 5000, "is not TOML"),
        (ONE.replace('title = "t"\n', ""), "title: Field required"),
        (ONE.replace('"t"', "5"), "title: Input should be a valid string"),
        (ONE.replace('["r01"]', "[]"), "rungs: "),
        (ONE.replace('["r01"]', '"r01"'), "rungs: "),
        (ONE.replace('["r01"]', '["r01", "r01"]'), "rungs: r01 is given twice"),
        ("base = 'r7'\n" + ONE, "base: 'r7' is not one of the scenario's rungs: r01"),
        ("base = 5\n" + ONE, "base: Input should be a valid string"),
        ("nmae = 'x'\n" + ONE, "nmae: Extra inputs are not permitted"),
        ("name = '../up'\n" + ONE, "name: "),
        ("l2 = 'tepid'\n" + ONE, "l2: Input should be 'cold' or 'warm'"),
        ("timing = 'graph'\n" + ONE, "timing: 'graph' is not a list of eager, graph, device"),
        ("timing = []\n" + ONE, "timing: [] is not a list of eager, graph, device"),
        ("timing = ['grap']\n" + ONE, "timing: 'grap' is not one of eager, graph, device"),
        ("timing = [1]\n" + ONE, "timing: 1 is not one of eager, graph, device"),
        ("timing = ['graph', 'graph']\n" + ONE, "timing: graph is given twice"),
        (HEAD, "there are no cases"),
        (HEAD + "[axes]\n", "there are no cases"),
        ("axes = 5\n" + HEAD, "axes: Input should be a valid dictionary"),
        ("case = 5\n" + HEAD, "case: "),
        ("case = [5]\n" + HEAD, "case.0: Input should be a valid dictionary"),
        (ONE.replace("batch = 1", "batch = 0"), "axes: batch: 0 is below 1"),
        (ONE.replace("batch = 1", "batch = []"), "axes: batch has no values"),
        (ONE.replace("batch = 1", "batch = [1, 1]"), "axes: batch: 1 is given twice"),
        (ONE.replace("batch = 1", "batch = 1.0"), "axes: batch: 1.0 is not a whole number"),
        (ONE.replace("batch = 1", "batch = true"), "axes: batch: True is not a whole number"),
        (ONE.replace("batch = 1", "batch = 3000000000"), "3000000000 is above 2147483647"),
        (ONE.replace("batch = 1", "bach = 1"), "no axis is named 'bach'; did you mean batch"),
        (ONE.replace("batch = 1\n", ""), "axes: batch is missing"),
        (ONE.replace("size = 8", "height = 8"), "axes: width is missing"),
        (ONE + "height = 8\n", "axes: height: already set by size"),
        (ONE + "dtype = 'int8'\n", "dtype: 'int8' is not one of float32, float16, bfloat16"),
        (HEAD + "[[case]]\nbatch = 1\nsize = 2\n", "case: case 1: channels is missing"),
        (ONE + "[[case]]\nbatch = 1\nchannels = -1\nsize = 2\n", "case 1: channels: -1 is below 1"),
        (
            ONE + "[[case]]\nbatch = 1\nchannels = [1, 1]\nsize = 2\n",
            "case 1: channels: 1 is given twice",
        ),
        (ONE + "[[case]]\nbatch = 1\nchanels = 1\nsize = 2\n", "did you mean channels"),
        (ONE + "[[published]]\nrung = 'r01'\n", "published.0.machine: Field required"),
        (
            ONE + "[[published]]\nrung='r01'\nlatency_ms=0\nmachine='A'\nsource='s'\n",
            "published.0.latency_ms: Input should be greater than 0 (given 0)",
        ),
        (
            ONE + "[[published]]\nrung='r01'\nlatency_ms=nan\nmachine='A'\nsource='s'\n",
            "published.0.latency_ms: Input should be a finite number",
        ),
        (
            ONE + "[[published]]\nrung='r01'\nlatency_ms=1\nmachine='A'\nsource='s'\n"
            "where={hieght=1}\n",
            "no case field is named 'hieght'; did you mean height",
        ),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert complaint in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_file_of_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"title = '\xff'")
    with pytest.raises(UsageError, match=r"mine\.toml is not TOML"):
        scenario.load(str(path))


def test_missing_files_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml cannot be read: No such file"):
        scenario.load(str(tmp_path / "gone.toml"))
    with pytest.raises(UsageError, match="no scenario"):
        scenario.load(str(tmp_path))
    with pytest.raises(UsageError, match="no scenario is named 'fig5'; did you mean fig"):
        scenario.load("fig5")
    with pytest.raises(UsageError, match="no scenario"):
        scenario.load("../pyproject")


def test_a_file_may_name_itself(tmp_path: Path) -> None:
    assert read(tmp_path, ONE).name == "mine"
    assert read(tmp_path, "name = 'other'\n" + ONE).name == "other"


def test_a_million_cases_are_refused_with_their_count(tmp_path: Path) -> None:
    hundred = str(list(range(1, 101)))
    text = HEAD + f"[axes]\nbatch = {hundred}\nchannels = {hundred}\nsize = {hundred}\n"
    with pytest.raises(UsageError, match="scenario mine: 1,000,000 cases, above 10,000"):
        expand(tmp_path, text)
    found = expand(tmp_path, text, "batch=1", "size=8")
    assert len(found) == 100
    with pytest.raises(UsageError, match="scenario mine: 1,000,000,000,000 cases"):
        expand(tmp_path, ONE, "batch=[1:10000]", "channels=[1:10000]", "size=[1:10000]")
    many = HEAD + "[[case]]\nbatch=1\nchannels=1\nsize=1\n" * 10_001
    with pytest.raises(UsageError, match="10,001 cases, above 10,000"):
        read(tmp_path, many)


def test_contradicting_overrides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch is given twice"):
        expand(tmp_path, ONE, "batch=1", "batch=2")
    with pytest.raises(UsageError, match="width is already set by size"):
        expand(tmp_path, ONE, "size=4", "width=2")


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (["chunk=9"], "chunk: 9 is above the scan length, 8"),
        (["chunk=9", "height=16"], "chunk: 9 is above the scan length, 8"),
        (["chunk=9", "height=16", "direction=left"], "chunk: 9 is above the scan length, 8"),
        (["batch[pow2]=30", "channels=4"], "batch * channels: 4294967296 is above"),
        (["size=100000"], "height * width: 10000000000 is above"),
    ],
)
def test_impossible_cases_are_named(tmp_path: Path, tokens: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand(tmp_path, ONE, *tokens)
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("scenario mine, case N")


def test_a_named_direction_frees_the_other_axis(tmp_path: Path) -> None:
    (case,) = expand(tmp_path, ONE, "chunk=9", "height=16", "direction=down")
    assert case.problem("right").chunk_length == 9


def test_overrides_may_be_built_by_hand(tmp_path: Path) -> None:
    found = selection.cases(read(tmp_path, ONE), (Axis("weights", ("channel", "shared")),))
    assert [case.weights for case in found] == ["channel", "shared"]
