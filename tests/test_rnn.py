"""hw2_rnn.ipynb: its data, models and tests, and what its committed run reports."""

import random
import re

import nbformat
import pytest
import torch
from conftest import ROOT, load_definitions
from torch import nn

ns = load_definitions("hw2_rnn.ipynb")
ns.device = torch.device("cpu")


class Oracle(nn.Module):
    """Echoes every string `shift` letters later than it is asked to."""

    def __init__(self, shift: int = 0, told: bool = True):
        super().__init__()
        self.shift, self.told = shift, told

    def forward(self, x, *delays):
        d = delays[0] if self.told else torch.full((len(x),), ns.DELAY)
        return ns.idx_to_onehot(ns.echo(x.argmax(-1), d + self.shift))


@pytest.mark.parametrize("delay", [0, 1, 4, 12])
def test_echo_dataset_shifts_right_and_fills_with_blanks(delay):
    items = list(ns.EchoDataset(delay, seq_length=15, size=40))
    assert len(items) == 40
    for x, y in items:
        assert x.dtype == y.dtype == torch.int64 and x.shape == y.shape == (15,)
        assert y.tolist() == [0] * delay + x.tolist()[: 15 - delay]


def test_letters_are_1_to_26_and_uniform():
    x = torch.cat([x for x, _ in ns.EchoDataset(4, 15, 4000).batches(1500)])
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


def test_batches_hold_the_strings_that_iteration_yields():
    data = ns.EchoDataset(4, 15, 25)
    whole = torch.cat([y for _, y in data.batches(1000)])
    assert torch.equal(whole, torch.stack([y for _, y in data]))


def test_all_echoes_is_the_echo_at_every_delay():
    x = torch.randint(1, ns.N + 1, (3, 9))
    every = ns.all_echoes(x, 12)
    assert every.shape == (3, 9, 13)
    for delay in range(13):
        assert torch.equal(every[..., delay], ns.echo(x, torch.full((3,), delay)))


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
        assert torch.equal(model(x, delays)[row], every[row, :, delay])


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


def test_the_mended_tests_give_a_perfect_model_1_at_every_delay():
    result = ns.test_variable_delay_model(Oracle(), 12, n_strings=50)
    assert result == {delay: 1.0 for delay in range(13)}
    assert ns.test_variable_delay_model(ns.PerfectMemory(), 12, 50) == result
    assert ns.test_model(Oracle(told=False)) == 1.0


def test_the_mended_tests_give_an_off_by_one_model_chance():
    result = ns.test_variable_delay_model(Oracle(shift=1), 12, n_strings=500)
    assert all(0.02 < accuracy < 0.055 for accuracy in result.values())
    assert ns.test_model(Oracle(shift=1, told=False)) < 0.055


def test_accuracy_counts_letters_only_and_each_string_to_its_own_length():
    generator = torch.Generator().manual_seed(0)
    x, y, counted = ns.draw_test(300, 12, (15, 25), generator)
    assert x.shape == y.shape == counted.shape == (300, 25)
    assert not counted[:, :12].any()
    lengths = counted.sum(1) + 12
    assert set(lengths.tolist()) == set(range(15, 26))


def test_the_handed_out_test_has_the_fault_that_the_notebook_names():
    assert ns.handed_out_test(ns.PerfectMemory(), 0, 1, n_strings=20) == (0, 0.0)
    assert ns.handed_out_test(ns.PerfectMemory(), 7, 1, n_strings=20) == (7, 1.0)
    drawn = {ns.handed_out_test(ns.PerfectMemory(), None, s, 1)[0] for s in range(50)}
    assert len(drawn) > 6


def test_a_short_training_learns_a_short_memory():
    torch.manual_seed(0)
    model = ns.VariableDelayGRUMemory(48, 2)
    ns.display = lambda *args, **kwargs: type(
        "Quiet", (), {"update": lambda *a, **k: 0}
    )
    data = ns.VariableDelayEchoDataset(2, 12, 64 * 120)
    history = ns.train(model, data.batches(64), ns.all_delays_loss, 120, 1e-2)
    assert len(history["loss"]) == 120
    assert min(ns.test_variable_delay_model(model, 2, 200).values()) > 0.97
    word = "".join(random.Random(0).choices("abcdefghij", k=15))
    assert model.test_run(word, 2)[:2] == "  "


def test_the_committed_run_meets_what_is_asked_and_our_bars():
    cells = nbformat.read(ROOT / "hw2_rnn.ipynb", as_version=4).cells
    cell = next(c for c in cells if "acceptance" in c.metadata.get("tags", []))
    table = "".join(output.get("text", "") for output in cell.outputs).splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in table[1:]]
    assert len(rows) == 6 and all(len(row) == 5 for row in rows)
    assert {row[0]: row[4] for row in rows if row[4] != "pass"} == {}
