"""Tables, templates and media folders; the average over units; the choice of precision."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction import precision
from recbole_mm.extraction.encoder import Card, Encoder, NothingToEncode, Prepared, Unit
from recbole_mm.extraction.items import Item, inside, media_items, read_table, text_items


class Numbers(Encoder):
    """A text of numbers by space: the vector is their mean and that of their squares."""

    batch_size = 3

    def __init__(self, precision="float32", *, error=0.0, equal_sizes=False):
        card = Card("text", "numbers", "none", "1", "MIT", 2, "mean", "none", {"kind": "numbers"})
        super().__init__(card, torch.nn.Identity(), precision=precision)
        self.error, self.equal_sizes, self.batches = error, equal_sizes, []

    def prepare(self, source):
        if not str(source).split():
            raise NothingToEncode("no text")
        return Prepared(tuple(Unit(float(w), abs(int(float(w))), 1.0) for w in str(source).split()))

    def forward(self, units):
        self.batches.append([unit.size for unit in units])
        x = torch.tensor([unit.data for unit in units])
        turned = self.error * x if self.precision == "bfloat16" else 0
        return torch.stack([x + 1, x**2 + turned], 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(-50, 50), max_size=9), max_size=9), st.booleans())
def test_a_source_is_the_mean_of_its_units_whatever_the_batches(texts, equal):
    encoder = Numbers(equal_sizes=equal)
    got = encoder.encode([" ".join(map(str, text)) for text in texts])
    for row, text in enumerate(texts):
        assert got.mask[row] == bool(text)
        if text:
            expected = [np.mean([x + 1 for x in text]), np.mean([x**2 for x in text])]
            np.testing.assert_allclose(got.vectors[row], expected, rtol=1e-5)
        else:
            assert got.reasons[row] == "no text"
    assert all(len(batch) <= 3 for batch in encoder.batches)
    assert all(len(set(batch)) == 1 for batch in encoder.batches) or not equal
    sizes = [size for batch in encoder.batches for size in batch]
    assert sizes == sorted(sizes, reverse=True)


def test_precision_follows_the_cosine_and_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    sources = ["", "1 2", "3", "9"]
    encoder, why = precision.with_precision(Numbers, "auto", sources, "cpu", tmp_path)
    assert encoder.precision == "bfloat16"
    assert "1.00000" in why

    def wrong(chosen):
        return Numbers(chosen, error=4.0)

    assert precision.with_precision(wrong, "auto", sources, "cpu", tmp_path)[0].precision == "bfloat16"  # remembered
    encoder, why = precision.with_precision(wrong, "auto", sources, "cpu", tmp_path / "new")
    assert encoder.precision == "float32"
    assert why.startswith("float32: lowest cosine")
    assert precision.with_precision(wrong, "bfloat16", sources, "cpu", tmp_path)[0].precision == "bfloat16"
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    assert precision.with_precision(Numbers, "auto", sources, "cpu", tmp_path)[0].precision == "float32"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "item"])
def test_every_form_of_table_gives_the_same_texts(tmp_path, suffix):
    rows = [("1", "Toy", "a toy"), ("2", "Spy", ""), ("3", "", ""), ("1", "Toy", "seen twice"), ("1", "Toy", "a toy")]
    path = tmp_path / f"t.{suffix}"
    names = ["item_id", "title", "plot"]
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows))
    else:
        mark = "," if suffix == "csv" else "\t"
        head = [f"{n}:token" for n in names] if suffix == "item" else names
        path.write_text("\n".join(mark.join(row) for row in [head, *rows]) + "\n")
    assert text_items(read_table(path), "{title}. {plot}") == [
        Item("1", ("Toy. a toy", "Toy. seen twice")),
        Item("2", ("Spy.",)),
        Item("3", (), "no text in title, plot"),
    ]


@pytest.mark.parametrize(
    ("text", "template", "words"),
    [
        ("item_id,plot\n1,x\n", "{title}", "no column 'title'"),
        ("item_id,plot\n1,x\n", "plot", r"no \{column\} in it"),
        ("item_id,plot\n1,x\n", "{plot", "expected text and"),
        ("movie,plot\n1,x\n", "{plot}", "--item-column"),
        ("item_id,plot\n1,x,y\n", "{plot}", "line 2 has 3 cells"),
        ("item_id,plot\n", "{plot}", "no rows"),
    ],
)
def test_a_table_or_template_that_does_not_fit_is_one_clear_line(tmp_path, text, template, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ExtractionError, match=words):
        text_items(read_table(path), template)


def test_media_by_column_and_by_name(tmp_path):
    for name in ("1.jpg", "1.png", "2.jpg", "x.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "t.csv").write_text("item_id,file\n1,a.jpg\n2,\n1,b.jpg\n3,../c.jpg\n")
    table = read_table(tmp_path / "t.csv")
    by_name = media_items(table, tmp_path, (".jpg", ".png"))
    assert [[Path(s).name for s in item.sources] for item in by_name] == [["1.jpg", "1.png"], ["2.jpg"], []]
    by_column = media_items(table, tmp_path, (".jpg",), "file")
    assert [[Path(s).name for s in item.sources] for item in by_column] == [["a.jpg", "b.jpg"], [], ["c.jpg"]]
    assert by_column[1].missing == "no file named"
    allowed = inside(tmp_path)
    assert allowed(tmp_path / "1.jpg")
    assert not allowed(tmp_path / ".." / "c.jpg")
    assert not allowed(Path("/etc/passwd"))
    (tmp_path / "link.jpg").symlink_to("/etc/passwd")
    assert not allowed(tmp_path / "link.jpg")
    with pytest.raises(ExtractionError, match="no file is named as an item"):
        media_items(table, tmp_path, (".gif",))
