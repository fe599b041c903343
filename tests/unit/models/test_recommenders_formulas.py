"""Scores of single recommenders, compared with a plain computation of their formulas."""

from collections.abc import Iterator

import torch
from histories import all_states

from mlrec.models.recommenders import RECOMMENDERS, Vectors


def test_factorization_counts_every_pair_of_features_once() -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS["deepfm"](8, 3, dropout=0.0)
    torch.nn.init.zeros_(model.network.out)
    items = torch.randn(4, 8)
    vectors = model.prepare(torch.arange(1, 5), items)
    score = model.score(
        model.last_states(vectors, torch.tensor([0]), torch.tensor([[0, 1, 2]])),
        vectors.items_UX,
    )[0, 3]
    features = [items[0] / 3, items[1] / 3, items[2] / 3, items[3]]
    pairs = sum(features[i] @ features[j] for i in range(4) for j in range(i))
    linear = model.first_order(items[3]) + model.first_order(items[:3].mean(dim=0))
    torch.testing.assert_close(score, (pairs + linear)[0])


def toy() -> Iterator[torch.Tensor]:
    """Three users, in two chunks; item 4 was watched by nobody."""
    yield torch.tensor([[0, 1, 2], [1, 2, 3]])
    yield torch.tensor([[0, 0, 3]])


def test_lightgcn_equals_products_with_the_whole_matrix() -> None:
    torch.manual_seed(0)
    model = RECOMMENDERS["lightgcn"](5, 6, layers=3)
    model.fit(toy(), 4)
    adjacency = torch.zeros(3 + 5, 3 + 5)
    for user, watched in enumerate([[1, 2], [1, 2, 3], [3]]):
        for item in watched:
            adjacency[user, 3 + item] = adjacency[3 + item, user] = 1.0
    scale = adjacency.sum(dim=1).clamp(min=1).rsqrt()
    normed = scale[:, None] * adjacency * scale
    nodes = torch.randn(8, 5)
    expected = sum(torch.linalg.matrix_power(normed, layer) @ nodes for layer in range(4)) / 4
    users, items = model.propagate(nodes[:3], nodes[3:])
    torch.testing.assert_close(torch.cat([users, items]), expected)


def test_item_knn_equals_products_of_the_weighted_matrix() -> None:
    model = RECOMMENDERS["item_knn"](1, 3, k1=1.2, b=0.75, decay=0.5)
    model.fit(toy(), 4)
    watched = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    idf = torch.log(4 / (1 + torch.tensor([2.0, 3.0, 1.0])))
    weighted = (
        watched * idf[:, None] * 2.2 / (1.2 * (0.25 + 0.75 * torch.tensor([2.0, 2, 2, 0]) / 2) + 1)
    )
    similar = (weighted.T @ weighted).fill_diagonal_(0)
    vectors = Vectors(torch.arange(1, 5), torch.zeros(4, 1), torch.zeros(4, 1))
    slots = torch.tensor([[-1, 0, 2], [-1, -1, 3]])
    item_scores = model.score(model.last_states(vectors, torch.arange(2), slots), vectors.items_UX)
    torch.testing.assert_close(item_scores[0], 0.5 * similar[0] + similar[2])
    assert item_scores[1].tolist() == [0, 0, 0, 0], "nobody watched item 4"
    torch.testing.assert_close(all_states(model, vectors, slots)[:, -1], item_scores)
