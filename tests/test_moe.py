"""hw2_moe.ipynb: data, layers, training, and the mathematics of its part Beyond."""

import pytest
import torch
from conftest import load_definitions

moe = load_definitions("hw2_moe.ipynb")
KINDS = [moe.MixtureOfExperts, moe.MixtureOfLogits]


def points(n=500):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).double() * 4


def test_data():
    X, y = moe.generate_data(20_000, seed=1)
    assert (X.shape, X.dtype) == ((20_000, 2), torch.float32)
    assert (y.shape, y.dtype) == ((20_000,), torch.int64)
    right, left = X[:10_000], X[10_000:]
    assert torch.allclose(right.mean(0), torch.tensor([3.0, 0.0]), atol=0.05)
    assert torch.allclose(left.mean(0), torch.tensor([-3.0, 0.0]), atol=0.05)
    assert torch.allclose(right.T.cov(), torch.eye(2), atol=0.05)
    outside = (X - torch.tensor(moe.CENTRE)).norm(dim=1) > 13**0.5
    assert (outside.long() == y).float().mean() > 0.9999


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_experts", [1, 2, 5])
def test_mixture_is_what_it_says(kind, n_experts):
    torch.manual_seed(0)
    model, x = kind(n_experts).double(), points()
    g = model.gate(x)
    assert torch.allclose(g.sum(1), torch.ones(len(x)).double())
    z = torch.stack([expert(x) for expert in model.experts], 1)
    textbook = kind is moe.MixtureOfExperts
    p = (g * z.sigmoid()).sum(1) if textbook else (g * z).sum(1).sigmoid()
    assert torch.allclose(model(x), p, atol=1e-12)


def test_probabilities_stay_within_what_the_loss_takes():
    torch.manual_seed(0)
    model = moe.MixtureOfExperts(8)
    for parameter in model.parameters():
        parameter.data *= 100
    p = model(points(20_000).float())
    assert p.min() >= 0
    assert p.max() <= 1


def test_training_many_at_once_equals_the_plain_loop(monkeypatch):
    monkeypatch.setattr(moe, "STEPS", 30)
    together = moe.train_many(moe.MixtureOfExperts)[0]
    torch.manual_seed(moe.SEED)
    X, y = moe.generate_data()
    alone = moe.train(moe.MixtureOfExperts(2), X, y)
    for a, b in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert moe.accuracy(alone, X, y) > 0.75


def test_only_the_gate_decays(monkeypatch):
    monkeypatch.setattr(moe, "STEPS", 100)
    free, held = (
        moe.train_many(moe.MixtureOfLogits, gate_decay=decay)[0] for decay in (0, 3)
    )
    assert held.gate.linear.weight.norm() < 0.5 * free.gate.linear.weight.norm()
    weights = [m.experts[0].linear.weight.norm() for m in (held, free)]
    assert weights[0] > 0.5 * weights[1]


@pytest.mark.parametrize(("degrees", "offset"), [(90, 0.3), (200, -0.5)])
def test_best_line_on_data_that_a_line_separates(degrees, offset):
    X = points().float()
    y = (X @ moe.unit(torch.tensor([float(degrees)])) > offset).long().ravel()
    best, found, threshold = moe.best_line(X, y)
    assert best == 1.0
    assert abs(found - degrees) <= 2
    assert threshold == pytest.approx(offset, abs=0.2)


def test_best_two_lines_on_data_that_two_lines_separate():
    X = points(3000).float()
    normals = moe.unit(torch.tensor([30.0, 40.0, 200.0])).T
    true = torch.cat([normals, torch.tensor([[0.5], [1.0], [0.25]])], 1)
    y = moe.follow_lines(true, X).long()
    best, lines = moe.best_two_lines(X, y)
    assert best == 1.0
    assert (moe.follow_lines(lines, X) == y).float().mean() > 0.999


def test_exact_accuracy():
    x = moe.CORNERS
    circle = (x - torch.tensor(moe.CENTRE)).norm(dim=-1) - moe.RADIUS
    assert moe.exact_accuracy(circle) == pytest.approx(1, abs=1e-3)
    X, y = moe.generate_data(400_000, seed=5)
    for rule in (lambda x: x[..., 1], lambda x: x[..., 1] + 1.5 * x[..., 0].abs() - 4):
        seen = ((rule(X) > 0) == y.bool()).float().mean().item()
        assert moe.exact_accuracy(rule(x)) == pytest.approx(seen, abs=3e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_mixture_changes_class(kind):
    """The derivation: the sign of p - 1/2, from A, B and u."""
    torch.manual_seed(1)
    model, x = kind(2).double(), points()
    z1, z2 = (expert(x) for expert in model.experts)
    gate = model.gate.linear(x)
    u = gate[:, 0] - gate[:, 1]
    textbook = kind is moe.MixtureOfExperts
    family = moe.mixed_probabilities if textbook else moe.mixed_logits
    score = family((z1 + z2) / 2, (z1 - z2) / 2, u / 2, torch.tensor(1.0))
    assert ((score > 0) == (model(x) > 0.5)).all()
    log_odds = moe.log_odds(textbook, u, z1, z2)
    assert torch.allclose(log_odds, model(x).logit(), atol=1e-6)


def test_score_is_linear_before_the_family():
    w, x = torch.randn(3, 10), torch.randn(4, 5, 2)
    found = moe.score(lambda A, B, u, a: A + 10 * B + 100 * u + 0 * a, w, x)
    assert found.shape == (3, 4, 5)
    total = w[:, 0:3] + 10 * w[:, 3:6] + 100 * w[:, 6:9]
    expected = x @ total[:, :2, None, None].squeeze(-1)[2] + total[2, 2]
    assert torch.allclose(found[2], expected.squeeze(-1), atol=1e-3)
