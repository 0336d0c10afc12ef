import pytest
from contract import ModelContract

from recbole_mm.catalogue import our_models


@pytest.fixture(params=our_models())
def model(request):
    return request.param


class TestEveryModel(ModelContract):
    pass


def test_all_model_files_have_a_property_file():
    from recbole_mm.resources import shipped

    files = {f.stem for f in shipped("recbole_mm/model/general_recommender").glob("*.py")} - {"__init__"}
    assert files == {name.lower() for name in our_models()}
