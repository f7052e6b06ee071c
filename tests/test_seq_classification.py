"""seq_classification.ipynb: data stream, initial weights, measurement, spikes, results."""

import hashlib

import numpy as np
import pytest
import torch
from conftest import load_definitions
from torch import nn

NOTEBOOK = "seq_classification.ipynb"

# the stream's first sequences and classes: how many, and the digest of them, one a line
STREAM = {
    "EASY": (40, "d65f918b91071dbc"),
    "NORMAL": (40, "4c43acb5781585e3"),
    "MODERATE": (40, "5ae16c7635a33a9e"),
    "HARD": (40, "63818146e2dc6414"),
    "NIGHTMARE": (5, "bf355067cb62e208"),
}
FIRST, FIRST_CLASS = (  # the first of MODERATE
    "BbccccbcaccdcXdadddddcbcbddbcccacaccbaccddbbbcabdbcXbdcaaadcbcE",
    "Q",
)


@pytest.fixture
def ns():
    ns = load_definitions(NOTEBOOK)
    ns.criterion = nn.CrossEntropyLoss()
    return ns


def generators(ns, level):
    """The training and the test generator, built in the course's order."""
    level = ns.QRSU.DifficultyLevel[level]
    return [ns.QRSU.get_predefined_generator(level) for _ in range(2)]


@pytest.mark.parametrize("level", STREAM)
def test_stream_is_the_reference(ns, level):
    train, _ = generators(ns, level)
    pairs = []
    for _ in range(STREAM[level][0]):
        sequence, label = train.generate_pair()
        letters = "".join(train.SYMBOLS[i] for i in sequence)
        pairs.append(f"{letters} {train.CLASSES[label]}")
    digest = hashlib.sha256("\n".join(pairs).encode()).hexdigest()[:16]
    assert digest == STREAM[level][1]
    assert level != "MODERATE" or pairs[0] == f"{FIRST} {FIRST_CLASS}"


def test_generators_share_one_stream(ns):
    train, test = generators(ns, "MODERATE")
    drawn = train.decode_x(train[0][0][0]), test.decode_x(test[5][0][0])
    again, _ = generators(ns, "MODERATE")
    assert (again.decode_x(again[0][0][0]), again.decode_x(again[1][0][0])) == drawn


def test_encoding(ns):
    train, _ = generators(ns, "MODERATE")
    x, y = train[0]
    assert len(train) == 31 and (train.SYMBOLS, train.CLASSES) == ("XYabcdBE", "QRSU")
    assert x.shape == (32, 81, 8) and y.shape == (32, 4)
    assert x.dtype == y.dtype == np.float32
    assert train.decode_x(x[0]) == FIRST and train.decode_y(y[0]) == FIRST_CLASS
    expected = np.zeros((81, 8))
    for t, letter in enumerate(FIRST, 81 - len(FIRST)):  # padded on the left
        expected[t, "XYabcdBE".index(letter)] = 1
    assert (x[0] == expected).all()
    assert (y.sum(1) == 1).all() and y[0]["QRSU".index(FIRST_CLASS)] == 1


def test_models(ns):
    x = torch.randn(3, 7, 8)
    rnn, lstm = ns.SimpleRNN(8, 5, 4), ns.SimpleLSTM(8, 5, 4)
    assert rnn(x).shape == lstm(x).shape == (3, 7, 4)
    assert type(rnn.rnn) is nn.RNN and rnn.rnn.nonlinearity == "relu"
    assert type(lstm.lstm) is nn.LSTM and lstm.lstm.batch_first and rnn.rnn.batch_first
    hidden, cell = lstm.get_states_across_time(x)
    outputs, (_, c) = lstm.lstm(x)
    torch.testing.assert_close(hidden, outputs.transpose(0, 1))
    torch.testing.assert_close(cell[-1], c[0])
    assert hidden.shape == cell.shape == (7, 3, 5)


@pytest.mark.parametrize("seed", [1, 7])
def test_section_8_starts_from_the_courses_weights_and_data(ns, seed):
    model, (train, _) = ns.start_section_8(seed)
    torch.manual_seed(seed)  # the course: LSTM first, then the linear layer
    lstm = nn.LSTM(8, 12, batch_first=True)
    linear = nn.Linear(12, 4)
    expected = [*lstm.parameters(), *linear.parameters()]
    found = list(model.parameters())
    assert type(model) is ns.SimpleLSTM and len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    x, y = train[0]
    assert x.shape == (32, 81, 8)
    assert (train.decode_x(x[0]), train.decode_y(y[0])) == (FIRST, FIRST_CLASS)


def test_kept_batches_come_in_the_courses_order(ns):
    data = ns.section_8_data(2)
    _, (train, test) = ns.start_section_8()
    for epoch in data:
        for generator, batches in zip((train, test), epoch):
            assert len(batches) == 31
            for i, (x, y) in enumerate(batches):
                drawn = generator[i]
                assert (x == drawn[0]).all() and (y == drawn[1]).all()


def test_our_training_step_by_step(ns):
    """Two steps: objective, optimizer, mask, decay, average, and what is scored."""
    train, test = ns.section_8_data(1)[0]
    ns.data = [[train[:2], test[:1]]]
    averaged, history = ns.train_section_8(3)

    model, _ = ns.start_section_8(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.95, 0.95))
    losses, weights = [], []
    for batch in train[:2]:
        x, label = ns.encode(batch)
        output = model(x)
        losses.append(nn.functional.cross_entropy(output[:, -1], label).item())
        every = [nn.functional.cross_entropy(output[:, t], label) for t in range(81)]
        optimizer.zero_grad()
        (sum(every) / 81).backward()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.step()
        for p, old in zip(model.parameters(), before):
            p.data = torch.where((p - old) * p.grad > 0, old, p).data
        optimizer.param_groups[0]["lr"] *= 0.5 ** (1 / 310)
        weights.append([p.detach().clone() for p in model.parameters()])
    expected = [0.95 * a + 0.05 * b for a, b in zip(*weights)]
    for found, value in zip(averaged.parameters(), expected):
        torch.testing.assert_close(found.detach(), value, atol=1e-6, rtol=1e-5)
    assert history["raw_train_loss"] == pytest.approx([losses[1]], abs=1e-6)
    assert history["raw_train_loss_mean"] == pytest.approx([np.mean(losses)], abs=1e-6)
    assert history["test_loss"][0] == ns.test(averaged, test[:1], ns.criterion)[1]
    assert len(history) == 2 * len({key.removeprefix("raw_") for key in history}) == 12


def test_train_and_test_return_what_was_handed_out(ns):
    train, _ = generators(ns, "EASY")
    batches = [train[0], train[1]]
    model, criterion = ns.SimpleLSTM(8, 12, 4), nn.CrossEntropyLoss()
    outputs = [model(torch.from_numpy(x))[:, -1] for x, _ in batches]
    labels = [torch.from_numpy(y).argmax(1) for _, y in batches]
    correct = sum((o.argmax(1) == y).sum().item() for o, y in zip(outputs, labels))
    expected = [criterion(o, y).item() for o, y in zip(outputs, labels)]
    for run, *more in (
        (ns.train, torch.optim.SGD(model.parameters(), lr=0.0)),
        (ns.test,),
    ):
        losses = []
        result = run(model, batches, criterion, *more, losses)
        assert result == (correct, pytest.approx(expected[-1], abs=1e-6))
        assert losses == pytest.approx(expected, abs=1e-6)


def test_spikes_are_found_by_their_loss(ns):
    curve = [1.4, 0.5, 1.2, 0.3, 0.35, 0.3, 2.0, 2.5, 0.1, 0.4]
    assert ns.find_spikes(curve) == [(1, 2), (3, 7), (8, 9)]
    assert ns.find_spikes([3.0, 2.0, 1.0]) == []


def test_curvature_is_the_largest_eigenvalue(ns):
    torch.manual_seed(0)
    model = ns.SimpleLSTM(8, 12, 4)
    flat = ns.parameters_to_vector(model.parameters()).detach()
    x, y = generators(ns, "EASY")[0][0]
    batch, v = ns.encode((x, y)), torch.rand(len(flat)) + 0.5
    found = ns.curvature(flat, v, batch, rounds=50)

    def loss(w):
        split = w.split([p.numel() for p in model.parameters()])
        names = [name for name, _ in model.named_parameters()]
        shaped = [part.view_as(p) for part, p in zip(split, model.parameters())]
        output = torch.func.functional_call(
            model.double(), dict(zip(names, shaped)), batch[0].double()
        )
        return nn.functional.cross_entropy(output[:, -1], batch[1])

    w = flat.double().requires_grad_()
    slope = torch.autograd.grad(loss(w), w, create_graph=True)[0]
    scale, h = v.double().rsqrt().sqrt(), 1e-3  # v ** -1/4 on both sides
    direction = torch.randn(len(flat), dtype=torch.float64)
    for _ in range(60):
        product = torch.autograd.grad(slope, w, scale * direction, retain_graph=True)[0]
        direction = scale * product
        direction /= direction.norm()
    ends = [loss(flat.double() + s * h * scale * direction).item() for s in (-1, 0, 1)]
    assert found == pytest.approx((ends[0] - 2 * ends[1] + ends[2]) / h**2, rel=0.05)


def test_spike(ns):
    assert ns.spike([3.0, 2.0, 1.0]) == 0
    assert ns.spike([1.0, 0.5, 0.7, 0.1, 0.2]) == pytest.approx(0.2)
    assert ns.spike([1.0, 0.2, 0.5, 0.4, 1.5]) == pytest.approx(1.3)  # since the lowest
    assert ns.spike([0.5, 2.0]) == pytest.approx(1.5)  # above the first value too


class Reader(nn.Module):
    """Reads the class off the input; with `wrong_for`, errs on that class."""

    def __init__(self, wrong_for=None):
        super().__init__()
        self.wrong_for = wrong_for

    def forward(self, x):
        marks = [row[row[:, :2].any(1)][:, 1] for row in x]  # 1 for Y, in order
        label = torch.stack([2 * pair[0] + pair[1] for pair in marks]).long()
        if self.wrong_for:
            label = torch.where(label == self.wrong_for, 3 - label, label)
        return nn.functional.one_hot(label, 4)[:, None].float()


def test_evaluation(ns, capsys):
    level = ns.QRSU.DifficultyLevel.NORMAL
    accuracy, errors = ns.evaluate_model(Reader(), level)
    assert accuracy == dict.fromkeys("QRSU", 100.0) and not errors
    accuracy, errors = ns.evaluate_model(Reader(wrong_for=1), level)  # R answered as S
    assert accuracy == {"Q": 100.0, "R": 0.0, "S": 100.0, "U": 100.0}
    assert f"misclassified: {len(errors)} of 992" in capsys.readouterr().out
    assert errors and {error[1:] for error in errors} == {("R", "S")}
    assert all(30 <= len(error[0]) <= 40 for error in errors)  # its own level
    other = ns.evaluate_model(Reader(wrong_for=1), level, seed=5)[1]
    assert other != errors  # its own seed


def test_constants_are_the_courses(ns):
    assert (ns.SEED, ns.DATA_SEED, ns.BATCH_SIZE, ns.EPOCHS) == (1, 8382, 32, 100)
    assert [level.name for level in ns.QRSU.DifficultyLevel] == list(STREAM)
