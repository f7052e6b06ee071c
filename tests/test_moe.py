"""hw2_moe.ipynb: data, layers, training, and the algebra of its part Beyond."""

import pytest
import torch
from conftest import load_definitions
from torch.testing import assert_close

moe = load_definitions("hw2_moe.ipynb")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_data_are_two_clouds_cut_by_a_circle():
    X, y = moe.generate_data(20_000, seed=1)
    assert X.shape == (20_000, 2) and X.dtype == torch.float32
    assert y.shape == (20_000,) and y.dtype == torch.int64
    for cloud, centre in ((X[:10_000], [3.0, 0]), (X[10_000:], [-3.0, 0])):
        assert_close(cloud.mean(0), torch.tensor(centre), atol=0.05, rtol=0)
        assert_close(cloud.T.cov(), torch.eye(2), atol=0.05, rtol=0)
    outside = (X - torch.tensor([0.0, -2.0])).norm(dim=1) > 13**0.5
    assert (outside == y).float().mean() > 0.9999
    assert torch.equal(X, moe.generate_data(20_000, seed=1)[0])


@pytest.mark.parametrize("K", [1, 2, 5])
def test_mixture_averages_probabilities_by_shares(K):
    model, x = moe.MixtureOfExperts(K).double(), torch.randn(500, 2).double() * 4
    g = model.gate(x)
    assert g.shape == (500, K)
    assert_close(g.sum(1), torch.ones(500).double())
    z = torch.stack([expert(x) for expert in model.experts], 1)
    assert_close(model(x), (g * z.sigmoid()).sum(1))


def test_condition_for_class_1_of_two_experts():
    model, x = moe.MixtureOfExperts(2).double(), torch.randn(2000, 2).double() * 4
    z1, z2 = (expert(x) for expert in model.experts)
    u = model.gate.linear(x) @ torch.tensor([1.0, -1.0]).double()
    s = (u / 2).exp() * (z1 / 2).tanh() + (-u / 2).exp() * (z2 / 2).tanh()
    assert torch.equal(model(x) > 0.5, s > 0)
