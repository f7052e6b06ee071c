"""Every boxed formula of hw2_theory.tex against autograd or PyTorch's own layers.

A function under `@boxed(label)` is a formula as the paper prints it, indices counted from
one, as they are there. Its checker compares it, in float64 and at random points of several
sizes, with PyTorch. `PLANTED` lists errors that the comparisons must catch.
"""

import inspect
import json
import math
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pypdf
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_definitions
from torch import Tensor
from torch.autograd.functional import jacobian

TEX = (ROOT / "hw2_theory.tex").read_text(encoding="utf-8")
TOLERANCE = 1e-10
FORMULAS: dict[str, Callable] = {}
CHECKERS: dict[str, Callable] = {}


def boxed(label: str) -> Callable:
    """Registers the function as the formula that stands in a box under this label."""
    return lambda formula: FORMULAS.setdefault(label, formula)


def checks(label: str) -> Callable:
    """Registers the function as the comparison of that formula with PyTorch."""
    return lambda checker: CHECKERS.setdefault(label, checker)


def assert_same(got: Tensor, want: Tensor) -> None:
    """Same shape, and a largest difference within 1e-10 of the largest value."""
    assert got.shape == want.shape, f"{tuple(got.shape)}, not {tuple(want.shape)}"
    error, scale = (got - want).abs().max(), want.abs().max()
    assert error <= TOLERANCE * scale, f"differs by {error:.1e}, scale {scale:.1e}"


def at(array: Tensor, *index: int) -> Tensor:
    """An entry, its indices counted from one as in the paper."""
    assert all(1 <= i <= n for i, n in zip(index, array.shape, strict=False))
    return array[tuple(i - 1 for i in index)]


def layout(derivative: Tensor, numerator_axes: int) -> Tensor:
    """autograd's axes in the paper's order: the denominator's axes reversed."""
    axes = list(range(derivative.dim()))
    return derivative.permute(axes[:numerator_axes] + axes[numerator_axes:][::-1])


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


# ---------------------------------------------------------------- 1.1 convolution


@boxed("1.1(a)")
def small_output() -> tuple[int, int]:
    return (19 + 2 * 1 - 4) // 2 + 1, (26 + 2 * 1 - 4) // 2 + 1


@checks("1.1(a)")
def check_small_output(formula: Callable) -> None:
    out = F.conv2d(normal(1, 1, 19, 26), normal(1, 1, 4, 4), stride=2, padding=1)
    assert formula() == out.shape[2:] == (9, 13)


@boxed("1.1(b)")
def output_size(size: int, kernel: int, p: int, s: int, d: int) -> int:
    return (size + 2 * p - d * (kernel - 1) - 1) // s + 1


@checks("1.1(b)")
def check_output_size(formula: Callable) -> None:
    draw = np.random.RandomState(0)
    cases = [(1, 1, 0, 1, 1), (5, 5, 0, 1, 1), (5, 3, 0, 1, 3), (7, 4, 1, 3, 2)]
    cases += [
        tuple(draw.randint((1, 1, 0, 1, 1), (12, 6, 4, 5, 5))) for _ in range(200)
    ]
    fitting = 0
    for size, kernel, p, s, d in cases:
        fits = d * (kernel - 1) + 1 <= size + 2 * p  # the box's condition
        fitting += fits
        out = partial(F.conv2d, stride=int(s), padding=int(p), dilation=int(d))
        x, w = normal(1, 2, size, 11), normal(3, 2, kernel, 1)
        if fits:
            width = formula(11, 1, p, s, d)
            assert out(x, w)[0].shape == (3, formula(size, kernel, p, s, d), width)
        else:
            assert formula(size, kernel, p, s, d) <= 0
            with pytest.raises(RuntimeError, match="Kernel size"):
                out(x, w)
    assert 0 < fitting < len(cases)  # both sides of the condition were met


# channels, length, kernel: the question's first; a kernel as long as the input; ones
CONVOLUTIONS = [(7, 11, 3), (2, 3, 3), (1, 1, 1), (1, 6, 1), (3, 10, 4), (2, 8, 5)]


def strided(x: Tensor, w: Tensor) -> Tensor:
    """PyTorch's layer: x (channel, position), w (1, channel, k) -> (1, position)."""
    return F.conv1d(x[None], w, stride=2)[0]


@boxed("1.1(c)(i)")
def convolution(x: Tensor, w: Tensor) -> Tensor:
    (channels, length), kernel = x.shape, w.shape[2]
    outputs = (length - kernel) // 2 + 1
    f = x.new_zeros(1, outputs)
    for j in range(1, outputs + 1):
        for c in range(1, channels + 1):
            for k in range(1, kernel + 1):
                f[0, j - 1] += at(w, 1, c, k) * at(x, c, 2 * j - 2 + k)
    return f


@boxed("1.1(c)(ii)")
def convolution_by_weight(x: Tensor, w: Tensor) -> Tensor:
    (channels, length), kernel = x.shape, w.shape[2]
    outputs = (length - kernel) // 2 + 1
    d = x.new_zeros(1, outputs, kernel, channels, 1)
    for j in range(1, outputs + 1):
        for k in range(1, kernel + 1):
            for c in range(1, channels + 1):
                d[0, j - 1, k - 1, c - 1, 0] = at(x, c, 2 * j - 2 + k)
    return d


@boxed("1.1(c)(iii)")
def convolution_by_input(x: Tensor, w: Tensor) -> Tensor:
    (channels, length), kernel = x.shape, w.shape[2]
    outputs = (length - kernel) // 2 + 1
    d = x.new_zeros(1, outputs, length, channels)
    for j in range(1, outputs + 1):
        for n in range(1, length + 1):
            for c in range(1, channels + 1):
                inside = 1 <= n - 2 * j + 2 <= kernel
                d[0, j - 1, n - 1, c - 1] = at(w, 1, c, n - 2 * j + 2) if inside else 0
    return d


@boxed("1.1(c)(iv)")
def loss_by_weight(x: Tensor, w: Tensor, g: Tensor) -> Tensor:
    channels, kernel, outputs = x.shape[0], w.shape[2], g.shape[0]
    d = x.new_zeros(kernel, channels, 1)
    for k in range(1, kernel + 1):
        for c in range(1, channels + 1):
            for j in range(1, outputs + 1):
                d[k - 1, c - 1, 0] += at(g, j, 1) * at(x, c, 2 * j - 2 + k)
    return d


def convolution_points() -> list[tuple[Tensor, Tensor]]:
    return [(normal(c, n), normal(1, c, k)) for c, n, k in CONVOLUTIONS]


@checks("1.1(c)(i)")
def check_convolution(formula: Callable) -> None:
    for x, w in convolution_points():
        assert_same(formula(x, w), strided(x, w))


@checks("1.1(c)(ii)")
def check_convolution_by_weight(formula: Callable) -> None:
    for x, w in convolution_points():
        assert_same(formula(x, w), layout(jacobian(partial(strided, x), w), 2))


@checks("1.1(c)(iii)")
def check_convolution_by_input(formula: Callable) -> None:
    for x, w in convolution_points():
        want = jacobian(lambda x, w=w: strided(x, w), x)
        assert_same(formula(x, w), layout(want, 2))


@checks("1.1(c)(iv)")
def check_loss_by_weight(formula: Callable) -> None:
    for x, w in convolution_points():
        f = strided(x, w)
        r = normal(*f.shape)
        g = layout(jacobian(lambda f, r=r: (f.sin() * r).sum(), f), 0)
        want = jacobian(lambda w, x=x, r=r: (strided(x, w).sin() * r).sum(), w)
        assert_same(formula(x, w, g), layout(want, 0))
        # the adjoint view: stride one, dilation two, each channel by itself
        per_channel = F.conv1d(x[:, None], g.T[None], dilation=2)[:, 0, : w.shape[2]]
        assert_same(formula(x, w, g)[:, :, 0], per_channel.T)


# ---------------------------------------------------------------- 1.2.1 the gated RNN


def rnn_point(n: int, m: int, steps: int) -> tuple[dict[str, Tensor], Tensor]:
    """Weights, and inputs (steps, n)."""
    weights = {"c": normal(m, n), "h": normal(m, m), "x": normal(m, n)}
    return weights, normal(steps, n)


def gate(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """Equation (1) of the question."""
    return torch.sigmoid(weights["c"] @ x + weights["h"] @ h)


def step(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """Equation (2) of the question."""
    c = gate(weights, x, h)
    return c * h + (1 - c) * (weights["x"] @ x)


def run(weights: dict[str, Tensor], xs: Tensor) -> list[Tensor]:
    """h[0], h[1], ..., h[K]."""
    states = [torch.zeros(len(weights["h"]), dtype=xs.dtype)]
    for x in xs:
        states.append(step(weights, x, states[-1]))
    return states


# n, m, K
SEQUENCES = [(3, 4, 5), (1, 1, 1), (1, 3, 2), (4, 1, 6), (2, 2, 1)]


def wires(picture: str) -> list[tuple[str, str]]:
    """(from, to) of every wire of a labelled TikZ picture."""
    found = re.search(
        rf"% picture: {picture}\n(.*?)\\end{{tikzpicture}}", TEX, re.DOTALL
    )
    draws = re.findall(r"\\draw\[wire.*?;", found[1], re.DOTALL)
    ends = [re.findall(r"\((\w+)(?:\.\w+)?\)", draw) for draw in draws]
    return [(nodes[0], nodes[-1]) for nodes in ends]


@boxed("1.2.1(a)")
def diagram(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    """Sends values along the wires of the cell's picture, node by node."""
    node = {
        "Wc": lambda x: weights["c"] @ x,
        "Wh": lambda h: weights["h"] @ h,
        "Wx": lambda x: weights["x"] @ x,
        "sum": lambda *terms: sum(terms),
        "sigma": torch.sigmoid,
        "c": lambda s: s,
        "oneminus": lambda c: 1 - c,
        "keep": lambda c, h: c * h,
        "write": lambda c, v: c * v,
        "add": lambda a, b: a + b,
        "h": lambda s: s,
    }
    edges = wires("cell")
    assert ("h", "delay") in edges and ("delay", "hp") in edges
    values = {"x": x, "hp": h}
    while "h" not in values:
        known = len(values)
        for name, function in node.items():
            sources = [start for start, end in edges if end == name]
            if name not in values and all(start in values for start in sources):
                values[name] = function(*(values[start] for start in sources))
        assert len(values) > known, "a node of the diagram lacks an input"
    return values["h"]


@checks("1.2.1(a)")
def check_diagram(formula: Callable) -> None:
    for n, m, _ in SEQUENCES:
        weights, xs = rnn_point(n, m, 1)
        h = normal(m)
        assert_same(formula(weights, xs[0], h), step(weights, xs[0], h))


@boxed("1.2.1(b)")
def gate_shape(n: int, m: int) -> tuple[int, ...]:
    return (m,)


@checks("1.2.1(b)")
def check_gate_shape(formula: Callable) -> None:
    for n, m, _ in SEQUENCES:
        weights, xs = rnn_point(n, m, 1)
        assert formula(n, m) == gate(weights, xs[0], normal(m)).shape


@boxed("1.2.1(c) gate")
def gate_by_state(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    c = gate(weights, x, h)
    return torch.diag(c * (1 - c)) @ weights["h"]


@boxed("1.2.1(c) state")
def state_by_state(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    c, v = gate(weights, x, h), weights["x"] @ x
    return torch.diag(c) + torch.diag((h - v) * c * (1 - c)) @ weights["h"]


def check_by_state(function: Callable, formula: Callable) -> None:
    for n, m, _ in SEQUENCES:
        weights, xs = rnn_point(n, m, 1)
        h = normal(m)
        want = jacobian(partial(function, weights, xs[0]), h)
        assert_same(formula(weights, xs[0], h), want)


CHECKERS["1.2.1(c) gate"] = partial(check_by_state, gate)
CHECKERS["1.2.1(c) state"] = partial(check_by_state, step)


@boxed("1.2.1(d) local")
def state_by_input_weight(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    (m, n), c = weights["x"].shape, gate(weights, x, h)
    d = x.new_zeros(m, n, m)
    for i in range(1, m + 1):
        for b in range(1, n + 1):
            for a in range(1, m + 1):
                d[i - 1, b - 1, a - 1] = (1 - at(c, i)) * at(x, b) if i == a else 0
    return d


@boxed("1.2.1(d) total")
def loss_by_input_weight(
    weights: dict[str, Tensor], xs: Tensor, hs: list[Tensor], total: list[Tensor]
) -> Tensor:
    """total[t - 1] is the row of the derivative by h[t]; hs starts with h[0]."""
    d = torch.zeros_like(weights["x"]).T
    for t in range(1, len(xs) + 1):
        c = gate(weights, xs[t - 1], hs[t - 1])
        d = d + xs[t - 1][:, None] @ (total[t - 1] @ torch.diag(1 - c))
    return d


@boxed("1.2.1(d) direct")
def totals_from_direct(
    weights: dict[str, Tensor], xs: Tensor, hs: list[Tensor], direct: list[Tensor]
) -> list[Tensor]:
    """direct[t - 1] is the row of the loss's own dependence on h[t]."""
    last = len(xs)
    total = [direct[last - 1]]
    for t in range(last - 1, 0, -1):
        j = state_by_state(weights, xs[t], hs[t])  # h[t+1] by h[t]
        total.insert(0, direct[t - 1] + total[0] @ j)
    return total


def loss_of_states(states: Tensor, r: Tensor) -> Tensor:
    """A loss in which every state stands by itself and beside the others."""
    return (states.sin() * r).sum() + states.prod(0).sum() + (states**2).sum().cos()


def known_derivatives(hs: list[Tensor], total: Callable) -> tuple[list, list, Tensor]:
    """Rows of direct and of total derivatives of a random loss by h[1..K], and r."""
    stacked = torch.stack(hs[1:]).detach()
    r = normal(*stacked.shape)
    direct = jacobian(lambda s: loss_of_states(s, r), stacked)
    return [row[None] for row in direct], total(r), r


def rnn_totals(weights: dict[str, Tensor], xs: Tensor, r: Tensor) -> list[Tensor]:
    """By autograd: a small push on h[t] as it arises, all later states follow."""

    def pushed(push: Tensor) -> Tensor:
        states = [torch.zeros(push.shape[1], dtype=push.dtype)]
        for x, p in zip(xs, push, strict=True):
            states.append(step(weights, x, states[-1]) + p)
        return loss_of_states(torch.stack(states[1:]), r)

    zero = torch.zeros(len(xs), len(weights["h"]), dtype=xs.dtype)
    return [row[None] for row in jacobian(pushed, zero)]


@checks("1.2.1(d) local")
def check_state_by_input_weight(formula: Callable) -> None:
    for n, m, _ in SEQUENCES:
        weights, xs = rnn_point(n, m, 1)
        h = normal(m)
        by_weight = lambda w, u=weights, x=xs[0], h=h: step(u | {"x": w}, x, h)
        want = layout(jacobian(by_weight, weights["x"]), 1)
        assert_same(formula(weights, xs[0], h), want)


@checks("1.2.1(d) total")
def check_loss_by_input_weight(formula: Callable) -> None:
    for n, m, steps in SEQUENCES:
        weights, xs = rnn_point(n, m, steps)
        hs = run(weights, xs)
        _, total, r = known_derivatives(hs, partial(rnn_totals, weights, xs))

        def loss(w: Tensor, weights=weights, xs=xs, r=r) -> Tensor:
            return loss_of_states(torch.stack(run(weights | {"x": w}, xs)[1:]), r)

        want = layout(jacobian(loss, weights["x"]), 0)
        got = formula(weights, xs, hs, total)
        assert_same(got, want)
        local = [state_by_input_weight(weights, *point) for point in zip(xs, hs)]
        middle = zip(total, local, strict=True)  # the box's first sum over t
        assert_same(sum(torch.tensordot(g[0], d, 1) for g, d in middle), got)


@checks("1.2.1(d) direct")
def check_totals_from_direct(formula: Callable) -> None:
    for n, m, steps in SEQUENCES:
        weights, xs = rnn_point(n, m, steps)
        hs = run(weights, xs)
        direct, want, _ = known_derivatives(hs, partial(rnn_totals, weights, xs))
        got = formula(weights, xs, hs, direct)
        assert_same(torch.cat(got), torch.cat(want))


@boxed("1.2.1(e) state")
def state_as_average(weights: dict[str, Tensor], xs: Tensor) -> Tensor:
    """h[t], t = 1..K, as weighted sums of the past candidates W_x x[s]; rows are t."""
    hs = run(weights, xs)
    cs = torch.stack([gate(weights, x, h) for x, h in zip(xs, hs, strict=False)])
    rows = []
    for t in range(1, len(xs) + 1):
        h = torch.zeros_like(hs[0])
        for s in range(1, t + 1):
            share = (1 - cs[s - 1]) * cs[s:t].prod(0)
            h = h + share * (weights["x"] @ xs[s - 1])
        rows.append(h)
    return torch.stack(rows)


@checks("1.2.1(e) state")
def check_state_as_average(formula: Callable) -> None:
    for n, m, steps in SEQUENCES:
        weights, xs = rnn_point(n, m, steps)
        hs = torch.stack(run(weights, xs)[1:])
        assert_same(formula(weights, xs), hs)
        largest = (xs @ weights["x"].T).abs().cummax(0).values
        assert (hs.abs() <= largest).all()  # each unit stays within its candidates


@boxed("1.2.1(e) step")
def step_bound(weights: dict[str, Tensor], x: Tensor, h: Tensor) -> Tensor:
    c, v = gate(weights, x, h), weights["x"] @ x
    rho = c * (h - v).abs() * weights["h"].abs().sum(1)
    return (c + (1 - c) * rho).max()


def row_norm(matrix: Tensor) -> Tensor:
    """The operator norm for the largest entry: the largest row sum of absolute values."""
    return matrix.abs().sum(1).max()


@checks("1.2.1(e) step")
def check_step_bound(formula: Callable) -> None:
    slack = 1 + TOLERANCE
    for scale in (0.1, 1.0, 10.0):
        for n, m, _ in SEQUENCES * 5:
            weights, xs = rnn_point(n, m, 1)
            weights["h"] *= scale
            h = normal(m)
            norm = row_norm(jacobian(partial(step, weights, xs[0]), h))
            bound = formula(weights, xs[0], h)
            assert norm <= bound * slack
            gap = h - weights["x"] @ xs[0]
            if m == 1 and gap * weights["h"] >= 0:  # then nothing is lost
                assert_same(bound, norm)


@boxed("1.2.1(e) budget")
def growth_bound(weights: dict[str, Tensor], xs: Tensor) -> Tensor:
    """Bounds the logarithm of the norm of h[T] by h[0], for T = len(xs)."""
    vs = torch.cat([torch.zeros_like(weights["h"][:1]), xs @ weights["x"].T])
    return (weights["h"].abs().sum(1) * (vs[1:] - vs[:-1]).abs().sum(0)).sum()


@checks("1.2.1(e) budget")
def check_growth_bound(formula: Callable) -> None:
    grew = False
    for scale in (0.01, 1.0, 4.0):
        for n, m, steps in SEQUENCES * 5:
            for fixed in (False, True):
                weights, xs = rnn_point(n, m, 2 * steps)
                weights["h"] *= scale
                xs = xs[:1].repeat(2 * steps, 1) if fixed else xs
                product = torch.eye(m, dtype=xs.dtype)
                for x, h in zip(xs, run(weights, xs), strict=False):
                    product = state_by_state(weights, x, h) @ product
                growth = row_norm(product).log()
                grew |= fixed and bool(growth > 0)
                assert growth <= formula(weights, xs) * (1 + TOLERANCE)
    assert grew  # also where the input is held fixed the norm can rise for a while


def gradient_norms(scale: float, bias: float, fixed: bool, seed: int = 0) -> np.ndarray:
    """Spectral norms of the derivative of h[T] by h[0], T = 0..60: the figure of 1.2.1(e).

    32 units, 8 inputs. Inputs are uniform on [-1, 1], the last held at one, so that the
    last column of W_c is a bias. W_h is uniform on [-scale, scale], W_x on [-2, 2].
    """
    draw, m, n, last = np.random.RandomState(seed), 32, 8, 60
    w_h = draw.uniform(-scale, scale, (m, m))
    w_c, w_x = draw.uniform(-1, 1, (m, n)), draw.uniform(-2, 2, (m, n))
    xs = draw.uniform(-1, 1, (last, n))
    xs[:, -1], w_c[:, -1] = 1, bias
    if fixed:
        xs[:] = xs[0]
    weights = {k: torch.tensor(w) for k, w in (("c", w_c), ("h", w_h), ("x", w_x))}
    xs, product, norms = torch.tensor(xs), torch.eye(m, dtype=torch.float64), [1.0]
    for x, h in zip(xs, run(weights, xs), strict=False):
        product = state_by_state(weights, x, h) @ product
        norms.append(float(torch.linalg.matrix_norm(product, 2)))
    return np.array(norms)


REGIMES = {
    "vanishing": partial(gradient_norms, 0.1, 0.0, False),
    "about constant": partial(gradient_norms, 0.1, 9.0, False),
    "exploding": partial(gradient_norms, 3.0, 0.0, False),
    "exploding, input held": partial(gradient_norms, 3.0, 0.0, True),
}


@pytest.mark.parametrize("regime", REGIMES)
def test_figure_of_gradient_norms(regime: str) -> None:
    """The points printed in the paper are the recomputed ones, to their three digits."""
    plot = re.search(rf"coordinates {{([^}}]*)}}; % {regime}\n", TEX)[1]
    points = [tuple(map(float, p)) for p in re.findall(r"\(([^,]+),([^)]+)\)", plot)]
    want = REGIMES[regime]()
    assert [t for t, _ in points] == list(range(0, 61, 5))
    for t, norm in points:
        assert math.isclose(norm, want[int(t)], rel_tol=5.01e-3), (t, want[int(t)])


def test_regimes_do_not_hang_on_the_seed() -> None:
    """What the caption says of 20 draws of weights and inputs."""
    last = {name: [f(seed=s)[-1] for s in range(20)] for name, f in REGIMES.items()}
    assert max(last["vanishing"]) < 1e-8
    assert min(last["about constant"]) > 0.99 and max(last["about constant"]) < 1
    assert min(last["exploding"]) > 1000
    assert max(last["exploding, input held"]) < 100


# ---------------------------------------------------------------- 1.2.2 attention RNN


def attention_point(n: int, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K, V, each (slots, n, n), of a size that keeps the shares of attention mixed."""
    return tuple(normal(slots, n, n) / n for _ in range(3))


def attend(q: Tensor, k: Tensor, v: Tensor, sources: Tensor) -> Tensor:
    """All slots at once: sources (slots, n) -> h[t]. Written unlike the formulas."""
    project = partial(torch.einsum, "iab,ib->ia")
    scores = (project(q, sources) * project(k, sources)).sum(1)
    return F.softmax(scores, 0) @ project(v, sources)


@boxed("1.2.2(a)")
def shares(w: Tensor) -> Tensor:
    assert w.shape == (3,)
    return w.exp() / w.exp().sum()


@checks("1.2.2(a)")
def check_shares(formula: Callable) -> None:
    for _ in range(5):
        w = normal(3)
        assert_same(formula(w), F.softmax(w, 0))


@boxed("1.2.2(b)")
def attention_rnn(q: Tensor, k: Tensor, v: Tensor, xs: Tensor) -> Tensor:
    """AttentionRNN(k), k = len(q) - 1: h[1..L]."""
    h = {}
    for t in range(1, len(xs) + 1):
        ws, vs = [], []
        for i in range(len(q)):
            past = h.get(t - i, torch.zeros_like(xs[0]))
            source = xs[t - 1] if i == 0 else past
            ws.append((q[i] @ source) @ (k[i] @ source))
            vs.append(v[i] @ source)
        a = torch.stack(ws).exp() / torch.stack(ws).exp().sum()
        h[t] = sum(a[i] * vs[i] for i in range(len(q)))
    return torch.stack(list(h.values()))


def windowed(q: Tensor, k: Tensor, v: Tensor, xs: Tensor) -> Tensor:
    """The same by `attend`, over a window of states that starts with zeros."""
    window, states = torch.zeros(len(q) - 1, xs.shape[1], dtype=xs.dtype), []
    for x in xs:
        states.append(attend(q, k, v, torch.cat([x[None], window])))
        window = torch.cat([states[-1][None], window])[:-1]
    return torch.stack(states)


# n, k, length
ATTENTIONS = [(3, 2, 6), (1, 1, 1), (1, 1, 4), (2, 5, 3), (4, 3, 7), (2, 1, 5)]


@checks("1.2.2(b)")
def check_attention_rnn(formula: Callable) -> None:
    for n, k, length in ATTENTIONS:
        point, xs = attention_point(n, k + 1), normal(length, n)
        assert_same(formula(*point, xs), windowed(*point, xs))


ROLES = {"none": lambda i: i, "by role": lambda i: min(i, 1), "full": lambda i: 0}


@boxed("1.2.2(c)")
def endless_attention_rnn(q: Tensor, k: Tensor, v: Tensor, xs: Tensor, role) -> Tensor:
    """AttentionRNN(infinity): slot i uses the matrices number role(i)."""
    h = {}
    for t in range(1, len(xs) + 1):
        ws, vs = [], []
        for i in range(t):
            source = xs[t - 1] if i == 0 else h[t - i]
            ws.append((q[role(i)] @ source) @ (k[role(i)] @ source))
            vs.append(v[role(i)] @ source)
        a = torch.stack(ws).exp() / torch.stack(ws).exp().sum()
        h[t] = sum(a[i] * vs[i] for i in range(t))
    return torch.stack(list(h.values()))


@checks("1.2.2(c)")
def check_endless_attention_rnn(formula: Callable) -> None:
    for n, _, length in ATTENTIONS:
        point, xs = attention_point(n, length), normal(length, n)
        for role in ROLES.values():
            past, index = xs[:0], [role(i) for i in range(length)]
            for t, x in enumerate(xs, start=1):
                used = (m[index[:t]] for m in point)
                state = attend(*used, torch.cat([x[None], past]))
                past = torch.cat([state[None], past])
            assert_same(formula(*point, xs, role), past.flip(0))


@boxed("1.2.2(c) count")
def matrices(length: int) -> dict[str, int]:
    return {"none": 3 * length, "by role": 6, "full": 3}


@checks("1.2.2(c) count")
def check_matrices(formula: Callable) -> None:
    """Counts the matrices without which the states would come out otherwise."""
    for length in (2, 3, 5):
        xs = normal(length, 2)
        for name, role in ROLES.items():
            point = torch.stack(attention_point(2, length + 1))
            by_matrix = jacobian(
                lambda p, xs=xs, role=role: endless_attention_rnn(*p, xs, role), point
            )
            used = by_matrix.abs().amax((0, 1, 4, 5)) > 0
            assert formula(length)[name] == used.sum()


def test_full_sharing_forgets_the_order() -> None:
    """1.2.2(c): past states in any order give one h[t]; vectors of position undo that."""
    n, slots = 4, 6
    shared = [m.expand(slots, n, n) for m in attention_point(n, 1)]
    own, sources, positions = (
        attention_point(n, slots),
        normal(slots, n),
        normal(slots, n),
    )
    shuffled = sources[[0, 3, 1, 5, 2, 4]]
    assert_same(attend(*shared, shuffled), attend(*shared, sources))
    for m, p in ((own, 0), (shared, positions)):
        assert (attend(*m, shuffled + p) - attend(*m, sources + p)).abs().max() > 1e-3


@boxed("1.2.2(d)")
def attention_by_state(q: Tensor, k: Tensor, v: Tensor, sources: Tensor) -> Tensor:
    """sources: x[t], h[t-1], h[t-2] -> the derivative of h[t] by h[t-1], (n, n)."""
    h1, n = sources[1][:, None], sources.shape[1]
    w = torch.stack([(q[i] @ s) @ (k[i] @ s) for i, s in enumerate(sources)])
    a = shares(w)
    h = sum(a[i] * v[i] @ sources[i] for i in range(3)).reshape(n, 1)
    return a[1] * (v[1] + (v[1] @ h1 - h) @ h1.T @ (q[1].T @ k[1] + k[1].T @ q[1]))


@checks("1.2.2(d)")
def check_attention_by_state(formula: Callable) -> None:
    for n in (1, 2, 3, 5):
        point, sources = attention_point(n, 3), normal(3, n)
        want = jacobian(partial(attend, *point), sources)[:, 1]
        assert_same(formula(*point, sources), want)


@boxed("1.2.2(e) local")
def attention_by_slot(
    q: Tensor, k: Tensor, v: Tensor, sources: Tensor, i: int
) -> Tensor:
    """The direct derivative of h[t] by h[t-i], slot i of x[t], h[t-1], ..., h[t-k]."""
    source, n = sources[i][:, None], sources.shape[1]
    h = attend(q, k, v, sources).reshape(n, 1)
    w = torch.stack([(a @ s) @ (b @ s) for a, b, s in zip(q, k, sources, strict=True)])
    a = w.exp() / w.exp().sum()
    form = q[i].T @ k[i] + k[i].T @ q[i]
    return a[i] * (v[i] + (v[i] @ source - h) @ source.T @ form)


@checks("1.2.2(e) local")
def check_attention_by_slot(formula: Callable) -> None:
    for n, k, _ in ATTENTIONS:
        point, sources = attention_point(n, k + 1), normal(k + 1, n)
        want = jacobian(partial(attend, *point), sources)
        for i in range(1, k + 1):
            assert_same(formula(*point, sources, i), want[:, i])


@boxed("1.2.2(e) total")
def total_by_state(k: int, last: int, direct: dict, total: dict, local: dict) -> dict:
    """Rows by h[T]: direct and total ones of the loss; local[t, T] of h[t] by h[T]."""
    return {
        T: direct[T]
        + sum(total[t] @ local[t, T] for t in range(T + 1, min(T + k, last) + 1))
        for T in range(1, last + 1)
    }


@boxed("1.2.2(e) direct")
def direct_by_state(k: int, last: int, direct: dict, reach: dict) -> dict:
    """reach[t, T] is the total derivative of h[t] by h[T], for every t from T on."""
    return {
        T: sum(direct[t] @ reach[t, T] for t in range(T, last + 1))
        for T in range(1, last + 1)
    }


def attention_derivatives(n: int, k: int, last: int) -> tuple[dict, dict, dict, dict]:
    """By autograd: direct and total rows of the loss, local and total of h[t] by h[T]."""
    point, xs, zero = attention_point(n, k + 1), normal(last, n), torch.zeros(last, n)

    def pushed(push: Tensor) -> Tensor:
        window, states = torch.zeros(k, n, dtype=push.dtype), []
        for x, p in zip(xs, push, strict=True):
            states.append(attend(*point, torch.cat([x[None], window])) + p)
            window = torch.cat([states[-1][None], window])[:-1]
        return torch.stack(states)

    steps, hs, r = range(1, last + 1), pushed(zero.double()), normal(last, n)
    by_state = jacobian(lambda s: loss_of_states(s, r), hs)
    by_push = jacobian(lambda p: loss_of_states(pushed(p), r), zero.double())
    states_by_push = jacobian(pushed, zero.double())
    direct = {t: by_state[t - 1][None] for t in steps}
    total = {t: by_push[t - 1][None] for t in steps}
    reach = {(t, T): states_by_push[t - 1, :, T - 1] for t in steps for T in steps}
    local = {}
    padded = torch.cat([torch.zeros(k, n, dtype=hs.dtype), hs])
    for t in steps:
        sources = torch.cat([xs[t - 1][None], padded[t - 1 : t - 1 + k].flip(0)])
        slots = jacobian(partial(attend, *point), sources)
        for T in steps:  # zero outside the window of k states before t
            inside = 1 <= t - T <= k
            local[t, T] = slots[:, t - T] if inside else torch.zeros_like(slots[:, 0])
    return direct, total, local, reach


def stacked(rows: dict, like: dict) -> Tensor:
    """The rows of all T below each other; an empty sum counts as a row of zeros."""
    return torch.cat([rows[T] + torch.zeros_like(row) for T, row in like.items()])


@checks("1.2.2(e) total")
def check_total_by_state(formula: Callable) -> None:
    for n, k, last in ATTENTIONS:
        direct, total, local, _ = attention_derivatives(n, k, last)
        got = formula(k, last, direct, total, local)
        assert_same(stacked(got, total), stacked(total, total))


@checks("1.2.2(e) direct")
def check_direct_by_state(formula: Callable) -> None:
    for n, k, last in ATTENTIONS:
        direct, total, _, reach = attention_derivatives(n, k, last)
        got = formula(k, last, direct, reach)
        assert_same(stacked(got, total), stacked(total, total))


def test_total_times_total_counts_paths_twice() -> None:
    """1.2.2(e): the mixture that the paper warns of is wrong as soon as paths join."""
    direct, total, _, reach = attention_derivatives(3, 2, 6)
    mixed = total_by_state(2, 6, direct, total, reach)
    assert (mixed[3] - total[3]).abs().max() > 1e-3 * total[3].abs().max()


# ---------------------------------------------------------------- 1.3 loss curves


@boxed("1.3(a)")
def rmsprop_step(lr: float, alpha: float, eps: float, v, k: int, g) -> Tensor:
    """The step at a gradient g that follows k steps without gradient."""
    return -lr * g / ((alpha ** (k + 1) * v + (1 - alpha) * g**2).sqrt() + eps)


@checks("1.3(a)")
def check_rmsprop_step(formula: Callable) -> None:
    lr, alpha, eps = 1e-3, 0.99, 1e-8
    for size, before, k in ((1, 1, 0), (1, 5, 1), (6, 20, 138), (6, 3, 700)):
        theta = torch.nn.Parameter(normal(size))
        optimizer = torch.optim.RMSprop([theta], lr=lr)
        for g in normal(before, size):
            theta.grad = g
            optimizer.step()
        v = optimizer.state[theta]["square_avg"].clone()
        theta.grad = torch.zeros(size, dtype=v.dtype)
        for _ in range(k):
            optimizer.step()
        with torch.no_grad():
            theta.zero_()  # so that nothing of the step is lost to rounding
        theta.grad = normal(size)
        optimizer.step()
        assert_same(theta.detach(), formula(lr, alpha, eps, v, k, theta.grad))
        assert (theta.abs() <= 10 * lr).all()  # the largest step, ten learning rates


@boxed("1.3(b)")
def confident_error(z: Tensor, y: int) -> Tensor:
    rivals = [j for j in range(1, len(z) + 1) if j != y]
    return (1 + sum((at(z, j) - at(z, y)).exp() for j in rivals)).log()


@checks("1.3(b)")
def check_confident_error(formula: Callable) -> None:
    for scale in (0.1, 1.0, 10.0):
        for y in range(1, 5):
            z = scale * normal(4)
            loss = F.cross_entropy(z[None], torch.tensor([y - 1]))
            assert_same(formula(z, y), loss)
            assert (
                loss >= (z - at(z, y)).max()
            )  # no smaller than the margin of the error


@boxed("1.3(c) loss")
def loss_by_logits(z: Tensor, y: int) -> tuple[Tensor, Tensor]:
    """Logits (T, 4) -> the loss at every step, and its derivative by each step's logits."""
    steps, classes = z.shape
    e = torch.zeros(classes, dtype=z.dtype)
    e[y - 1] = 1
    loss = sum(confident_error(at(z, t), y) for t in range(1, steps + 1)) / steps
    return loss, torch.stack([(F.softmax(row, 0) - e) / steps for row in z])


@checks("1.3(c) loss")
def check_loss_by_logits(formula: Callable) -> None:
    for steps in (1, 2, 7):
        z, y = normal(steps, 4), 3

        def every_step(z: Tensor, y=y) -> Tensor:
            """As the notebook takes it: logits (1, 4, T), labels (1, T)."""
            return F.cross_entropy(z.T[None], torch.full((1, len(z)), y - 1))

        loss, by_logits = formula(z, y)
        assert_same(loss, every_step(z))
        assert_same(by_logits, jacobian(every_step, z))


@boxed("1.3(c) step")
def adam_step(
    rate: float, betas: tuple, eps: float, t: int, m, v, k: int, g, limit: float
) -> Tensor:
    """Step t at a gradient g, clipped, that follows k steps without gradient."""
    b1, b2 = betas
    g = g * min(1.0, limit / (float(g.norm()) + 1e-6))
    mean = (b1 ** (k + 1) * m + (1 - b1) * g) / (1 - b1**t)
    square = (b2 ** (k + 1) * v + (1 - b2) * g**2) / (1 - b2**t)
    return -rate * mean / (square.sqrt() + eps)


@checks("1.3(c) step")
def check_adam_step(formula: Callable) -> None:
    rate, betas, eps = 1e-2, (0.9, 0.99), 1e-8
    for size, before, k, limit in ((1, 1, 0, 9.0), (1, 5, 1, 0.1), (6, 20, 138, 0.5)):
        theta = torch.nn.Parameter(normal(size))
        optimizer = torch.optim.Adam([theta], lr=rate, betas=betas)
        for g in normal(before, size):
            theta.grad = g
            optimizer.step()
        m, v = (
            optimizer.state[theta][key].clone() for key in ("exp_avg", "exp_avg_sq")
        )
        theta.grad = torch.zeros(size, dtype=v.dtype)
        for _ in range(k):
            optimizer.step()
        with torch.no_grad():
            theta.zero_()
        g = normal(size)
        theta.grad = g.clone()
        torch.nn.utils.clip_grad_norm_([theta], limit)
        optimizer.step()
        step = before + k + 1
        want = formula(rate, betas, eps, step, m, v, k, g, limit)
        assert_same(theta.detach(), want)
        if k > 100:  # the first moment is forgotten
            assert (theta.abs() < 1.001 * rate).all()


@boxed("1.3(d)")
def first_loss(z: Tensor) -> tuple[Tensor, float]:
    """Mean loss over four equally likely labels, and the chance of a hit."""
    return (z - z.mean()).exp().sum().log(), 1 / 4


@checks("1.3(d)")
def check_first_loss(formula: Callable) -> None:
    labels = torch.arange(4)
    for scale in (0.0, 0.1, 3.0):
        z = scale * normal(4)
        loss, accuracy = formula(z)
        logits = z.expand(4, 4)
        assert_same(loss, F.cross_entropy(logits, labels))
        assert accuracy == (logits.argmax(1) == labels).double().mean()
        assert loss >= math.log(4) * (1 - 1e-15)
    z = 0.01 * normal(4)  # the second-order term that the paper quotes
    assert math.isclose(
        formula(z)[0], math.log(4) + z.var(correction=0) / 2, abs_tol=1e-5
    )


def first_logits(seed: int) -> Tensor:
    """Logits of Section 8's untrained network for 64 sequences with distractors only."""
    torch.manual_seed(seed)
    lstm, linear = torch.nn.LSTM(8, 12, batch_first=True), torch.nn.Linear(12, 4)
    draw = np.random.RandomState(0)
    symbols = draw.randint(2, 6, (64, 81))
    symbols[:, 0], symbols[:, -1] = 6, 7
    symbols[:, 15], symbols[:, 50] = draw.randint(0, 2, (2, 64))
    with torch.no_grad():
        states, _ = lstm(F.one_hot(torch.tensor(symbols), 8).float())
        return linear(states[:, -1]).double()


def test_first_loss_of_the_untrained_network() -> None:
    """The figures of 1.3(d) which need no training."""
    logits = first_logits(1)
    assert (logits.std(0) < 0.02).all()
    shares = F.softmax(logits, 1).mean(0)
    assert (shares - torch.tensor([0.17, 0.30, 0.23, 0.31])).abs().max() < 0.01
    assert abs(first_loss(logits.mean(0))[0] - 1.42) < 0.01
    losses = [float(first_loss(first_logits(s).mean(0))[0]) for s in range(1, 101)]
    assert abs(np.mean(losses) - 1.40) < 0.01


NOTEBOOK = "seq_classification.ipynb"
needs_notebook = pytest.mark.skipif(
    not (ROOT / NOTEBOOK).is_file(), reason=f"{NOTEBOOK} is missing"
)


@needs_notebook
def test_first_batch() -> None:
    """1.3(d): 15 of class Q among 32, and 1.53 nats, from the notebook's definitions."""
    course = load_definitions(NOTEBOOK)
    torch.manual_seed(1)
    for _ in range(
        2
    ):  # train and test generators, of which the second restarts the draws
        generator = course.QRSU.get_predefined_generator(course.MODERATE, 32, 8382)
    model = course.SimpleLSTM(8, 12, 4)
    x, label = (torch.as_tensor(part) for part in generator[0])
    label = label.argmax(1)
    with torch.no_grad():
        loss = F.cross_entropy(model(x.float())[:, -1], label)
    assert label.bincount()[0] == 15
    assert abs(loss - 1.53) < 0.005


def numbers(line: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)?", line)]


@needs_notebook
def test_figures_of_1_3_stand_in_the_notebook() -> None:
    r"""Each number in \seen{} is one that the notebook prints, rounded.

    Those of a table's row must stand together in a line of the notebook's.
    """
    cells = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    texts = [out.get("text", []) for cell in cells for out in cell.get("outputs", [])]
    lines = [numbers(line) for line in "\n".join(map("".join, texts)).splitlines()]
    everything = [number for line in lines for number in line]

    def within(printed: list[float], seen: list[str]) -> bool:
        half = [0.5001 * 10 ** -len(n.partition(".")[2]) for n in seen]
        pairs = list(zip(seen, half, strict=True))
        return all(any(abs(p - float(n)) <= h for p in printed) for n, h in pairs)

    for line in TEX.split(r"\begin{document}")[1].splitlines():
        seen = re.findall(r"\\seen{(.*?)}", line)
        places = lines if line.endswith(r"\\") else [everything]
        assert any(within(place, seen) for place in places), line


def test_curves_of_1_3_have_the_spikes_of_the_table() -> None:
    """The figure's curves rise above their lowest value so far as the table says."""
    for curve, row in (("course", "as in the course"), ("ours", "our procedure &")):
        points = re.search(rf"coordinates {{([^}}]*)}}; % curve {curve}\n", TEX)[1]
        loss = np.array([float(p) for p in re.findall(r",([^)]+)\)", points)])
        spike = (loss - np.minimum.accumulate(loss)).max()
        told = re.search(rf"{row}.*\n", TEX)[0]
        told = float(re.findall(r"seen{(.*?)}", told)[1])
        assert len(loss) == 100
        assert abs(spike - told) < 0.006


# ---------------------------------------------------------------- boxes and checks


def box_labels(tex: str) -> list[str]:
    """Labels of the formulas in answer boxes; every box holds one at least."""
    boxes = re.findall(r"\\begin{answer}{(.*?)}(.*?)\\end{answer}", tex, re.DOTALL)
    labels = []
    for name, body in boxes:
        found = re.findall(r"\\formula{(.*?)}", body)
        assert found, f"the box {name} holds no labelled formula"
        assert all(label.split(" ")[0] == name for label in found), (name, found)
        labels += found
    return labels


def unmatched(tex: str, checked: dict) -> set[str]:
    """Labels that have a box and no check, or a check and no box."""
    return set(box_labels(tex)) ^ set(checked)


def test_every_box_has_a_check_and_every_check_a_box() -> None:
    labels = box_labels(TEX)
    assert len(labels) == len(set(labels)), "a label stands in two boxes"
    assert unmatched(TEX, FORMULAS) == set()
    assert unmatched(TEX, CHECKERS) == set()
    assert len(re.findall(r"\\formula{", TEX)) == len(labels), "a label outside a box"


def test_a_missing_check_or_box_is_noticed() -> None:
    fewer = {label: f for label, f in CHECKERS.items() if label != "1.1(c)(iii)"}
    assert unmatched(TEX, fewer) == {"1.1(c)(iii)"}
    assert unmatched(TEX, CHECKERS | {"1.9": None}) == {"1.9"}
    extra = TEX + "\\begin{answer}{9.9}\\formula{9.9}\\end{answer}"
    assert unmatched(extra, CHECKERS) == {"9.9"}
    with pytest.raises(AssertionError, match="holds no labelled formula"):
        box_labels("\\begin{answer}{9.9}words\\end{answer}")


QUESTIONS = [
    *["1.1(a)", "1.1(b)", "1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)"],
    *[f"1.2.{part}({letter})" for part in (1, 2) for letter in "abcde"],
    *[f"1.3({letter})" for letter in "abcd"],
]


def test_every_question_has_an_answer() -> None:
    assert re.findall(r"\\question{(.*?)}", TEX) == QUESTIONS
    assert re.findall(r"\\begin{answer}{(.*?)}", TEX) == QUESTIONS


@pytest.mark.parametrize("label", FORMULAS)
def test_formula(label: str) -> None:
    torch.manual_seed(0)
    CHECKERS[label](FORMULAS[label])


def planted(formula: Callable, right: str, wrong: str) -> Callable:
    """The formula with one piece of its source replaced."""
    source = inspect.getsource(formula)
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times"
    scope = dict(globals(), boxed=lambda label: lambda function: function)
    exec(source.replace(right, wrong), scope)  # noqa: S102
    return scope[formula.__name__]


# label, a piece of its formula, what stands there by mistake
PLANTED = [
    ("1.1(a)", "(26 + 2 * 1 - 4)", "(26 + 1 - 4)"),
    ("1.1(b)", "- 1) // s", ") // s"),
    ("1.1(b)", "+ 2 * p", "+ p"),
    ("1.1(b)", "d * (kernel - 1)", "d * kernel"),
    ("1.1(c)(i)", "2 * j - 2 + k", "2 * j - 1 + k - (2 * j - 1 + k) // length"),
    ("1.1(c)(i)", "c, k)", "c, kernel + 1 - k)"),
    ("1.1(c)(ii)", "2 * j - 2 + k", "j - 1 + k"),
    ("1.1(c)(ii)", "= at", "= -at"),
    ("1.1(c)(ii)", "return d", "return d.transpose(2, 3)"),
    ("1.1(c)(iii)", "1 <= n - 2 * j + 2 <= kernel", "1 <= n - 2 * j + 2 < kernel"),
    ("1.1(c)(iii)", "c, n - 2 * j + 2)", "c, kernel + 1 - (n - 2 * j + 2))"),
    ("1.1(c)(iii)", "return d", "return d.transpose(2, 3)"),
    ("1.1(c)(iv)", "2 * j - 2 + k", "j - 1 + k"),
    ("1.1(c)(iv)", "2 * j - 2 + k", "2 * j - 1 + kernel - k"),
    ("1.1(c)(iv)", "+= at", "-= at"),
    ("1.1(c)(iv)", "return d", "return d.transpose(0, 1)"),
    ("1.2.1(a)", '"keep": lambda c, h: c * h', '"keep": lambda c, h: (1 - c) * h'),
    ("1.2.1(a)", 'wires("cell")', '[e for e in wires("cell") if e != ("Wh", "sum")]'),
    ("1.2.1(b)", "(m,)", "(n,)"),
    ("1.2.1(c) gate", 'weights["h"]', 'weights["h"].T'),
    ("1.2.1(c) gate", "c * (1 - c)", "c * (c - 1)"),
    ("1.2.1(c) state", "(h - v)", "(v - h)"),
    ("1.2.1(c) state", "torch.diag(c) +", "torch.diag(1 - c) +"),
    ("1.2.1(c) state", 'weights["h"]', 'weights["h"].T'),
    ("1.2.1(d) local", "1 - at(c, i)", "at(c, i)"),
    ("1.2.1(d) local", "return d", "return d.permute(0, 2, 1)"),
    ("1.2.1(d) total", "1 - c", "c"),
    ("1.2.1(d) total", "return d", "return d.T"),
    ("1.2.1(d) total", "range(1, len(xs) + 1)", "range(1, len(xs))"),
    ("1.2.1(d) direct", "total[0] @ j", "total[0] @ j.T"),
    ("1.2.1(d) direct", "+ total[0]", "- total[0]"),
    ("1.2.1(d) direct", "xs[t], hs[t])", "xs[t - 1], hs[t - 1])"),
    ("1.2.1(d) direct", "direct[t - 1] + total[0]", "direct[t - 1] + direct[t]"),
    ("1.2.1(e) state", "cs[s:t]", "cs[s - 1 : t]"),
    ("1.2.1(e) state", "(1 - cs[s - 1])", "cs[s - 1]"),
    ("1.2.1(e) step", "c * (h - v)", "(h - v)"),
    ("1.2.1(e) step", "(h - v)", "(h + v)"),
    ("1.2.1(e) budget", "(vs[1:] - vs[:-1])", "(vs[2:] - vs[1:-1])"),
    ("1.2.2(a)", "w.exp() /", "(-w).exp() /"),
    ("1.2.2(b)", "h.get(t - i", "h.get(t - i - 1"),
    ("1.2.2(b)", "(k[i] @ source)", "(source @ k[i])"),
    ("1.2.2(c)", "h[t - i]", "h[i]"),
    ("1.2.2(c)", "k[role(i)]", "k[role(max(i - 1, 0))]"),
    ("1.2.2(c) count", "3 * length", "3 * (length + 1)"),
    ("1.2.2(c) count", '"by role": 6', '"by role": 3'),
    ("1.2.2(d)", "- h)", "+ h)"),
    ("1.2.2(d)", "+ k[1].T @ q[1]", "+ k[1] @ q[1].T"),
    ("1.2.2(d)", " + k[1].T @ q[1]", ""),
    ("1.2.2(d)", "(v[1] @ h1 - h) @ h1.T", "h1 @ (v[1] @ h1 - h).T"),
    ("1.2.2(e) local", "- h)", ")"),
    ("1.2.2(e) local", "a[i] * (v[i] +", "a[i] * (v[i].T +"),
    ("1.2.2(e) total", "min(T + k, last) + 1", "min(T + k, last)"),
    ("1.2.2(e) total", "direct[T]\n", "0 * direct[T]\n"),
    ("1.2.2(e) total", "local[t, T]", "local[t, T].T"),
    ("1.2.2(e) direct", "range(T, last + 1)", "range(T + 1, last + 1)"),
    ("1.2.2(e) direct", "range(T, last + 1)", "range(T, min(T + k, last) + 1)"),
    ("1.3(a)", "(k + 1)", "k"),
    ("1.3(a)", "-lr", "lr"),
    ("1.3(b)", "at(z, j) - at(z, y)", "at(z, y) - at(z, j)"),
    ("1.3(c) loss", "- e)", "+ e)"),
    ("1.3(c) loss", " / steps for row", " for row"),
    ("1.3(c) step", "(k + 1) * v", "k * v"),
    ("1.3(c) step", "(1 - b1**t)", "1"),
    ("1.3(c) step", "min(1.0,", "max(1.0,"),
    ("1.3(d)", "(z - z.mean())", "(z + z.mean())"),
]


@pytest.mark.parametrize(("label", "right", "wrong"), PLANTED)
def test_a_planted_error_is_caught(label: str, right: str, wrong: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        CHECKERS[label](planted(FORMULAS[label], right, wrong))


def test_every_formula_has_a_planted_error() -> None:
    assert {label for label, _, _ in PLANTED} == set(FORMULAS)


def test_paper_is_whole_and_its_text_can_be_found() -> None:
    """The committed PDF: A4, 6 to 12 pages, embedded fonts, every label findable."""
    reader = pypdf.PdfReader(ROOT / "hw2_theory.pdf")
    assert 6 <= len(reader.pages) <= 12
    text = "".join(page.extract_text() for page in reader.pages)
    text = re.sub(r"\s+", "", text)
    for label in [f"Answer{q}." for q in QUESTIONS] + [f"[{f}]" for f in FORMULAS]:
        assert label.replace(" ", "") in text, label
    for page in reader.pages:
        assert [round(side) for side in page.mediabox[2:]] == [595, 842]
        for font in page["/Resources"]["/Font"].values():
            assert "/FontFile" in font["/FontDescriptor"]
