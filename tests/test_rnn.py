"""hw2_rnn.ipynb: its data, models and tests, and what its committed run reports."""

import random
import re

import notebooks
import pytest
import torch
from conftest import ROOT, load_definitions
from torch import nn
from torch.utils.data import DataLoader

ns = load_definitions("hw2_rnn.ipynb")
ns.device = torch.device("cpu")


class Oracle(nn.Module):
    """Echoes every string `shift` letters later than it is asked to."""

    def __init__(self, shift: int = 0):
        super().__init__()
        self.shift = shift

    def forward(self, x, delays):
        rows = [
            ns.echo(row, int(d) + self.shift) for row, d in zip(x.argmax(-1), delays)
        ]
        return ns.idx_to_onehot(torch.stack(rows))

    def test_run(self, s, delay=ns.DELAY):
        return (" " * (delay + self.shift) + s)[: len(s)]


@pytest.mark.parametrize("delay", [0, 1, 4, 12])
def test_echo_dataset_shifts_right_and_fills_with_blanks(delay):
    data = ns.EchoDataset(delay, seq_length=15, size=40)
    items = list(data)
    assert len(items) == len(data) == 40
    for x, y in items:
        assert x.dtype == y.dtype == torch.int64 and x.shape == y.shape == (15,)
        assert y.tolist() == [0] * delay + x.tolist()[: 15 - delay]


def test_letters_are_1_to_26_and_uniform():
    x = torch.cat([x for x, _ in DataLoader(ns.EchoDataset(4, 15, 4000), 1500)])
    counts = torch.bincount(x.flatten(), minlength=ns.N + 1)
    assert x.shape == (4000, 15) and len(counts) == ns.N + 1 and counts[0] == 0
    assert counts[1:].min() > 2000 and counts[1:].max() < 2620  # 2308 expected, sd 47


def test_variable_dataset_draws_every_delay_and_shifts_by_it():
    items = list(ns.VariableDelayEchoDataset(12, seq_length=20, size=400))
    assert len(items) == 400
    assert {int(delay) for _, delay, _ in items} == set(range(13))
    for x, delay, y in items:
        assert y.tolist() == [0] * int(delay) + x.tolist()[: 20 - int(delay)]


def test_datasets_repeat_for_a_seed_and_differ_between_seeds():
    first, again, other = (
        next(iter(ns.VariableDelayEchoDataset(12, 20, 5, seed)))[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_onehot():
    vectors = ns.idx_to_onehot(torch.tensor([[0, 26], [3, 1]]))
    assert vectors.shape == (2, 2, 27) and vectors.dtype == torch.float32
    assert vectors.sum() == 4 and vectors[0, 1, 26] == vectors[1, 0, 3] == 1
    assert ns.idx_to_onehot(torch.tensor([2]), 5).tolist() == [[0, 0, 1, 0, 0]]


def test_encode_and_decode_are_inverse():
    assert ns.encode("az").tolist() == [1, 26]
    assert ns.decode(ns.encode("memory")) == "memory"
    assert ns.decode(torch.tensor([0, 3])) == " c"


def test_the_models_return_logits_of_the_inputs_shape():
    x = ns.idx_to_onehot(torch.randint(1, 27, (5, 7)))
    assert ns.GRUMemory(8)(x).shape == x.shape
    delays = torch.tensor([0, 3, 12, 3, 1])
    for kind in (ns.VariableDelayGRUMemory, ns.DelayIntoGRU):
        assert kind(8, 12)(x, delays).shape == x.shape


def test_forward_reads_the_rows_of_the_delay_it_is_given():
    model = ns.VariableDelayGRUMemory(8, 12)
    x = ns.idx_to_onehot(torch.randint(1, 27, (3, 7)))
    every, delays = model.all_delays(x), torch.tensor([12, 0, 5])
    for row, delay in enumerate(delays):
        torch.testing.assert_close(model(x, delays)[row], every[row, :, delay])


def test_the_loss_of_all_delays_asks_for_every_delay():
    model = ns.VariableDelayGRUMemory(8, 12)
    x = torch.randint(1, 27, (3, 20))
    each = [
        ns.echo_loss(model, x, torch.full((3,), d), ns.echo(x, d)) for d in range(13)
    ]
    torch.testing.assert_close(ns.all_delays_loss(model, x), torch.stack(each).mean())


def test_start_as_memory_keeps_a_state_that_pytorchs_start_loses():
    def kept(gru):  # how different two states still are after 12 letters
        letters = ns.idx_to_onehot(torch.randint(1, 27, (50, 12)))
        a, b = 0.1 * torch.randn(2, 1, 50, 64)
        ends = gru(letters, a)[1], gru(letters, b)[1]
        return ((ends[0] - ends[1]).norm() / (a - b).norm()).item()

    torch.manual_seed(0)
    ours, default = nn.GRU(27, 64, batch_first=True), nn.GRU(27, 64, batch_first=True)
    ns.start_as_memory(ours)
    assert kept(ours) > 20 * kept(default)
    matrix = ours.weight_hh_l0.chunk(3)[2]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("s", ["", "two words", "Upper", "abc1", "é"])
def test_test_run_refuses_what_is_no_string_of_letters(s):
    fault = "empty" if not s else repr(next(c for c in s if not "a" <= c <= "z"))
    with pytest.raises(ValueError, match=re.escape(fault)):
        ns.GRUMemory(4).test_run(s)
    with pytest.raises(ValueError, match=re.escape(fault)):
        ns.VariableDelayGRUMemory(4, 12).test_run(s, 3)


@pytest.mark.parametrize("delay", [-1, 13, 2.5, None])
def test_test_run_refuses_a_delay_outside_the_range(delay):
    with pytest.raises(ValueError, match=f"0..12, not {delay}"):
        ns.VariableDelayGRUMemory(4, 12).test_run("letters", delay)


@pytest.mark.parametrize("s", ["a", "abc", "thequickbrownfoxjumpsover"])
def test_test_run_answers_strings_of_any_length(s):
    answers = [ns.GRUMemory(4).test_run(s)]
    answers += [ns.VariableDelayGRUMemory(4, 12).test_run(s, d) for d in (0, 12)]
    for answer in answers:
        assert len(answer) == len(s) and re.fullmatch("[a-z ]+", answer)


def test_the_tests_give_a_perfect_model_1_at_every_delay():
    for model in (Oracle(), ns.PerfectMemory()):
        assert ns.accuracies(model, 12, 50) == dict.fromkeys(range(13), 1.0)
        assert ns.test_variable_delay_model(model, max_delay=12) == 1.0
    assert ns.test_model(Oracle()) == 1.0


def test_the_tests_give_an_off_by_one_model_chance():
    result = ns.accuracies(Oracle(shift=1), 12, n_strings=500)
    assert all(0.02 < accuracy < 0.055 for accuracy in result.values())
    assert ns.test_variable_delay_model(Oracle(shift=1)) == pytest.approx(
        1 / 26, abs=0.01
    )
    assert ns.test_model(Oracle(shift=1)) < 0.055


def test_the_test_reports_the_worst_delay():
    class Short(Oracle):  # right up to delay 8
        def forward(self, x, delays):
            return super().forward(x, delays.clamp(max=8))

    assert ns.test_variable_delay_model(Short(), max_delay=8) == 1.0
    assert ns.test_variable_delay_model(Short(), max_delay=12) < 0.1


def test_the_test_counts_each_string_to_its_own_length_from_the_delay_on():
    class Late(Oracle):  # right up to the 15th letter, which every string has
        def forward(self, x, delays):
            return torch.cat([super().forward(x[:, :15], delays), 0 * x[:, 15:]], 1)

    result = ns.accuracies(Late(), 12, n_strings=4000)
    for delay, accuracy in result.items():  # lengths 15..25, 20 on the mean
        assert accuracy == pytest.approx((15 - delay) / (20 - delay), abs=0.02)


def test_the_handed_out_test_has_the_fault_that_the_notebook_names():
    assert ns.handed_out_test(ns.PerfectMemory(), 0, 1, n_strings=20) == (0, 0.0)
    assert ns.handed_out_test(ns.PerfectMemory(), 7, 1, n_strings=20) == (7, 1.0)
    drawn = {ns.handed_out_test(ns.PerfectMemory(), None, s, 1)[0] for s in range(50)}
    assert len(drawn) > 6


def test_a_short_training_learns_a_short_memory():
    torch.manual_seed(0)
    model = ns.VariableDelayGRUMemory(48, 2)
    data = DataLoader(ns.VariableDelayEchoDataset(2, 12, 16 * 200), batch_size=16)
    losses = ns.train_variable_delay_model(model, data)
    assert len(losses) == 200
    assert ns.test_variable_delay_model(model, max_delay=2) > 0.97
    word = "".join(random.Random(0).choices("abcdefghij", k=15))
    assert model.test_run(word, 2)[:2] == "  "


def test_train_model_learns_a_fixed_delay():
    torch.manual_seed(0)
    model = ns.GRUMemory(64)
    data = DataLoader(ns.EchoDataset(ns.DELAY, 15, 32 * 200), batch_size=32)
    assert len(ns.train_model(model, data)) == 200
    assert ns.test_model(model, n_strings=50) > 0.97


def test_the_committed_run_meets_our_bars_and_its_claims_hold():
    table = notebooks.results(notebooks.read(ROOT / "hw2_rnn.ipynb"))
    assert len(table["measures"]) >= 6 and len(table["claims"]) >= 6
    assert {row["verdict"] for row in table["measures"]} == {"pass"}
    assert {row["verdict"] for row in table["claims"]} == {"holds"}
