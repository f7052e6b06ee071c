"""seq_classification.ipynb: data stream, initial weights, changed training, evidence."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import load_definitions
from torch import nn

STREAM = {  # level → how many first sequences with their classes, and a digest of these
    "EASY": (40, "d65f918b91071dbc"),
    "NORMAL": (40, "4c43acb5781585e3"),
    "MODERATE": (40, "5ae16c7635a33a9e"),
    "HARD": (40, "63818146e2dc6414"),
    "NIGHTMARE": (5, "bf355067cb62e208"),
}
FIRST = "BbccccbcaccdcXdadddddcbcbddbcccacaccbaccddbbbcabdbcXbdcaaadcbcE"  # class Q


@pytest.fixture
def ns():
    """The notebook's definitions, and of Section 8's data an epoch of two batches."""
    ns = load_definitions("seq_classification.ipynb")
    ns.criterion, ns.EPOCHS, ns.BATCHES = nn.CrossEntropyLoss(), 1, 2
    ns.data = ns.draw_batches(ns.MODERATE, 1)
    return ns


@pytest.mark.parametrize("level", STREAM)
def test_stream_is_the_reference(ns, level):
    train = ns.QRSU.get_predefined_generator(ns.QRSU.DifficultyLevel[level])
    number, digest = STREAM[level]
    pairs = [train.generate_pair() for _ in range(number)]
    lines = ["".join(train.SYMBOLS[i] for i in s) + " " + "QRSU"[c] for s, c in pairs]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest


def test_encoding(ns):
    x, y = (generator := ns.QRSU.get_predefined_generator(ns.MODERATE))[0]
    assert x.shape == (32, 81, 8) and y.shape == (32, 4) and len(generator) == 31
    assert generator.decode_x(x[0]) == FIRST and y[0].tolist() == [1, 0, 0, 0]
    assert not x[0, : -len(FIRST)].any() and x[0, -len(FIRST) :].sum() == len(FIRST)


def test_batches_come_in_the_courses_order(ns):
    data = ns.draw_batches(ns.MODERATE, 2)
    train, test = [ns.QRSU.get_predefined_generator(ns.MODERATE) for _ in range(2)]
    drawn = [g[i] for g in (train, test, train, test) for i in range(2)]
    kept = data[0][:2] + data[1][:2] + data[0][2:] + data[1][2:]
    same = [(a == b).all() for pair in zip(drawn, kept) for a, b in zip(*pair)]
    assert same == [True] * 16


def test_section_8_starts_as_handed_out(ns):
    model, train, test = ns.start_section_8(ns.SEED)
    torch.manual_seed(1)  # the course: LSTM first, then the linear layer
    layers = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 4)
    expected = [p for layer in layers for p in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected))
    assert train[0] is ns.data[0][0] and train[0] is ns.data[0][1]  # the next, always
    assert type(model) is ns.SimpleLSTM and test[5] is ns.data[1][0]


def test_changed_training_step_by_step(ns):
    averaged, history = ns.train_section_8(3, raw=(raw := []))
    model, train, test = ns.start_section_8(3)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.003, alpha=0.9)
    weights, losses = [], []
    for i in range(2):
        x, label = ns.encode(train[i])
        output = model(x)
        losses.append(ns.criterion(output[:, -1], label).item())
        every = [ns.criterion(output[:, t], label) for t in range(81)]
        optimizer.zero_grad()
        (sum(every) / 81).backward()
        optimizer.step()
        weights.append([p.detach().clone() for p in model.parameters()])
    for found, old, new in zip(averaged.parameters(), *weights):
        torch.testing.assert_close(found, 0.98 * old + 0.02 * new)
    means = np.mean(raw), *history["train_loss_mean"]
    assert means == pytest.approx([np.mean(losses)] * 2, abs=1e-5)
    assert history["test_loss"] == [ns.test(averaged, test, ns.criterion, [])[1]]
    assert [len(curve) for curve in history.values()] == [1] * 6


def test_spike_and_evaluation(ns):
    assert ns.spike([3.0, 2.0, 1.0]) == 0
    assert ns.spike([1.0, 0.2, 0.5, 0.4, 1.5]) == pytest.approx(1.3)  # since the lowest
    always_r = nn.Module()
    always_r.forward = lambda x: torch.eye(4)[1].expand(len(x), 81, 4)
    accuracy, errors = ns.evaluate_model(always_r, ns.MODERATE)
    assert accuracy == {"Q": 0, "R": 100, "S": 0, "U": 0} and len(errors) > 700
