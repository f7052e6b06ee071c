"""hw2_moe.ipynb: data, layers and the training of many models at once."""

import pytest
import torch
from conftest import load_definitions

moe = load_definitions("hw2_moe.ipynb")


def test_data():
    X, y = moe.generate_data(20_000, seed=1)
    assert X.shape == (20_000, 2)
    assert X.dtype == torch.float32
    assert y.shape == (20_000,)
    assert y.dtype == torch.int64
    right, left = X[:10_000], X[10_000:]
    assert torch.allclose(right.mean(0), torch.tensor([3.0, 0.0]), atol=0.05)
    assert torch.allclose(left.mean(0), torch.tensor([-3.0, 0.0]), atol=0.05)
    assert torch.allclose(X[:10_000].T.cov(), torch.eye(2), atol=0.05)
    outside = (X - torch.tensor(moe.CENTRE)).norm(dim=1) > 13**0.5
    assert (outside.long() == y).float().mean() > 0.9999


@pytest.mark.parametrize("mix", ["logits", "probabilities"])
@pytest.mark.parametrize("n_experts", [1, 2, 5])
def test_mixture_is_what_it_says(n_experts, mix):
    torch.manual_seed(0)
    model = moe.MixtureOfExperts(n_experts, mix).double()
    x = torch.randn(64, 2, dtype=torch.float64) * 4
    g = model.gate(x)
    assert torch.allclose(g.sum(1), torch.ones(64, dtype=torch.float64))
    z = torch.stack([expert(x) for expert in model.experts], 1)
    p = (g * z).sum(1).sigmoid() if mix == "logits" else (g * z.sigmoid()).sum(1)
    assert torch.allclose(model(x).sigmoid(), p, atol=1e-12)


@pytest.mark.parametrize("mix", ["logits", "probabilities"])
def test_no_overflow_far_out(mix):
    model = moe.MixtureOfExperts(2, mix)
    x = torch.tensor([[1e4, 0.0], [-1e4, 1e4]])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        model(x), torch.tensor([0.0, 1.0])
    )
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_training_many_at_once_equals_training_one(monkeypatch):
    monkeypatch.setattr(moe, "STEPS", 50)
    together, losses = moe.train([3, 4, 5])
    (alone,), loss = moe.train([3])
    assert torch.allclose(losses[:, 0], loss[:, 0], atol=1e-4)
    for a, b in zip(together[0].parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)
    assert losses[-10:].mean() < losses[:10].mean()


def test_only_the_gate_decays(monkeypatch):
    monkeypatch.setattr(moe, "STEPS", 200)
    norms = []
    for decay in (0.0, 3.0):
        (model,), _ = moe.train([0], gate_decay=decay)
        norms.append(
            [model.gate.linear.weight.norm(), model.experts[0].linear.weight.norm()]
        )
    (gate, expert), (decayed_gate, decayed_expert) = norms
    assert decayed_gate < 0.5 * gate
    assert decayed_expert > 0.5 * expert


def test_best_line_on_data_that_a_line_separates():
    X = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    for labels, normal in ((X[:, 1] > 0.3, 90), (X[:, 1] < 0.3, 270)):
        accuracy, degrees = moe.best_line(X, labels.long())
        assert accuracy == 1.0
        assert abs(degrees - normal) <= 3


def test_tangents_touch_the_circle_at_the_means():
    assert torch.allclose(
        moe.tangents(torch.tensor([[3.0, 0], [-3.0, 0]])), torch.zeros(2), atol=1e-6
    )
    assert (
        moe.tangents(torch.tensor([[9.0, 9.0]])) > 0 > moe.tangents(torch.zeros(1, 2))
    )
