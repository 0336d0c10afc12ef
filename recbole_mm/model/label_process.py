"""What a user's labels say about one more movie, in closed form: a Gaussian process over the movies, a user at a time.

    z_ui = mu_i + f_u(i) + noise,   f_u ~ GP(0, k),   k(i, j) = w_0 + sum_m w_m <x_im, x_jm>

z is a view of the label: its value (-1, 0, 1), and whether it is an opinion at all (0 for neutral, else 1). The mean of
f_u given the user's other labels is attention over them that is solved for and not learnt: the weights of the rated
movies are k(i, .) (K + noise)^-1, and its variance tells how much the user's labels say. mu_i is the shrunken mean over
the movie's other labels of what the users' own effects leave. A pair's own label is left out in closed form
(Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, section 5.4.2). w and noise maximise the
likelihood of the labels left out.

Shapes: S kernels, I items, P pairs, C views, K known labels; B users of a batch, L and Q their labels and
pairs, padded.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from recbole_mm.errors import ConfigError
from recbole_mm.known_labels import Ids, KnownLabels
from recbole_mm.model.fusion import ModalityBank

VIEWS = torch.tensor([[-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])  # [C, 3], by class
_MAX_ITEMS = 6000  # S kernels of items x items are held: 36 million numbers each at the limit
_CELLS = 1_500_000  # B x (L + Q) x L held at a time
_LONG = 60  # users with more labels are left out when w is fitted: they cost their cube
_SHRINK = 3.0  # labels' worth of the overall mean in mu
_STEPS, _ROUNDS, _BATCHES = 25, 3, 4


class LabelProcess(nn.Module):
    """Mean and variance of each view of a pair's label, given the user's other known labels."""

    log_weight: Tensor
    log_noise: Tensor
    kernels: Tensor

    def __init__(self, bank: ModalityBank) -> None:
        super().__init__()
        if len(bank.mask) > _MAX_ITEMS:
            raise ConfigError(
                f"{len(bank.mask)} items are too many for the closed form (at most {_MAX_ITEMS}); "
                "set closed_form: false"
            )
        self.register_buffer("kernels", torch.empty(0), persistent=False)  # [S, I, I]
        self.take_features(bank)
        start = torch.full((len(VIEWS), len(self.kernels)), 0.03).log()
        self.register_buffer("log_weight", start)  # [C, S]
        self.register_buffer("log_noise", torch.full((len(VIEWS),), 0.2).log())  # [C]

    def take_features(self, bank: ModalityBank) -> None:
        """Compute the kernels; a constant one first, by which a user likes more or less of everything."""
        grams = [bank.vectors(name) @ bank.vectors(name).T for name in bank.names]
        self.kernels = torch.stack([torch.ones(len(bank.mask), len(bank.mask)), *grams])

    # -- what is known ----------------------------------------------------------------------------------------

    def observe(self, known: KnownLabels, *, fit: bool = False) -> None:
        """Take up the known labels; with ``fit``, choose w and the noise by them."""
        self.known = known
        self.z = VIEWS[:, torch.from_numpy(known.cls)]  # [C, K]
        self.prior = self.z.mean(1) if len(known) else torch.zeros(len(VIEWS))
        effect = torch.zeros_like(self.z)
        for _ in range(_ROUNDS):
            self._set_means(effect)
            if fit:
                self._fit()
            own_mean = self.mean_of_known
            effect = self(known.user, known.item)[0].T - own_mean
        self._set_means(effect)

    def _set_means(self, effect: Tensor) -> None:
        known = self.known
        item = torch.from_numpy(known.item)
        rest = self.z - self.prior[:, None] - effect
        total = torch.zeros(len(VIEWS), known.n_items).index_add_(1, item, rest)
        count = torch.bincount(item, minlength=known.n_items).float()
        self.item_mean = self.prior[:, None] + total / (count + _SHRINK)  # [C, I]
        others = (total[:, item] - rest) / (count[item] - 1 + _SHRINK)
        self.mean_of_known = self.prior[:, None] + others  # [C, K]

    def _fit(self) -> None:
        short = np.bincount(self.known.user, minlength=self.known.n_users)[self.known.user] <= _LONG
        pairs = np.flatnonzero(short)
        if not len(pairs):
            return
        batches = list(self._batches(self.known.user[pairs], self.known.item[pairs]))
        draw = np.random.default_rng(0)
        parameters = [self.log_weight.clone().requires_grad_(), self.log_noise.clone().requires_grad_()]
        optimizer = torch.optim.Adam(parameters, lr=0.15)
        with torch.enable_grad():
            for _ in range(_STEPS):
                losses = []
                for at in draw.permutation(len(batches))[:_BATCHES]:
                    row, users, items = batches[at]
                    target = self.z[:, torch.from_numpy(pairs[row])]
                    mean, variance = self._predict(users, items, *parameters)
                    losses.append((0.5 * (target - mean) ** 2 / variance + 0.5 * variance.log()).mean())
                optimizer.zero_grad()
                torch.stack(losses).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        self.log_weight.copy_(parameters[0].detach())
        self.log_noise.copy_(parameters[1].detach())

    # -- prediction -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def forward(self, users: Ids, items: Ids) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and mu of each pair, [P, C] each; a pair's own label is left out where it is known."""
        mean, variance = torch.zeros(len(users), len(VIEWS)), torch.zeros(len(users), len(VIEWS))
        for row, batch_users, batch_items in self._batches(users, items):
            at = torch.from_numpy(row)
            m, v = self._predict(batch_users, batch_items, self.log_weight, self.log_noise)
            mean[at], variance[at] = m.T, v.T
        return mean, variance, self._means(users, items).T

    def _means(self, users: Ids, items: Ids) -> Tensor:
        own = torch.from_numpy(self.known.own(users, items))
        mean = self.item_mean[:, torch.from_numpy(items)]
        return torch.where(own >= 0, self.mean_of_known[:, own.clamp(min=0)], mean) if len(self.known) else mean

    def _batches(self, users: Ids, items: Ids) -> Iterator[tuple[Ids, Ids, Ids]]:
        """Pairs of like-sized users together: their rows, users and items."""
        labels = np.bincount(self.known.user, minlength=self.known.n_users)
        pairs = np.bincount(users, minlength=self.known.n_users)
        present = np.flatnonzero(pairs)
        order = present[np.lexsort((pairs[present], labels[present]))]
        by_user = np.argsort(users, kind="stable")
        starts = np.concatenate([[0], np.cumsum(pairs)])
        batch: list[int] = []
        longest = most = 1
        for user in [*order, -1]:
            longest_, most_ = (max(longest, labels[user]), max(most, pairs[user])) if user >= 0 else (0, 0)
            if batch and (user < 0 or (len(batch) + 1) * (longest_ + most_) * longest_ > _CELLS):
                rows = np.concatenate([by_user[starts[u] : starts[u + 1]] for u in sorted(batch)])
                yield rows, users[rows], items[rows]
                batch, longest_, most_ = [], max(1, labels[user]), max(1, pairs[user])
            batch.append(int(user))
            longest, most = longest_, most_

    def _predict(self, users: Ids, items: Ids, log_weight: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [C, P] of pairs that stand together by user."""
        known = self.known
        different, row = np.unique(users, return_inverse=True)
        label_at, is_label = _padded(*known.rows_of_users(different), len(different))  # [B, L]
        query_at, is_query = _padded(row, np.arange(len(users)), len(different))  # [B, Q]
        label_items = torch.from_numpy(known.item)[label_at] if len(known) else label_at
        query_items = torch.from_numpy(items)[query_at]
        own = is_label[:, None, :] & (label_items[:, None, :] == query_items[:, :, None])  # [B, Q, L]
        mu = self._means(users, items)
        means, variances = [], []
        for view in range(len(VIEWS)):
            weight, noise = log_weight[view].exp(), log_noise[view].exp()
            kernel = torch.tensordot(weight, self.kernels, dims=1)  # [I, I]
            gram = kernel[label_items[:, :, None], label_items[:, None, :]]
            both = is_label[:, :, None] & is_label[:, None, :]
            gram = torch.where(both, gram, 0.0) + torch.diag_embed(torch.where(is_label, noise, torch.ones(())))
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
            if len(known):
                rest = torch.where(is_label, (self.z - self.mean_of_known)[view][label_at], 0.0)
            else:
                rest = torch.zeros_like(label_at, dtype=torch.float32)
            solved, precision = (inverse @ rest[:, :, None])[..., 0], inverse.diagonal(dim1=1, dim2=2)
            cross = torch.where(is_label[:, None, :], kernel[query_items[:, :, None], label_items[:, None, :]], 0.0)
            prior = kernel.diagonal()[query_items]
            mean = (cross @ solved[:, :, None])[..., 0]
            variance = prior - ((cross @ inverse) * cross).sum(-1) + noise
            left_out = ((rest - solved / precision)[:, None, :] * own).sum(-1)
            known_pair = own.any(-1)
            mean = torch.where(known_pair, left_out, mean)
            variance = torch.where(known_pair, (own / precision[:, None, :]).sum(-1), variance).clamp(min=1e-4)
            means.append(mu[view] + mean[is_query])
            variances.append(variance[is_query])
        return torch.stack(means), torch.stack(variances)


def _padded(row: Ids, value: Ids, n_rows: int) -> tuple[Tensor, Tensor]:
    """Values by row (ascending), padded to a matrix [n_rows, longest >= 1], and where it holds a value."""
    count = np.bincount(row, minlength=n_rows)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    matrix = np.zeros((n_rows, max(1, int(count.max(initial=0)))), dtype=np.int64)
    there = np.zeros(matrix.shape, dtype=bool)
    matrix[row, rank], there[row, rank] = value, True
    return torch.from_numpy(matrix), torch.from_numpy(there)
