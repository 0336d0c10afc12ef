import pytest
from contract import ClassifyingContract, RankingContract, classifies

from recbole_mm.catalogue import our_models

CLASSIFIERS = [name for name in our_models() if classifies(name)]


class TestEveryRankingModel(RankingContract):
    @pytest.fixture(params=[name for name in our_models() if name not in CLASSIFIERS])
    def model(self, request):
        return request.param


class TestEveryClassifier(ClassifyingContract):
    @pytest.fixture(params=CLASSIFIERS)
    def model(self, request):
        return request.param


def test_all_model_files_have_a_property_file():
    from recbole_mm.resources import shipped

    folders = ("general_recommender", "classifier")
    files = {f.stem for folder in folders for f in shipped(f"recbole_mm/model/{folder}").glob("*.py")} - {"__init__"}
    assert files == {name.lower() for name in our_models()}
