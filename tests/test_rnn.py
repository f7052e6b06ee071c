"""hw2_rnn.ipynb: its strings, models and trainings, and that its tests can be trusted."""

import pytest
import torch
from conftest import load_definitions
from torch import nn
from torch.testing import assert_close

ns = load_definitions("hw2_rnn.ipynb")


class Oracle(nn.Module):
    """Echoes every string `late` letters later than asked, `longest` at the most."""

    def __init__(self, late=0, longest=12):
        super().__init__()
        self.late, self.longest = late, longest

    def forward(self, x, delays):
        rows = zip(x.argmax(-1), delays.clamp(max=self.longest) + self.late)
        return ns.idx_to_onehot(torch.stack([ns.echo(row, int(d)) for row, d in rows]))

    def test_run(self, s, delay=ns.DELAY):
        return ns.PerfectMemory().test_run(s, delay + self.late)


def test_datasets_shift_right_fill_with_blanks_and_repeat_for_a_seed():
    items = [(x, d, y) for d in (0, 1, 4) for x, y in ns.EchoDataset(d, 20, 40)]
    items += ns.VariableDelayEchoDataset(12, 20, 400)
    assert len(items) == 520 and len(ns.EchoDataset(0, 20, 40)) == 40
    assert {int(delay) for _, delay, _ in items[120:]} == {*range(13)}
    for x, delay, y in items:
        assert x.dtype == y.dtype == torch.int64 and 1 <= x.min() and x.max() <= ns.N
        assert y.tolist() == [0] * int(delay) + x.tolist()[: 20 - int(delay)]
    data = (ns.VariableDelayEchoDataset(12, 20, 5, seed) for seed in (1, 1, 2))
    first, again, other = (next(iter(strings))[0] for strings in data)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert ns.encode("az").tolist() == [1, 26]
    assert ns.decode(torch.tensor([0, 1, 26])) == " az"


def test_a_read_out_for_each_delay_is_bilinear_in_state_and_delay():
    x, delays = torch.randint(1, 27, (3, 20)), torch.tensor([12, 0, 5])
    onehot, model = ns.idx_to_onehot(x), ns.VariableDelayGRUMemory(8, 12)
    weight = model.decoder.weight.view(13, 27, 8)
    told = ns.idx_to_onehot(delays, 13)
    want = torch.einsum("bth,dnh,bd->btn", model.gru(onehot)[0], weight, told)
    want += (told @ model.decoder.bias.view(13, 27))[:, None]
    assert_close(model(onehot, delays), want)
    each = [
        ns.echo_loss(model, x, torch.full((3,), d), ns.echo(x, d)) for d in range(13)
    ]
    assert_close(ns.all_delays_loss(model, x), torch.stack(each).mean())


BAD = [("", 3), ("two words", 3), ("Upper", 3), ("é", 3)]


@pytest.mark.parametrize("s, delay", [*BAD, ("a", -1), ("a", 13), ("a", 2.5)])
def test_test_run_answers_strings_of_any_length_and_refuses_others(s, delay):
    fixed, variable = ns.GRUMemory(4), ns.VariableDelayGRUMemory(4, 12)
    for good in ("a", "abc", "thequickbrownfoxjumpsover"):
        said = fixed.test_run(good), variable.test_run(good, 12)
        assert [*map(len, said)] == [len(good)] * 2
    fault = "letters a-z" if delay == 3 else r"delays must be 0\.\.12"
    with pytest.raises(ValueError, match=fault):
        variable.test_run(s, delay)
    if delay == 3:
        with pytest.raises(ValueError, match=fault):
            fixed.test_run(s)


def test_the_tests_give_a_perfect_memory_1_and_one_that_is_late_chance():
    assert ns.accuracies(Oracle(), 12, 50) == dict.fromkeys(range(13), 1.0)
    late, chance = Oracle(late=1), pytest.approx(1 / 26, abs=0.017)
    assert ns.accuracies(late, 12, 500) == dict.fromkeys(range(13), chance)
    assert ns.test_model(Oracle()) == 1.0 and ns.test_model(late) == chance
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=8) == 1.0
    assert ns.test_variable_delay_model(Oracle(longest=8), max_delay=12) < 0.1


def test_a_matrix_can_be_a_register_but_not_any_store():
    assert ns.decode(ns.last_vowel(ns.encode("xyahbehz")[None])[0]) == "  aaaeee"
    model = type("Model", (), {"decoder": nn.Identity()})
    model.gru = lambda x: (ns.idx_to_onehot(ns.all_echoes(x.argmax(-1))).flatten(2), 0)
    assert ns.take_over(model, ns.all_echoes) == (1.0, 1.0)
    model.gru = lambda x: (ns.idx_to_onehot(ns.last_vowel(x.argmax(-1))), 0)
    gru, alone = ns.take_over(model, lambda x: ns.last_vowel(x)[..., None])
    assert gru == 1.0 and alone < 0.96
