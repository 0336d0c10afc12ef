"""Scores by the trained model itself, for models that have no parts to export: users whom it was trained on only."""

from pathlib import Path

import numpy as np

from recbole_mm.model.scoring import Array


class LiveModel:
    """A loaded run that scores its own users.

    Raises:
        CheckpointError: the run cannot be loaded.
    """

    def __init__(self, run_dir: Path) -> None:
        from recbole_mm.quick_start import load

        self.run = load(run_dir)

    def scores(self, user: int) -> Array:
        """Scores of all items, [I], as RecBole's evaluation takes them."""
        import torch
        from recbole.data.interaction import Interaction

        model, n_items = self.run.model, self.run.dataset.item_num
        users = torch.tensor([user])
        with torch.no_grad():
            try:
                scores = model.full_sort_predict(Interaction({model.USER_ID: users}).to(model.device))
            except NotImplementedError:
                pairs = {model.USER_ID: users.repeat(n_items), model.ITEM_ID: torch.arange(n_items)}
                scores = model.predict(Interaction(pairs).to(model.device))
        return np.asarray(scores.reshape(-1).cpu().numpy(), dtype=np.float32)
