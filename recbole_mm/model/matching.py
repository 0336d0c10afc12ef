"""How well a user and an item fit: dot product, cosine with temperature, or an MLP.

Shapes: U users, I items, B pairs, D width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.scoring import Array, to_array

MatchingName = Literal["dot", "cosine", "mlp"]
_MLP_CELLS = 8_000_000  # users x items x hidden units held at a time: 32 MB


class Matching(nn.Module):
    """Scores of pairs, or of all users with all items; both ways give the same numbers."""

    def __init__(self, size: int, *, how: MatchingName, temperature: float, hidden_size: int) -> None:
        super().__init__()
        self.how, self.temperature = how, temperature
        if how == "mlp":
            self.of_user = nn.Linear(size, hidden_size)
            self.of_item = nn.Linear(size, hidden_size, bias=False)
            self.of_both = nn.Linear(size, hidden_size, bias=False)
            self.out = nn.Linear(hidden_size, 1, bias=False)

    def pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """User [B, D] and item [B, D] to scores [B]."""
        if self.how == "mlp":
            return self._mlp(user, item)
        user, item = self._prepared(user, item)
        return (user * item).sum(-1)

    def all(self, user: Tensor, item: Tensor) -> Tensor:
        """User [U, D] and item [I, D] to scores [U, I]."""
        if self.how != "mlp":
            user, item = self._prepared(user, item)
            return user @ item.T
        step = max(1, _MLP_CELLS // max(1, len(item) * self.out.in_features))
        return torch.cat([self._mlp(part.unsqueeze(1), item.unsqueeze(0)) for part in torch.split(user, step)])

    def _prepared(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        if self.how == "dot":
            return user, item
        return F.normalize(user, dim=-1) / self.temperature, F.normalize(item, dim=-1)

    def _mlp(self, user: Tensor, item: Tensor) -> Tensor:
        hidden = self.of_user(user) + self.of_item(item) + self.of_both(user * item)
        scores: Tensor = self.out(F.relu(hidden)).squeeze(-1)
        return scores

    def mlp_arrays(self) -> dict[str, Array]:
        """The MLP's weights as :class:`~recbole_mm.model.scoring.ScoringParts` names them; empty for the others."""
        if self.how != "mlp":
            return {}
        return {
            "of_user": to_array(self.of_user.weight),
            "user_bias": to_array(self.of_user.bias),
            "of_item": to_array(self.of_item.weight),
            "of_both": to_array(self.of_both.weight),
            "out": to_array(self.out.weight),
        }
