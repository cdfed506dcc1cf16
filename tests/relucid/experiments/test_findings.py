"""What an experiment writes."""

import csv
from fractions import Fraction

from relucid.experiments.findings import Findings, Table, bars, shown


def test_cells():
    assert shown(None) == "–"
    assert shown(Fraction(9880, 10000)) == "98.80 %"
    assert shown(Fraction(1, 3)) == "33.33 %"
    assert (shown(3), shown(0.25), shown("x")) == ("3", "0.25", "x")


def test_files(tmp_path):
    rows = (("a, b", Fraction(1, 2), None), ("c", Fraction(1), 7))
    png = bars(["a", "c"], {"x": [Fraction(1, 2), None]}, "title", "share")
    findings = Findings(
        "What came of it",
        (Table("Main", ("name", "share", "n"), rows), Table("More", ("n",), ((1,),), "more")),
        ("A note.",),
        {"": png},
    )
    written = findings.write(tmp_path, "try")
    assert [p.name for p in written] == ["try.md", "try.csv", "try-more.csv", "try.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in written)
    with (tmp_path / "try.csv").open() as stream:
        assert list(csv.reader(stream)) == [
            ["name", "share", "n"], ["a, b", "0.5", ""], ["c", "1.0", "7"]
        ]  # fmt: skip
    text = (tmp_path / "try.md").read_text()
    assert "| a, b | 50.00 % | – |" in text
    assert "![try](try.png)" in text
    assert text.endswith("A note.\n")
    assert png.startswith(b"\x89PNG")
