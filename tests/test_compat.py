"""Each shim does what it says, and nothing where it is not needed."""

import subprocess
import sys

import numpy as np
from scipy.sparse import dok_matrix

from recbole_mm import compat


def in_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_torchvision_and_bert_import():
    done = in_new_process(
        "from recbole_mm.compat import ensure_torchvision; ensure_torchvision(); ensure_torchvision()\n"
        "import torchvision\n"
        "from transformers import BertConfig, BertModel\n"
        "sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)\n"
        "model = BertModel(BertConfig(**sizes))\n"
        "print(torchvision.models.mobilenet_v2().classifier[1].in_features, model.config.hidden_size)"
    )
    assert done.stdout.split() == ["1280", "8"]


def test_dok_update_is_restored_and_otherwise_left_alone(monkeypatch):
    monkeypatch.delattr(dok_matrix, "_update", raising=False)
    compat.restore_dok_update()
    matrix = dok_matrix((3, 4), dtype=np.float32)
    matrix._update({(0, 1): 1.0, (2, 3): 5.0})
    assert matrix.toarray()[2, 3] == 5.0
    assert matrix.nnz == 2
    marker = object()
    monkeypatch.setattr(dok_matrix, "_update", marker)
    compat.restore_dok_update()
    assert dok_matrix._update is marker


def test_a_run_is_quiet():
    done = in_new_process("import recbole_mm; r = recbole_mm.run('Pop', 'imdb', config={'modalities': ['genre']})")
    assert done.stdout == ""
    assert done.stderr == ""


def test_help_imports_neither_torch_nor_recbole():
    done = in_new_process(
        "import sys\nfrom recbole_mm.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print('HEAVY', sorted(m for m in ('torch', 'recbole', 'pandas', 'numpy', 'matplotlib') if m in sys.modules))"
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"
