import time

import pytest

from gspn2bench.cases.axes import MAX_VALUES, Axis, make_axis, parse_axis
from gspn2bench.errors import UsageError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("batch=5", (5,)),
        ("batch=[5]", (5,)),
        ("batch=[1,2,4]", (1, 2, 4)),
        ("batch=[4, 1 ,2]", (4, 1, 2)),
        ("size=[16:24:4]", (16, 20, 24)),
        ("size=[16:25:4]", (16, 20, 24)),
        ("batch=[1:9:4]", (1, 5, 9)),
        ("width=[3:5]", (3, 4, 5)),
        ("height=[7:7]", (7,)),
        ("channels[pow2]=[0:3]", (1, 2, 4, 8)),
        ("channels[pow2]=[0:6:3]", (1, 8, 64)),
        ("channels[pow2]=[5,0]", (32, 1)),
        ("channels[pow2]=30", (2**30,)),
        ("batch=2147483647", (2**31 - 1,)),
        ("batch=007", (7,)),
        ("dtype=[float32,bfloat16]", ("float32", "bfloat16")),
        ("weights=shared", ("shared",)),
        ("direction=[native, up]", ("native", "up")),
        ("phase=backward", ("backward",)),
        ("chunk=[none,64]", (None, 64)),
        ("logits=[0,1]", (0, 1)),
        ("proxy=[none,2]", (None, 2)),
        ("part=[kernel,module]", ("kernel", "module")),
        ("phase=train", ("train",)),
        (f"batch=[1:{MAX_VALUES}]", tuple(range(1, MAX_VALUES + 1))),
    ],
)
def test_parse(text: str, values: tuple[object, ...]) -> None:
    name = text.partition("=")[0].partition("[")[0]
    assert parse_axis(text) == Axis(name, values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("batch", "write name=value"),
        ("", "write name=value"),
        ("size[pow3]=1", "write name=value"),
        ("batch=", "batch has no values"),
        ("batch=[]", "batch has no values"),
        ("batch=[ ]", "batch has no values"),
        ("batch=[1,,2]", "a value is missing between commas"),
        ("batch=[1,2,]", "a value is missing between commas"),
        ("batch=[1,2,1]", "1 is given twice"),
        ("batch=[2,02]", "2 is given twice"),
        ("dtype=[float32,float32]", "float32 is given twice"),
        ("chunk=[none,4,none]", "none is given twice"),
        ("batch=-3", "-3 is below 1"),
        ("batch=[4,0]", "0 is below 1"),
        ("chunk=0", "0 is below 1"),
        ("proxy=0", "proxy: 0 is below 1"),
        ("proxy=some", "'some' is not a whole number"),
        ("part=head", "part: 'head' is not one of kernel, projections, module, block, model"),
        ("logits=2", "logits: 2 is neither 0 nor 1"),
        ("logits=true", "'true' is not a whole number"),
        ("batch=[-4:4]", "-4 is below 1"),
        ("batch=2147483648", "2147483648 is above 2147483647"),
        ("batch=" + "9" * 5000, "is above 2147483647"),
        ("batch=-" + "9" * 5000, "is below"),
        ("batch=[1:2000000000]", "batch has 2,000,000,000 values, above 10,000"),
        ("batch=[1:99999999999999]", "99999999999999 is above 2147483647"),
        ("batch=[2147483640:2147483650]", "2147483648 is above 2147483647"),
        ("batch[pow2]=31", "the exponent 31 is above 30"),
        ("batch[pow2]=[0:40]", "the exponent 31 is above 30"),
        ("batch[pow2]=[-1:3]", "the exponent -1 is below 0"),
        ("batch[pow2]=1000000000", "the exponent 1000000000 is above 30"),
        ("chunk[pow2]=none", "'none' is not an exponent of two"),
        ("dtype[pow2]=[0:3]", "[pow2] needs numbers, but the values of dtype are words"),
        ("batch=[1:9:0]", "the step 0 is below 1"),
        ("batch=[9:1:-4]", "the step -4 is below 1"),
        ("batch=[9:1]", "the start 9 is above the stop 1"),
        ("batch=[1:2:3:4]", "4 parts"),
        ("batch=[1:]", "'' is not a whole number"),
        ("batch=[1:2,3]", "'2,3' is not a whole number"),
        ("dtype=[1:2]", "'1:2' is a range, but the values of dtype are words"),
        ("batch=1:9", "write a range in brackets: [1:9]"),
        ("batch=1,2", "write a list in brackets: [1,2]"),
        ("batch=[1,2", "brackets do not match in '[1,2'"),
        ("batch=1,2]", "brackets do not match in '1,2]'"),
        ("batch=[[1],2]", "brackets do not match in '[[1],2]'"),
        ("batch=[", "brackets do not match in '['"),
        ("batch=1.5", "'1.5' is not a whole number"),
        ("batch=1e3", "'1e3' is not a whole number"),
        ("batch=1_000", "'1_000' is not a whole number"),
        ("batch=٣", "'٣' is not a whole number"),
        ("batch=none", "'none' is not a whole number"),
        ("dtype=float64", "'float64' is not one of float32, float16, bfloat16"),
        ("direction=sideways", "'sideways' is not one of native, down, up, right, left"),
        ("chanels=5", "'chanels=5': no axis is named 'chanels'; did you mean channels"),
        ("=5", "no axis is named ''"),
    ],
)
def test_bad_tokens_are_named(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_axis(text)
    assert complaint in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["batch=[1:1000000000]", "batch[pow2]=[0:1000000000]"])
def test_a_vast_range_is_counted_and_not_expanded(text: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError, match=r"1,000,000,00[01] values|1,000,000,00[01]"):
        parse_axis(text)
    assert time.process_time() - start < 0.01  # expanding it takes minutes


@pytest.mark.parametrize("value", [True, 1.0, "1", [1], None, {}])
def test_toml_values_are_not_coerced(value: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        make_axis("batch", [value])


@pytest.mark.parametrize("value", [True, 1, None, ["float32"]])
def test_words_are_words(value: object) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        make_axis("dtype", [value])


def test_long_lists_are_refused_with_their_count() -> None:
    with pytest.raises(ValueError, match="batch has 10,001 values, above 10,000"):
        make_axis("batch", range(1, MAX_VALUES + 2))
