"""hw2_rnn.ipynb: its strings, models and trainings, and that its tests can be trusted."""

import re

import pytest
import torch
from conftest import load_definitions
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

ns = load_definitions("hw2_rnn.ipynb")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Oracle(nn.Module):
    """Echoes every string `late` letters late, by `longest` letters at the most."""

    def __init__(self, late: int = 0, longest: int = 12):
        super().__init__()
        self.late, self.longest = late, longest

    def forward(self, x, delays):
        delays = delays.clamp(max=self.longest) + self.late
        rows = [ns.echo(row, int(d)) for row, d in zip(x.argmax(-1), delays)]
        return ns.idx_to_onehot(torch.stack(rows))

    def test_run(self, s, delay=ns.DELAY):
        return ns.PerfectMemory().test_run(s, delay + self.late)


def test_datasets_shift_right_fill_with_blanks_and_repeat_for_a_seed():
    items = [(x, d, y) for d in (0, 1, 4) for x, y in ns.EchoDataset(d, 20, 40)]
    assert len(items) == 120 and len(ns.EchoDataset(0, 20, 40)) == 40
    items += ns.VariableDelayEchoDataset(12, 20, 400)
    assert {int(delay) for _, delay, _ in items[120:]} == {*range(13)}
    for x, delay, y in items:
        assert x.dtype == y.dtype == torch.int64
        assert 1 <= x.min() and x.max() <= ns.N
        assert y.tolist() == [0] * int(delay) + x.tolist()[: 20 - int(delay)]
    data = (ns.VariableDelayEchoDataset(12, 20, 5, seed) for seed in (1, 1, 2))
    first, again, other = (next(iter(strings))[0] for strings in data)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_letters_to_numbers_to_vectors_and_back():
    vectors = ns.idx_to_onehot(torch.tensor([[0, 26], [3, 1]]))
    assert vectors.shape == (2, 2, 27) and vectors.dtype == torch.float32
    assert vectors.sum() == 4 and vectors[0, 1, 26] == vectors[1, 0, 3] == 1
    assert ns.encode("az").tolist() == [1, 26]
    assert ns.decode(torch.tensor([0, 1, 26])) == " az"


def test_models_answer_each_string_by_its_delay():
    x = torch.randint(1, 27, (3, 20))
    onehot, delays = ns.idx_to_onehot(x), torch.tensor([12, 0, 5])
    assert ns.GRUMemory(8)(onehot).shape == onehot.shape
    assert ns.DelayIntoGRU(8, 12)(onehot, delays).shape == onehot.shape
    model = ns.VariableDelayGRUMemory(8, 12)
    told = (torch.full((3,), d) for d in range(13))
    each = [ns.echo_loss(model, x, d, ns.echo(x, int(d[0]))) for d in told]
    assert_close(ns.all_delays_loss(model, x), torch.stack(each).mean())
    bilinear = nn.Bilinear(8, 13, 27)  # of the state and the one-hot delay
    weight = model.decoder.weight.detach().view(13, 27, 8)
    bilinear.weight.data = weight.permute(1, 2, 0).contiguous()
    bias = model.decoder.bias.view(13, 27)[delays][:, None]  # (B, 1, N+1)
    h = model.gru(onehot)[0]
    one_hot = ns.idx_to_onehot(delays, 13)[:, None].expand(-1, 20, -1).contiguous()
    want = bilinear(h, one_hot) - bilinear.bias + bias
    assert_close(model(onehot, delays), want)


@pytest.mark.parametrize(
    "s, delay, fault",
    [("", 3, "''"), ("two words", 3, "two words"), ("Upper", 3, "Upper"), ("é", 3, "é")]
    + [("letters", delay, r"delays must be 0\.\.12") for delay in (-1, 13, 2.5)],
)
def test_test_run_answers_strings_of_any_length_and_refuses_others(s, delay, fault):
    fixed, variable = ns.GRUMemory(4), ns.VariableDelayGRUMemory(4, 12)
    for good in ("a", "abc", "thequickbrownfoxjumpsover"):
        for said in (fixed.test_run(good), variable.test_run(good, 12)):
            assert len(said) == len(good) and re.fullmatch("[a-z ]+", said)
    with pytest.raises(ValueError, match=fault):
        variable.test_run(s, delay)
    if s != "letters":
        with pytest.raises(ValueError, match=fault):
            fixed.test_run(s)


def test_the_tests_give_a_perfect_memory_1_and_one_that_is_late_chance():
    assert ns.accuracies(Oracle(), 12, 50) == dict.fromkeys(range(13), 1.0)
    late, chance = Oracle(late=1), pytest.approx(1 / 26, abs=0.017)
    assert ns.accuracies(late, 12, 500) == dict.fromkeys(range(13), chance)
    assert ns.test_model(Oracle()) == 1.0 and ns.test_model(late) == chance
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=8) == 1.0
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=12) < 0.1


def test_short_trainings_learn_short_memories(monkeypatch):
    monkeypatch.setattr(ns, "DELAY", 2)
    model = ns.GRUMemory(64)
    data = DataLoader(ns.EchoDataset(2, 20, 32 * 250), batch_size=32)
    assert len(ns.train_model(model, data)) == 250
    assert ns.test_model(model) > 0.97
    model = ns.VariableDelayGRUMemory(48, 2)
    ns.start_as_memory(model.gru)
    data = DataLoader(ns.VariableDelayEchoDataset(2, 12, 16 * 200), batch_size=16)
    ns.train_variable_delay_model(model, data)
    assert ns.test_variable_delay_model(model, max_delay=2) > 0.97


def test_a_matrix_can_be_a_register_but_no_latch():
    class Register(nn.Module):  # its state holds the last 13 letters, one-hot
        def forward(self, x):
            return ns.idx_to_onehot(ns.all_echoes(x.argmax(-1))).flatten(2), None

    class Latch(nn.Module):  # its state is the last vowel
        def forward(self, x):
            return ns.idx_to_onehot(ns.last_vowel(x.argmax(-1))), None

    assert ns.decode(ns.last_vowel(ns.encode("xyahbehz")[None])[0]) == "  aaaeee"
    model = nn.Module()
    model.gru, model.decoder = Register(), nn.Identity()
    assert ns.take_over(model, ns.all_echoes) == (1.0, 1.0)
    model.gru = Latch()
    gru, alone = ns.take_over(model, lambda x: ns.last_vowel(x)[..., None])
    assert gru == 1.0 and alone < 0.96
