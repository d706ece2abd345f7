"""A real page of ncu from an H200: formats, planted faults, and random damage."""

import csv
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gspn2bench.profile import ncu
from gspn2bench.profile.trace import ProfilerTrace, UnreadableError

REAL = Path(__file__).resolve().parents[1] / "data" / "ncu-raw-page-h200.csv"
DURATION = "gpu__time_duration.sum"
NANOSECONDS = [27_752_416, 1_170_944, 1_118_464, 1_134_240, 778_240]


def german(text: str) -> str:
    """The page as ncu prints it where a comma separates decimals."""
    turned = str.maketrans(".,", ",.")
    return re.sub(r'(?<=")\d[\d.,]*(?=")', lambda cell: cell[0].translate(turned), text)


def durations(text: str, change: Callable[[str], str], unit: str = "ns") -> str:
    """The page with other durations and their unit."""
    titles, units, *kernels = csv.reader(text.splitlines())
    place = titles.index(DURATION)
    units[place] = unit
    for kernel in kernels:
        kernel[place] = change(kernel[place])
    return "\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in line)
        for line in (titles, units, *kernels)
    )


def alone(text: str) -> str:
    """The page with no metric but the duration, which proves no locale."""
    titles, *lines = csv.reader(text.splitlines())
    kept = [i for i, title in enumerate(titles) if "__" not in title or title == DURATION]
    return "\n".join(
        ",".join('"' + line[i].replace('"', '""') + '"' for i in kept) for line in (titles, *lines)
    )


def last(text: str) -> str:
    """The page with its last kernel alone."""
    lines = text.splitlines()
    return "\n".join([*lines[:2], lines[-1]])


def scaled(divisor: float, digits: int) -> Callable[[str], str]:
    return lambda cell: f"{int(cell.replace(',', '')) / divisor:,.{digits}f}"


def read(content: bytes, folder: Path) -> ProfilerTrace | str:
    """The trace of a file, or the message of the refusal."""
    file = folder / "a.csv"
    file.write_bytes(content)
    try:
        return ncu.read(file)
    except UnreadableError as error:
        return str(error)


def nanoseconds(trace: ProfilerTrace | str) -> list[int]:
    assert isinstance(trace, ProfilerTrace), trace
    return [launch.duration_ns for group in trace.launches.values() for launch in group]


@pytest.fixture(scope="module")
def page() -> str:
    return REAL.read_text(encoding="utf-8-sig")


ACCEPTED: dict[str, tuple[Callable[[str], bytes], int]] = {
    "as it is": (lambda text: text.encode(), 1),
    "a byte order mark": (lambda text: text.encode("utf-8-sig"), 1),
    "UTF-16 of a Windows shell": (lambda text: text.replace("\n", "\r\n").encode("utf-16"), 1),
    "CRLF": (lambda text: text.replace("\n", "\r\n").encode(), 1),
    "messages around it": (
        lambda text: f"==PROF== Connected\n{text}==PROF== Disconnected\n".encode(),
        1,
    ),
    "output of the program before it": (lambda text: f'loss 0.5\n"a", "b\n{text}'.encode(), 1),
    "us": (lambda text: durations(text, scaled(1e3, 2), "us").encode(), 10),
    "usecond": (lambda text: durations(text, scaled(1e3, 2), "usecond").encode(), 10),
    "ms": (lambda text: durations(text, scaled(1e6, 6), "ms").encode(), 1),
    "us of three digits": (lambda text: durations(text, scaled(1e3, 3), "us").encode(), 1),
    "ns alone": (lambda text: alone(text).encode(), 1),
}
"""Pages that are read, and the largest rounding, ns."""


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_real_page_has_the_same_figures_in_every_format(tmp_path, page, case):
    change, rounding = ACCEPTED[case]
    measured = nanoseconds(read(change(page), tmp_path))
    assert measured == pytest.approx(NANOSECONDS, abs=rounding)


REFUSED: dict[str, tuple[Callable[[str], str], str]] = {
    "a German page": (german, "a number of a different locale; export again with LC_ALL=C"),
    "a German page of durations alone": (
        lambda text: german(alone(text)),
        "'27.752.416', a number of a different locale",
    ),
    "778.240 ns": (
        lambda text: "\n".join(
            [*alone(text).splitlines()[:2], german(alone(text).splitlines()[6])]
        ),
        "r07_gspn2_forward: '778.240' has a fraction, and its unit has none",
    ),
    "778,240 us that may be 778.24 us": (
        lambda text: last(alone(durations(text, scaled(1, 0), "us"))),
        "'778,240' is 1000 times more in some locales",
    ),
    "778,24 us": (
        lambda text: durations(text, lambda cell: "778,24", "us"),
        "'778,24', a number of a different locale",
    ),
    "a French page": (
        lambda text: durations(text, lambda cell: cell.replace(",", "\u202f")),
        "kernel 1 .* r02_fused_forward: .* is not a number",
    ),
    "a Swiss page": (
        lambda text: durations(text, lambda cell: cell.replace(",", "'")),
        "is not a number",
    ),
    "NaN": (
        lambda text: durations(text, lambda cell: "nan" if cell == "778,240" else cell),
        f"kernel 5 has no {DURATION}: r07_gspn2_forward: 'nan' is not a number",
    ),
    "n/a": (lambda text: durations(text, lambda cell: "n/a"), f"kernel 1 has no {DURATION}"),
    "empty": (lambda text: durations(text, lambda cell: ""), "'' is not a number"),
    "0": (lambda text: durations(text, lambda cell: "0"), "r02_fused_forward: it is 0"),
    "negative": (lambda text: durations(text, lambda cell: "-5"), "'-5' is not a number"),
    "an underscore": (lambda text: durations(text, lambda cell: "1_000"), "is not a number"),
    "no line of units": (
        lambda text: "\n".join(line for i, line in enumerate(text.splitlines()) if i != 1),
        "no line of units below the column names",
    ),
    "cycles": (
        lambda text: durations(text, lambda cell: cell, "cycle"),
        f"{DURATION} does not have a unit of time, but 'cycle'",
    ),
    "no duration": (
        lambda text: text.replace(DURATION, "other"),
        f"no column '{DURATION}'; profile with --set full",
    ),
    "cut off": (lambda text: text[:-700], "line 7: .* cut off or damaged"),
    "a kernel removed": (
        lambda text: "\n".join(line for i, line in enumerate(text.splitlines()) if i != 3),
        "kernel 2 follows kernel 0: kernels are missing or repeated",
    ),
    "two pages": (lambda text: text + text, "line 8: a second page begins"),
    "ranges of a different domain": (
        lambda text: text.replace("gspn2bench:", "other:"),
        "no kernel in an NVTX range gspn2bench@measure",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_fault_of_a_real_page_is_refused(tmp_path, page, case):
    change, message = REFUSED[case]
    result = read(change(page).encode(), tmp_path)
    assert isinstance(result, str), result
    assert re.search(message, result), result


def flip_bits(content: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)


def truncate(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def move_lines(content: bytearray, dice: random.Random) -> None:
    lines = content.split(b"\n")[:-1]
    one, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(3):
        case 0:
            del lines[one]
        case 1:
            lines.insert(one, lines[other])
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    content[:] = b"\n".join(lines) + b"\n"


def change_cell(content: bytearray, dice: random.Random) -> None:
    """Change a duration, or its column's name or unit; or any other cell."""
    lines = [line.split(b'","') for line in content.split(b"\n")[:-1]]
    line = dice.choice(lines)
    place = dice.choice((lines[0].index(DURATION.encode()), dice.randrange(len(line) - 1)))
    values = (b"", b"nan", b"n/a", b"0", b"-1", b"1.5", b"1.024", b"1,024", b"1,02", b"us", b"ms")
    line[place] = dice.choice((*values, b"12.345,6", b"\xc2\xa05", b"9" * 40, b'x","y'))
    content[:] = b"\n".join(b'","'.join(cells) for cells in lines) + b"\n"


DAMAGE = {flip_bits: 200, truncate: 80, move_lines: 60, change_cell: 260}
"""Files of each kind of damage."""


def again(content: bytes) -> list[int]:
    """Durations by a shorter reading, of a page in the order of the real one, in ns."""
    lines = [line.split(b'","') for line in content.split(b"\n") if line.startswith(b'"')]
    place = lines[0].index(DURATION.encode())
    unit = {b"ns": 1, b"us": 10**3, b"ms": 10**6, b"s": 10**9}[lines[1][place]]
    return [round(float(line[place].replace(b",", b"")) * unit) for line in lines[2:]]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_page_is_refused_or_read_as_it_stands(tmp_path, damage):
    original, intact = REAL.read_bytes().removeprefix(b"\xef\xbb\xbf"), ncu.read(REAL)
    verdicts = Counter[str]()
    for seed in range(DAMAGE[damage]):
        content = bytearray(original)
        damage(content, random.Random(f"{damage.__name__} {seed}"))
        result = read(bytes(content), tmp_path)
        if isinstance(result, str):
            verdicts["refused"] += 1
        elif result.launches == intact.launches:
            verdicts["same figures"] += 1
        else:
            verdicts["other figures"] += 1
            launches = [each for group in result.launches.values() for each in group]
            read_again = again(bytes(content))
            # launches outside the range and kernels cut off at the end are not in the trace
            assert Counter(each.duration_ns for each in launches) <= Counter(read_again), seed
            assert all(each.duration_ns > 0 for each in launches)
            assert damage is not move_lines or read_again in (
                NANOSECONDS[: len(read_again)],
                NANOSECONDS[-len(read_again) :],
            )
    assert verdicts["refused"], verdicts
