"""Graph models: nodes are users and items, edges are training interactions.

Shape letters: M users, N items of the catalogue, E edges, U items of a step, D width of vectors,
X width of scored vectors. Vectors of items have N + 1 rows, where row 0 is padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from mlrec.models.recommenders.base import UserModel, Vectors, unit
from mlrec.models.recommenders.histories import Slots


class Nodes(NamedTuple):
    """Vectors of all nodes of a graph."""

    users_MX: torch.Tensor
    items_NX: torch.Tensor
    """[N + 1, X], row 0 for padding."""


class EdgeWeights(NamedTuple):
    """Weights of each edge, one per direction."""

    in_user_E: torch.Tensor
    """Weight of the item in its user's sum."""
    in_item_E: torch.Tensor
    """Weight of the user in its item's sum."""


class GraphModel(UserModel):
    """A model with a trained vector per user; item vectors come from the item tower.

    Every rank has all nodes. A user's state is the same after every position: its node, with all
    its training interactions. The graph has no other edges, so held-out interactions,
    including those for validation, affect no vector.
    """

    whole_catalogue: ClassVar[bool] = True

    users_E: torch.Tensor
    """User number of each edge, int64."""
    items_E: torch.Tensor
    """Item id of each edge, int64."""

    def __init__(self, width: int, length: int, layers: int = 2) -> None:
        # every recommender takes `length`; the states here do not depend on histories
        super().__init__()
        self.width = width
        self.layers = layers

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        users = []
        items = []
        num_users = 0
        for items_BT in sequences:
            rows, positions = torch.nonzero(items_BT, as_tuple=True)
            # users are numbered in the order of the sequences
            users.append(rows + num_users)
            items.append(items_BT[rows, positions])
            num_users += len(items_BT)
        # not in checkpoints, because every start reads the edges from the data set
        self.register_buffer("users_E", torch.cat(users), persistent=False)
        self.register_buffer("items_E", torch.cat(items), persistent=False)
        self.num_users = num_users
        self.num_items = num_items
        self.users = nn.Embedding(num_users, self.width)
        nn.init.xavier_normal_(self.users.weight)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        # unreadable items and the padding in row 0 are nodes of zeros
        items_ND = items_UD.new_zeros(self.num_items + 1, self.width).index_copy(0, ids_U, items_UD)
        users_MD = self.users(torch.arange(self.num_users, device=ids_U.device))
        nodes = self.propagate(users_MD, items_ND)
        return Vectors(ids_U, items_UD, nodes.items_NX[ids_U], nodes.users_MX)

    def propagate(self, users_MD: torch.Tensor, items_ND: torch.Tensor) -> Nodes:
        """Return the vectors of users and items after all layers."""
        raise NotImplementedError

    def states(self, vectors: Vectors, users_B: torch.Tensor, slots: Slots) -> torch.Tensor:
        assert vectors.users_MX is not None
        users_P = users_B[slots.wanted_rows() // slots.items_BL.shape[1]]
        return vectors.users_MX.index_select(0, users_P)


class FixedGraph(GraphModel):
    """A graph model whose edge weights depend only on the degrees of both ends."""

    items_MN: torch.Tensor
    """Weights of items in each user's sum, sparse [M, N + 1]."""
    users_NM: torch.Tensor
    """Weights of users in each item's sum, sparse [N + 1, M]."""

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        # an edge counts in the degrees of both ends, so no degree is 0
        user_degree_E = torch.bincount(self.users_E).float()[self.users_E]
        item_degree_E = torch.bincount(self.items_E).float()[self.items_E]
        weights = self.weights(user_degree_E, item_degree_E)
        user_rows = self.num_users
        item_rows = self.num_items + 1
        items_MN = _sparse(self.users_E, self.items_E, weights.in_user_E, (user_rows, item_rows))
        users_NM = _sparse(self.items_E, self.users_E, weights.in_item_E, (item_rows, user_rows))
        self.register_buffer("items_MN", items_MN, persistent=False)
        self.register_buffer("users_NM", users_NM, persistent=False)

    def weights(self, user_degree_E: torch.Tensor, item_degree_E: torch.Tensor) -> EdgeWeights:
        """Return the weights of each edge.

        Args:
            user_degree_E: degree of the edge's user.
            item_degree_E: degree of the edge's item.
        """
        raise NotImplementedError

    def to_users(self, items_ND: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of item vectors over each user's edges, [M, D]."""
        return _product(self.items_MN, items_ND)

    def to_items(self, users_MD: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of user vectors over each item's edges, [N + 1, D]."""
        return _product(self.users_NM, users_MD)


class LightGCN(FixedGraph):
    """He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation,
    2020.

    Each layer sums over the neighbours, with weights 1 / sqrt(product of both degrees). The result
    is the mean of all layers, including the initial vectors.
    """

    def __init__(self, width: int, length: int, layers: int = 3) -> None:
        super().__init__(width, length, layers)

    def weights(self, user_degree_E: torch.Tensor, item_degree_E: torch.Tensor) -> EdgeWeights:
        weight_E = (user_degree_E * item_degree_E).rsqrt()
        return EdgeWeights(weight_E, weight_E)

    def propagate(self, users_MD: torch.Tensor, items_ND: torch.Tensor) -> Nodes:
        users = [users_MD]
        items = [items_ND]
        for _ in range(self.layers):
            # both sides are computed from the previous layer
            users_next = self.to_users(items[-1])
            items.append(self.to_items(users[-1]))
            users.append(users_next)
        # the paper weighs all K + 1 layers equally
        return Nodes(torch.stack(users).mean(dim=0), torch.stack(items).mean(dim=0))


class MMGCN(FixedGraph):
    """Wei et al., MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of
    Micro-video, 2019.

    Each layer adds three vectors per node: the mean over its neighbours, its own vector and its id
    vector. The first two pass through a linear layer each (the paper's element-wise combination).
    The item tower fuses its encoders before the graph, so there is one graph. The paper has one per
    modality.
    """

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        self.ids = nn.Embedding(self.num_users + num_items + 1, self.width)
        nn.init.xavier_normal_(self.ids.weight)
        self.of_neighbours = nn.ModuleList(_linear(self.width) for _ in range(self.layers))
        self.of_itself = nn.ModuleList(_linear(self.width) for _ in range(self.layers))
        self.combine = nn.ModuleList(_linear(self.width) for _ in range(self.layers))

    def weights(self, user_degree_E: torch.Tensor, item_degree_E: torch.Tensor) -> EdgeWeights:
        return EdgeWeights(user_degree_E.reciprocal(), item_degree_E.reciprocal())

    def propagate(self, users_MD: torch.Tensor, items_ND: torch.Tensor) -> Nodes:
        # users first, then items, in both `ids` and `nodes`
        ids = self.ids(torch.arange(self.ids.num_embeddings, device=users_MD.device))
        nodes = unit(torch.cat([users_MD, items_ND]))
        for of_neighbours, of_itself, combine in zip(
            self.of_neighbours, self.of_itself, self.combine, strict=True
        ):
            users = nodes[: self.num_users]
            items = nodes[self.num_users :]
            means = torch.cat([self.to_users(items), self.to_items(users)])
            itself = leaky_relu(of_itself(nodes)) + ids
            nodes = leaky_relu(combine(leaky_relu(of_neighbours(means))) + itself)
        return Nodes(nodes[: self.num_users], nodes[self.num_users :])


class GRCN(GraphModel):
    """Wei et al., Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit
    Feedback, 2020.

    Refinement moves a user's preference `routing` times towards the content of items that agree
    with it. An edge's weight is the agreement of its ends, as a softmax over the receiver's edges
    (the paper's soft variant). Id vectors are then propagated along the refined edges, and the
    outputs of all layers are added to them. The score uses concatenated id and content vectors. The
    content is the item tower's vector, with all encoders fused before the graph.
    """

    def __init__(self, width: int, length: int, layers: int = 2, routing: int = 3) -> None:
        super().__init__(width, length, layers)
        self.routing = routing

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        self.ids = nn.Embedding(self.num_users + num_items + 1, self.width)
        nn.init.xavier_normal_(self.ids.weight)
        self.content = _linear(self.width)

    def propagate(self, users_MD: torch.Tensor, items_ND: torch.Tensor) -> Nodes:
        preference_MD = unit(users_MD)
        content_ND = unit(leaky_relu(self.content(items_ND)))
        # routing updates the preferences only, not the content of items
        for _ in range(self.routing):
            agreement_E = self._agreement(preference_MD, content_ND)
            weight_E = _softmax(agreement_E, self.users_E, self.num_users)
            preference_MD = unit(preference_MD + self._to_users(weight_E, content_ND))
        agreement_E = self._agreement(preference_MD, content_ND)
        # each edge has two weights, because a softmax runs over the edges of one receiver
        to_user_weight_E = _softmax(agreement_E, self.users_E, self.num_users)
        to_item_weight_E = _softmax(agreement_E, self.items_E, self.num_items + 1)
        ids = self.ids(torch.arange(self.ids.num_embeddings, device=users_MD.device))
        users = ids[: self.num_users]
        items = ids[self.num_users :]
        total = ids
        for _ in range(self.layers):
            # both sides are computed from the previous layer
            users_next = self._to_users(to_user_weight_E, items)
            items = self._to_items(to_item_weight_E, users)
            users = users_next
            total = total + torch.cat([users, items])
        users_MX = torch.cat([total[: self.num_users], preference_MD], dim=1)
        items_NX = torch.cat([total[self.num_users :], content_ND], dim=1)
        return Nodes(users_MX, items_NX)

    def _to_users(self, weight_E: torch.Tensor, items_ND: torch.Tensor) -> torch.Tensor:
        return _sums(self.users_E, self.items_E, weight_E, items_ND, self.num_users)

    def _to_items(self, weight_E: torch.Tensor, users_MD: torch.Tensor) -> torch.Tensor:
        return _sums(self.items_E, self.users_E, weight_E, users_MD, self.num_items + 1)

    def _agreement(self, preference_MD: torch.Tensor, content_ND: torch.Tensor) -> torch.Tensor:
        """Return the dot product of each edge's ends."""
        users_ED = preference_MD.index_select(0, self.users_E)
        items_ED = content_ND.index_select(0, self.items_E)
        return (users_ED * items_ED).sum(dim=1)


def _sparse(
    to_E: torch.Tensor, from_E: torch.Tensor, weight_E: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    """Return a sparse matrix of edge weights, with a row per receiver and a column per sender."""
    edges = torch.stack([to_E, from_E])
    # an item watched twice has two edges, which coalesce adds up
    return torch.sparse_coo_tensor(edges, weight_E, shape, check_invariants=True).coalesce()


def _product(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return the product of a sparse and a dense matrix in the dtype of `values`."""
    # torch has no sparse product in bf16 on CPUs
    product: torch.Tensor = torch.sparse.mm(weights.float(), values.float())
    return product.to(values.dtype)


def _sums(
    to_E: torch.Tensor,
    from_E: torch.Tensor,
    weight_E: torch.Tensor,
    values: torch.Tensor,
    count: int,
) -> torch.Tensor:
    """Return weighted sums over the edges of each receiver.

    A sparse product takes 35 times as long if the weights need gradients.
    """
    weighted = values.index_select(0, from_E) * weight_E.to(values.dtype)[:, None]
    return values.new_zeros(count, values.shape[1]).index_add(0, to_E, weighted)


def _softmax(value_E: torch.Tensor, to_E: torch.Tensor, count: int) -> torch.Tensor:
    """Return the softmax over the edges of each receiver.

    The values are cosines, so exp cannot overflow and no maximum is subtracted.
    """
    exponential_E = value_E.exp()
    return exponential_E / value_E.new_zeros(count).index_add(0, to_E, exponential_E)[to_E]


def _linear(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
