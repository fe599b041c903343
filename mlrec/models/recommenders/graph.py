"""Graph models: users and items are the nodes, the training interactions the edges, and vectors travel along them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from mlrec.models.recommenders.base import UserModel, Vectors, unit


class GraphModel(UserModel):
    """Users have trained vectors of their own, items those of the item tower; both are replicated on every rank.

    A user is the same after every position: the node, with all its training interactions. Nothing else is in the graph, so that
    what is held out, validation item included, has no part in any vector.
    """

    whole_catalogue: ClassVar[bool] = True

    users_E: torch.Tensor
    items_E: torch.Tensor
    """The edges, int64: numbers of users, ids of items."""

    def __init__(self, width: int, length: int, layers: int = 2) -> None:
        super().__init__()
        self.width, self.layers = width, layers

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        users, items, first = [], [], 0
        for items_BT in sequences:
            rows, places = torch.nonzero(items_BT, as_tuple=True)
            users.append(rows + first)
            items.append(items_BT[rows, places])
            first += len(items_BT)
        # what the data set says anew at every start is not kept in checkpoints
        self.register_buffer("users_E", torch.cat(users), persistent=False)
        self.register_buffer("items_E", torch.cat(items), persistent=False)
        self.num_users, self.num_items = first, num_items
        self.users = nn.Embedding(first, self.width)
        nn.init.xavier_normal_(self.users.weight)

    def prepare(self, ids_U: torch.Tensor, items_UD: torch.Tensor) -> Vectors:
        items_ND = items_UD.new_zeros(self.num_items + 1, self.width).index_copy(0, ids_U, items_UD)
        users_MX, items_NX = self.travel(
            self.users(torch.arange(self.num_users, device=ids_U.device)), items_ND
        )
        return Vectors(ids_U, items_UD, items_NX[ids_U], users_MX)

    def travel(
        self, users_MD: torch.Tensor, items_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of users [M, X] and items [N + 1, X] after the layers; row 0 of the items is padding."""
        raise NotImplementedError

    def states(
        self, vectors: Vectors, users_B: torch.Tensor, slots_BL: torch.Tensor
    ) -> torch.Tensor:
        assert vectors.users_MX is not None
        return vectors.users_MX.index_select(0, users_B)[:, None].expand(-1, slots_BL.shape[1], -1)


class FixedGraph(GraphModel):
    """A graph whose edges weigh what their ends' degrees say."""

    items_MN: torch.Tensor
    users_NM: torch.Tensor
    """Sparse: the weights of the items in a user's sum [M, N + 1], and of the users in an item's [N + 1, M]."""

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        users_M, items_N = (
            torch.bincount(ends_E).float() for ends_E in (self.users_E, self.items_E)
        )
        in_user_E, in_item_E = self.weights(users_M[self.users_E], items_N[self.items_E])
        M, N = self.num_users, self.num_items + 1
        self.register_buffer(
            "items_MN", _sparse(self.users_E, self.items_E, in_user_E, (M, N)), persistent=False
        )
        self.register_buffer(
            "users_NM", _sparse(self.items_E, self.users_E, in_item_E, (N, M)), persistent=False
        )

    def weights(
        self, of_user_E: torch.Tensor, of_item_E: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What an edge weighs in its user's sum and in its item's, of the degrees of the two."""
        raise NotImplementedError

    def to_users(self, items_ND: torch.Tensor) -> torch.Tensor:
        """Sums of the items' vectors over each user's edges, [M, D]."""
        return _product(self.items_MN, items_ND)

    def to_items(self, users_MD: torch.Tensor) -> torch.Tensor:
        """Sums of the users' vectors over each item's edges, [N + 1, D]."""
        return _product(self.users_NM, users_MD)


class LightGCN(FixedGraph):
    """He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation, 2020.

    Each layer is the sum over the neighbours, weighed with 1 / sqrt(degree of both ends); the result is the mean of all layers,
    the vectors themselves included.
    """

    def __init__(self, width: int, length: int, layers: int = 3) -> None:
        super().__init__(width, length, layers)

    def weights(
        self, of_user_E: torch.Tensor, of_item_E: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight_E = (of_user_E * of_item_E).rsqrt()
        return weight_E, weight_E

    def travel(
        self, users_MD: torch.Tensor, items_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        users, items = [users_MD], [items_ND]
        for _ in range(self.layers):
            # both sides from the layer before
            users_next = self.to_users(items[-1])
            items.append(self.to_items(users[-1]))
            users.append(users_next)
        return torch.stack(users).mean(dim=0), torch.stack(items).mean(dim=0)


class MMGCN(FixedGraph):
    """Wei et al., MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video, 2019.

    Each layer: the mean over the neighbours through one layer, and the node's own vector through another with its id vector added
    (the paper's element-wise combination). The encoders of the item tower are fused before the graph: one graph, where the paper
    has one for each modality.
    """

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        self.ids = nn.Embedding(self.num_users + num_items + 1, self.width)
        nn.init.xavier_normal_(self.ids.weight)
        self.of_neighbours = nn.ModuleList(_linear(self.width) for _ in range(self.layers))
        self.of_itself = nn.ModuleList(_linear(self.width) for _ in range(self.layers))
        self.combine = nn.ModuleList(_linear(self.width) for _ in range(self.layers))

    def weights(
        self, of_user_E: torch.Tensor, of_item_E: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return of_user_E.reciprocal(), of_item_E.reciprocal()

    def travel(
        self, users_MD: torch.Tensor, items_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.ids(torch.arange(self.ids.num_embeddings, device=users_MD.device))
        nodes = unit(torch.cat([users_MD, items_ND]))
        for of_neighbours, of_itself, combine in zip(
            self.of_neighbours, self.of_itself, self.combine, strict=True
        ):
            users, items = nodes[: self.num_users], nodes[self.num_users :]
            means = torch.cat([self.to_users(items), self.to_items(users)])
            itself = leaky_relu(of_itself(nodes)) + ids
            nodes = leaky_relu(combine(leaky_relu(of_neighbours(means))) + itself)
        return nodes[: self.num_users], nodes[self.num_users :]


class GRCN(GraphModel):
    """Wei et al., Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback, 2020.

    Refining: a user's preference is routed `routing` times towards the content of the items that agree with it, and an edge
    weighs as much as its ends agree (softmax over the receiver's edges: the paper's soft variant). Then id vectors travel along
    the refined edges, their layers added up; the score is of ids and content beside each other. The encoders of the item tower
    are the content, fused before the graph.
    """

    def __init__(self, width: int, length: int, layers: int = 2, routing: int = 3) -> None:
        super().__init__(width, length, layers)
        self.routing = routing

    def fit(self, sequences: Iterator[torch.Tensor], num_items: int) -> None:
        super().fit(sequences, num_items)
        self.ids = nn.Embedding(self.num_users + num_items + 1, self.width)
        nn.init.xavier_normal_(self.ids.weight)
        self.content = _linear(self.width)

    def travel(
        self, users_MD: torch.Tensor, items_ND: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        preference_MD = unit(users_MD)
        content_ND = unit(leaky_relu(self.content(items_ND)))
        for _ in range(self.routing):
            weight_E = _softmax(
                self._agreement(preference_MD, content_ND), self.users_E, self.num_users
            )
            preference_MD = unit(preference_MD + self._to_users(weight_E, content_ND))
        agreement_E = self._agreement(preference_MD, content_ND)
        of_user_E = _softmax(agreement_E, self.users_E, self.num_users)
        of_item_E = _softmax(agreement_E, self.items_E, self.num_items + 1)
        ids = self.ids(torch.arange(self.ids.num_embeddings, device=users_MD.device))
        users, items = ids[: self.num_users], ids[self.num_users :]
        total = ids
        for _ in range(self.layers):
            users, items = self._to_users(of_user_E, items), self._to_items(of_item_E, users)
            total = total + torch.cat([users, items])
        users_MX = torch.cat([total[: self.num_users], preference_MD], dim=1)
        return users_MX, torch.cat([total[self.num_users :], content_ND], dim=1)

    def _to_users(self, weight_E: torch.Tensor, items_ND: torch.Tensor) -> torch.Tensor:
        return _sums(self.users_E, self.items_E, weight_E, items_ND, self.num_users)

    def _to_items(self, weight_E: torch.Tensor, users_MD: torch.Tensor) -> torch.Tensor:
        return _sums(self.items_E, self.users_E, weight_E, users_MD, self.num_items + 1)

    def _agreement(self, preference_MD: torch.Tensor, content_ND: torch.Tensor) -> torch.Tensor:
        return (
            preference_MD.index_select(0, self.users_E) * content_ND.index_select(0, self.items_E)
        ).sum(dim=1)


def _sparse(
    to_E: torch.Tensor, from_E: torch.Tensor, weight_E: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    return torch.sparse_coo_tensor(
        torch.stack([to_E, from_E]), weight_E, shape, check_invariants=True
    ).coalesce()


def _product(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """In fp32: torch has no sparse product in bf16 on a CPU."""
    product: torch.Tensor = torch.sparse.mm(weights.float(), values.float())
    return product.to(values.dtype)


def _sums(
    to_E: torch.Tensor,
    from_E: torch.Tensor,
    weight_E: torch.Tensor,
    values: torch.Tensor,
    count: int,
) -> torch.Tensor:
    """Sums over edges whose weights have gradients, for which a sparse product takes 35 times as long."""
    weighted = values.index_select(0, from_E) * weight_E.to(values.dtype)[:, None]
    return values.new_zeros(count, values.shape[1]).index_add(0, to_E, weighted)


def _softmax(value_E: torch.Tensor, to_E: torch.Tensor, count: int) -> torch.Tensor:
    """Softmax over the edges of each receiver; the values are cosines, too small to overflow."""
    exponential_E = value_E.exp()
    return exponential_E / value_E.new_zeros(count).index_add(0, to_E, exponential_E)[to_E]


def _linear(width: int) -> nn.Linear:
    layer = nn.Linear(width, width)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
