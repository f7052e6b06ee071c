"""seq_classification.ipynb: data stream, initial weights, measurement, spikes, results."""

import hashlib

import notebooks
import numpy as np
import pytest
import torch
from conftest import ROOT, load_definitions
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
    return load_definitions(NOTEBOOK)


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
    assert (
        x.shape == (32, 81, 8)
        and y.shape == (32, 4)
        and x.dtype == y.dtype == np.float32
    )
    assert train.decode_x(x[0]) == FIRST and train.decode_y(y[0]) == FIRST_CLASS
    expected = np.zeros((81, 8))
    for t, letter in enumerate(FIRST):
        expected[81 - len(FIRST) + t, "XYabcdBE".index(letter)] = (
            1  # padded on the left
        )
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


def spied(ns, **options):
    """One epoch of `train_section_8`: its result, initial weights and first batch."""
    ns.EPOCHS, weights, batches = 1, [], []
    make, encode = options.get("make_optimizer", ns.adam), ns.encode

    def make_optimizer(parameters):
        parameters = list(parameters)
        weights.append([p.detach().clone() for p in parameters])
        return make(parameters)

    def keep(batch):
        batches.append(encode(batch))
        return batches[-1]

    ns.encode = keep
    result = ns.train_section_8(**options | {"make_optimizer": make_optimizer})
    return result, weights[0], batches[0]


@pytest.mark.parametrize("seed", [1, 7])
@pytest.mark.parametrize("which", ["before", "after"])
def test_section_8_starts_from_the_courses_weights_and_data(ns, seed, which):
    options = ns.AS_HANDED_OUT if which == "before" else {}
    (model, _), weights, (x, label) = spied(ns, seed=seed, **options)

    torch.manual_seed(seed)  # the course: LSTM first, then the linear layer
    lstm = nn.LSTM(8, 12, batch_first=True)
    linear = nn.Linear(12, 4)
    expected = [*lstm.parameters(), *linear.parameters()]
    assert len(weights) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(weights, expected))
    assert type(model) is ns.SimpleLSTM
    assert [p.shape for p in model.parameters()] == [p.shape for p in expected]

    assert x.shape == (32, 81, 8)
    letters = "".join(ns.QRSU.SYMBOLS[row.argmax()] for row in x[0] if row.any())
    assert (letters, ns.QRSU.CLASSES[label[0]]) == (FIRST, FIRST_CLASS)


def test_neutral_options_are_the_courses_recipe(ns):
    ns.EPOCHS = 2
    _, history = ns.train_section_8(1, **ns.AS_HANDED_OUT)

    torch.manual_seed(1)
    train, test = generators(ns, "MODERATE")
    model = ns.SimpleLSTM(8, 12, 4)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.001)
    losses = {"train": [], "test": []}
    for _ in range(2):
        for part, generator in (("train", train), ("test", test)):
            batch_losses = []
            for i in range(31):
                x, y = (torch.from_numpy(array) for array in generator[i])
                loss = nn.functional.cross_entropy(model(x)[:, -1], y.argmax(1))
                if part == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                batch_losses.append(loss.item())
            losses[part].append(batch_losses)
    for part, epochs in losses.items():
        last, mean = [b[-1] for b in epochs], [np.mean(b) for b in epochs]
        assert history[f"{part}_loss"] == pytest.approx(last, abs=1e-4)
        assert history[f"{part}_loss_mean"] == pytest.approx(mean, abs=1e-4)


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


@pytest.mark.parametrize("every_step", [True, False])
def test_curves_are_the_plain_loss_before_the_step(ns, every_step):
    (_, history), weights, (x, label) = spied(ns, seed=3, every_step=every_step)
    model = ns.SimpleLSTM(8, 12, 4)
    for parameter, value in zip(model.parameters(), weights):
        parameter.data = value
    expected = nn.functional.cross_entropy(model(x)[:, -1], label).item()
    ns.BATCHES = 1  # an epoch of one batch: nothing has been learnt when it is scored
    ns.section_8_data.cache_clear()
    _, history = ns.train_section_8(3, every_step=every_step)
    assert history["train_loss"] == pytest.approx([expected], abs=1e-6)
    assert history["raw_train_loss"] == pytest.approx([expected], abs=1e-6)


def test_history_has_all_curves(ns):
    (_, history), *_ = spied(ns, seed=1)
    curves = {
        f"{p}_{k}" for p in ("train", "test") for k in ("loss", "loss_mean", "acc")
    }
    assert set(history) == curves | {f"raw_{key}" for key in curves}
    assert all(len(curve) == 1 for curve in history.values())
    assert history["test_loss"] != history["raw_test_loss"]


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
        label = (
            torch.where(label == self.wrong_for, 3 - label, label)
            if self.wrong_for
            else label
        )
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


def test_committed_results():
    results = notebooks.results(notebooks.read(ROOT / NOTEBOOK))
    rows = {row["measure"]: row for row in results["measures"]}
    assert len(rows) >= 8 and all(row["verdict"] == "pass" for row in rows.values())
    for key, bar in (("train_loss_mean", 0.02), ("test_loss_mean", 0.02)):
        row = rows[f"spike of {key}, nats"]
        assert row["asked"] == "<= 0.10" and row["bar"] == f"<= {bar}"
    assert all(row["verdict"] == "holds" for row in results["claims"])
