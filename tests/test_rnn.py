"""hw2_rnn.ipynb: its strings, models and trainings, and that its tests can be trusted."""

import re

import pytest
import torch
from conftest import load_definitions
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

ns = load_definitions("hw2_rnn.ipynb")
ns.device = torch.device("cpu")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Oracle(nn.Module):
    """Echoes every string `late` letters later than asked, by `longest` at the most."""

    def __init__(self, late: int = 0, longest: int = 12):
        super().__init__()
        self.late, self.longest = late, longest

    def forward(self, x, delays):
        delays = delays.clamp(max=self.longest) + self.late
        rows = [ns.echo(row, int(d)) for row, d in zip(x.argmax(-1), delays)]
        return ns.idx_to_onehot(torch.stack(rows))

    def test_run(self, s, delay=ns.DELAY):
        return (" " * (delay + self.late) + s)[: len(s)]


class Forgetful(Oracle):
    """Right up to the 15th letter, which every string of the tests has; then blanks."""

    def forward(self, x, delays):
        return torch.cat([super().forward(x[:, :15], delays), 0 * x[:, 15:]], 1)


def test_datasets_shift_right_fill_with_blanks_and_repeat_for_a_seed():
    items = [(x, d, y) for d in (0, 1, 4) for x, y in ns.EchoDataset(d, 20, 40)]
    assert len(items) == 120 and len(ns.EchoDataset(0, 20, 40)) == 40
    items += ns.VariableDelayEchoDataset(12, 20, 400)
    assert {int(delay) for _, delay, _ in items[120:]} == {*range(13)}
    for x, delay, y in items:
        assert x.dtype == y.dtype == torch.int64
        assert y.tolist() == [0] * int(delay) + x.tolist()[: 20 - int(delay)]
    counts = torch.cat([x for x, _, _ in items]).bincount(minlength=ns.N + 1)
    assert len(items) == 520 and len(counts) == ns.N + 1 and counts[0] == 0
    assert counts[1:].min() > 300 and counts[1:].max() < 500  # 400 expected, sd 20
    data = (ns.VariableDelayEchoDataset(12, 20, 5, seed) for seed in (1, 1, 2))
    first, again, other = (next(iter(strings))[0] for strings in data)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_letters_to_numbers_to_vectors_and_back():
    vectors = ns.idx_to_onehot(torch.tensor([[0, 26], [3, 1]]))
    assert vectors.shape == (2, 2, 27) and vectors.dtype == torch.float32
    assert vectors.sum() == 4 and vectors[0, 1, 26] == vectors[1, 0, 3] == 1
    assert ns.encode("az").tolist() == [1, 26]
    assert ns.decode(torch.tensor([0, 1, 26])) == " az"


def test_models_return_logits_each_string_by_its_delay():
    x = torch.randint(1, 27, (3, 20))
    onehot, delays = ns.idx_to_onehot(x), torch.tensor([12, 0, 5])
    assert ns.GRUMemory(8)(onehot).shape == onehot.shape
    assert ns.DelayIntoGRU(8, 12)(onehot, delays).shape == onehot.shape
    model = ns.VariableDelayGRUMemory(8, 12)
    every = model.all_delays(onehot)
    want = torch.stack([every[row, :, delay] for row, delay in enumerate(delays)])
    assert_close(model(onehot, delays), want)
    told = (torch.full((3,), d) for d in range(13))
    each = [ns.echo_loss(model, x, d, ns.echo(x, int(d[0]))) for d in told]
    assert_close(ns.all_delays_loss(model, x), torch.stack(each).mean())
    for wrong in (delays - 1, delays + 1):  # the least is -1, the largest 13
        pytest.raises(ValueError, model, onehot, wrong).match("must be 0..12")


@pytest.mark.parametrize("s", ["a", "abc", "thequickbrownfoxjumpsover"])
def test_test_run_answers_strings_of_any_length(s):
    answers = [ns.GRUMemory(4).test_run(s)]
    answers += [ns.VariableDelayGRUMemory(4, 12).test_run(s, d) for d in (0, 12)]
    for answer in answers:
        assert len(answer) == len(s) and re.fullmatch("[a-z ]+", answer)


@pytest.mark.parametrize(
    "s, delay, fault",
    [("", 3, "empty"), ("two words", 3, "' '"), ("Upper", 3, "'U'"), ("é", 3, "'é'")]
    + [("letters", delay, f"0..12, not {delay}") for delay in (-1, 13, 2.5, None)],
)
def test_test_run_refuses_other_strings_and_delays(s, delay, fault):
    with pytest.raises(ValueError, match=fault):
        ns.VariableDelayGRUMemory(4, 12).test_run(s, delay)
    if s != "letters":
        with pytest.raises(ValueError, match=fault):
            ns.GRUMemory(4).test_run(s)


def test_the_tests_give_a_perfect_model_1_and_one_that_is_late_chance():
    for model in (Oracle(), ns.PerfectMemory()):
        assert ns.accuracies(model, 12, 50) == dict.fromkeys(range(13), 1.0)
        assert ns.test_variable_delay_model(model, max_delay=12) == 1.0
    late, chance = Oracle(late=1), pytest.approx(1 / 26, abs=0.017)
    assert ns.accuracies(late, 12, 500) == dict.fromkeys(range(13), chance)
    assert ns.test_variable_delay_model(late) == chance
    assert ns.test_model(Oracle()) == 1.0 and ns.test_model(late) == chance


def test_the_test_reports_the_worst_delay_and_counts_from_the_delay_on():
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=8) == 1.0
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=12) < 0.1
    for delay, accuracy in ns.accuracies(Forgetful(), 12, n_strings=4000).items():
        share = (15 - delay) / (20 - delay)  # lengths 15..25, 20 on the mean
        assert accuracy == pytest.approx(share, abs=0.02)


def test_the_handed_out_test_has_the_fault_that_the_notebook_names():
    assert ns.handed_out_test(ns.PerfectMemory(), 0, 1, n_strings=20) == (0, 0.0)
    assert ns.handed_out_test(ns.PerfectMemory(), 7, 1, n_strings=20) == (7, 1.0)
    drawn = {ns.handed_out_test(ns.PerfectMemory(), None, s, 1)[0] for s in range(50)}
    assert len(drawn) > 6


def test_short_trainings_learn_short_memories(monkeypatch):
    monkeypatch.setattr(ns, "DELAY", 2)
    model = ns.GRUMemory(64)
    data = DataLoader(ns.EchoDataset(2, 20, 32 * 250), batch_size=32)
    assert len(ns.train_model(model, data)) == 250
    assert ns.test_model(model, n_strings=50) > 0.97
    model = ns.VariableDelayGRUMemory(48, 2)
    data = DataLoader(ns.VariableDelayEchoDataset(2, 12, 16 * 200), batch_size=16)
    assert len(ns.train_variable_delay_model(model, data)) == 200
    assert ns.test_variable_delay_model(model, max_delay=2) > 0.97
    assert model.test_run("abcdefghijabcde", 2)[:2] == "  "
    # and any model, on any iterable of batches
    model = ns.DelayIntoGRU(48, 1)
    data = iter([*DataLoader(ns.VariableDelayEchoDataset(1, 12, 16 * 200), 16)])
    losses = ns.train_variable_delay_model(model, data)
    assert len(losses) == 200 and losses[-1] < losses[0] / 3
    for count in (1, 20, 21):
        batches = [torch.ones(2, 4, 9, dtype=int)] * count  # x and y (B, T) each
        assert len(ns.train_model(ns.GRUMemory(4), batches)) == count


def test_a_linear_map_can_be_a_register_but_no_latch():
    class Register(nn.Module):  # its state holds the last 13 letters, one-hot
        def forward(self, x):
            return ns.idx_to_onehot(ns.all_echoes(x.argmax(-1))).flatten(2), None

    class Latch(nn.Module):  # its state is the last vowel
        def forward(self, x):
            return ns.idx_to_onehot(ns.last_vowel(x.argmax(-1))), None

    vowels = ns.last_vowel(ns.encode("xyahbehz")[None])[0]
    assert ns.decode(vowels) == "  aaaeee"
    model = nn.Module()
    model.gru, model.decoder = Register(), nn.Identity()
    assert ns.map_alone(model, ns.all_echoes) == (1.0, 1.0)
    model.gru = Latch()
    gru, alone = ns.map_alone(model, lambda x: ns.last_vowel(x)[..., None])
    assert gru == 1.0 and alone < 0.96
