"""hw2_moe.ipynb: data, layers, training, and the mathematics of its part Beyond."""

import pytest
import torch
from conftest import load_definitions
from torch.testing import assert_close

moe = load_definitions("hw2_moe.ipynb")
KINDS = [moe.MixtureOfExperts, moe.MixtureOfLogits]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def points(n=500):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).double() * 4


def test_data():
    X, y = moe.generate_data(20_000, seed=1)
    assert (X.shape, X.dtype) == ((20_000, 2), torch.float32)
    assert (y.shape, y.dtype) == ((20_000,), torch.int64)
    for cloud, centre in ((X[:10_000], [3.0, 0]), (X[10_000:], [-3.0, 0])):
        assert_close(cloud.mean(0), torch.tensor(centre), atol=0.05, rtol=0)
        assert_close(cloud.T.cov(), torch.eye(2), atol=0.05, rtol=0)
    outside = (X - torch.tensor(moe.CENTRE)).norm(dim=1) > 13**0.5
    assert (outside.long() == y).float().mean() > 0.9999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_experts", [1, 2, 5])
def test_mixture_is_what_it_says(kind, n_experts):
    model, x = kind(n_experts).double(), points()
    g = model.gate(x)
    assert_close(g.sum(1), torch.ones(len(x)).double())
    z = torch.stack([expert(x) for expert in model.experts], 1)
    textbook = kind is moe.MixtureOfExperts
    p = (g * z.sigmoid()).sum(1) if textbook else (g * z).sum(1).sigmoid()
    assert_close(model(x), p)


def test_probabilities_stay_within_what_the_loss_takes():
    model = moe.MixtureOfExperts(8)
    model.load_state_dict({k: 100 * v for k, v in model.state_dict().items()})
    p = model(points(20_000).float())
    assert p.min() >= 0 and p.max() <= 1


def test_training_many_at_once_equals_the_plain_loop(monkeypatch):
    monkeypatch.setattr(moe, "STEPS", 30)
    together = moe.train_many(moe.MixtureOfExperts)[0]
    torch.manual_seed(moe.WEIGHTS)
    X, y = moe.generate_data()
    alone = moe.train(moe.MixtureOfExperts(2), X, y)
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        assert_close(a, b, atol=1e-3, rtol=0)
    assert moe.accuracy(alone, X, y) > 0.75


def test_best_line_on_data_that_a_line_separates():
    X = points().float()
    y = (X @ moe.unit(torch.tensor([200.0])) > -0.5).long().ravel()
    best, degrees, threshold = moe.best_line(X, y)
    assert best == 1.0 and abs(degrees - 200) <= 2
    assert threshold == pytest.approx(-0.5, abs=0.2)


def test_best_two_lines_on_data_that_two_lines_separate():
    X, normals = points(3000).float(), moe.unit(torch.tensor([30.0, 40, 200])).T
    true = torch.cat([normals, torch.tensor([[0.5], [1.0], [0.25]])], 1)
    y = moe.follow_lines(true, X).long()
    best, lines = moe.best_two_lines(X, y)
    assert best == 1.0
    assert (moe.follow_lines(lines, X) == y).float().mean() > 0.999


def test_grid_accuracy():
    X, y = moe.generate_data(400_000, seed=5)
    circle = torch.tensor(moe.CENTRE)
    for rule in (
        lambda x: (x - circle).norm(dim=-1) - moe.RADIUS,  # the classes themselves
        lambda x: x[..., 1],
        lambda x: x[..., 1] + 1.5 * x[..., 0].abs() - 4,
    ):
        seen = ((rule(X) > 0) == y.bool()).float().mean().item()
        found = moe.grid_accuracy(rule(moe.EDGES))
        assert found == pytest.approx(seen, abs=1e-3 if seen == 1 else 3e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_mixture_changes_class(kind):
    """The derivation: the sign of p - 1/2, from three linear functions A, B and u / 2."""
    model, x = kind(2).double(), points()
    textbook = kind is moe.MixtureOfExperts
    one, two, gate = (
        torch.cat([part.linear.weight, part.linear.bias[:, None]], 1)
        for part in (*model.experts, model.gate)
    )  # two weights and a bias each
    u = gate[:1] - gate[1:]
    w = torch.cat([(one + two) / 2, (one - two) / 2, u / 2, torch.zeros(1, 1)], 1)
    family = moe.mixed_probabilities if textbook else moe.mixed_logits
    assert ((moe.score(family, w, x)[0] > 0) == (model(x) > 0.5)).all()
