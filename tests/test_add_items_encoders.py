"""The whole way with real encoders: extract, train, add a film by its plot and poster, and find it again."""

import shutil
from pathlib import Path

import checkpoints
import media
import pytest
import torch
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender


def call(*words) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


@pytest.fixture
def extracted(tmp_path):
    """A run on features of made-up plots and pictures, registered by other names than the shipped ones."""
    from torchvision.models import get_model

    data = Planted(tmp_path / "dataset").write()
    backbone, bert = tmp_path / "backbone.pt", checkpoints.bert(tmp_path / "bert")
    torch.manual_seed(0)
    torch.save(get_model("shufflenet_v2_x0_5").state_dict(), backbone)
    rows = ["item_id,plot"]
    for number, (a, b) in enumerate(data.attributes):
        media.picture(tmp_path / "media" / f"i{number}.jpg", number)
        rows.append(f"i{number},a film {'toy ' * (a + 1)}{'spy ' * (b + 1)}no {number}")
    Path("plots.csv").write_text("\n".join(rows) + "\n")
    named = ("--dataset", data.name, "--data-path", data.root)
    assert call("extract", "text", *named, "--modality", "plot", "--table", "plots.csv", "--template", "{plot}",
                "--checkpoint", bert) == 0  # fmt: skip
    assert call("extract", "image", *named, "--modality", "picture", "--media", "media", "--stretch", 64,
                "--encoder", "shufflenet_v2_x0_5", "--checkpoint", backbone) == 0  # fmt: skip
    files = {name: {"file": data.file(name).name} for name in ("plot", "picture")}
    run("MMFusion", data.name, config=data.config(modalities=files, epochs=3), run_dir="run")
    return rows


def test_a_film_with_the_plot_and_poster_of_another_stands_beside_it(extracted, capsys):
    plot = extracted[4].partition(",")[2]
    Path("new.csv").write_text(f"item_id,title,plot\ntwin,Twin,{plot}\nbare,Bare,{plot}\n")
    Path("posters").mkdir()
    shutil.copy("media/i3.jpg", "posters/twin.jpg")
    capsys.readouterr()
    assert call("add-items", "--run", "run", "--items", "new.csv", "--posters", "posters") == 0
    out, err = capsys.readouterr()
    assert "added 2 items to run: plot 2, picture 1" in out
    assert err == "warning: modality 'picture' of 'bare' is masked: no file of its id in posters\n"
    recommender = Recommender.load("run")
    for by in ("plot", "picture", None):
        (nearest,) = recommender.similar("twin", 1, by=by)
        assert nearest.film.item == ("bare" if by == "plot" else "i3")
        assert nearest.similarity == pytest.approx(1.0, abs=2e-3)  # features are kept as float16
    ids = recommender.films.ids
    everything = len(ids)
    by_picture = recommender.content.features["picture"]
    assert by_picture[ids["twin"]] == pytest.approx(by_picture[ids["i3"]], abs=2e-3)
    new = recommender.recommend(watched={"i3": 5}, k=everything - 1)
    assert "twin" in [r.film.item for r in new[: everything // 4]]
    assert {"twin", "bare"} <= {r.film.item for r in new}
    for r in recommender.recommend(watched={"twin": 5}, k=3, explain=True):
        assert sum(p.contribution for p in r.why.films) + r.why.profile + r.why.popularity == pytest.approx(
            r.score, rel=1e-4, abs=1e-5
        )
