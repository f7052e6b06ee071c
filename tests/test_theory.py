r"""The answers of hw2_theory.tex: its own LaTeX, evaluated and compared with PyTorch.

A function under `@box(question)` yields values for the symbols of that answer box, at random
points of several sizes: what the question gives, and each derivative by autograd, under its
LaTeX name. Every equation, bound and dimension of the box must hold at these points, and
must fail with any of the `ERRORS` planted in its LaTeX.
"""

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import notebooks
import numpy as np
import pypdf
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_definitions
from latex import Statement, UnknownSymbol, entry, evaluate, same, statements, tokens
from torch import Tensor
from torch.autograd.functional import jacobian

TEX = (ROOT / "hw2_theory.tex").read_text(encoding="utf-8")
BOXES = dict(re.findall(r"\\begin{answer}{(.*?)}(.*?)\\end{answer}", TEX, re.DOTALL))
QUESTIONS = [
    *["1.1(a)", "1.1(b)", "1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)"],
    *[f"1.2.{part}({letter})" for part in (1, 2) for letter in "abcde"],
    *[f"1.3({letter})" for letter in "abcd"],
]
POINTS: dict[str, Callable[[], list[dict]]] = {}


def box(*questions: str) -> Callable:
    """Registers the values at which the statements of these boxes must hold."""

    def register(points: Callable) -> None:
        @functools.cache
        def drawn() -> list[dict]:
            torch.manual_seed(0)
            return list(points())

        POINTS.update(dict.fromkeys(questions, drawn))

    return register


def check(question: str, s: Statement) -> None:
    """Asserts that a statement of a box holds at each of its points, and a bound nearly.

    A point may have: `false`, texts that must not hold there; `skip`, tags of formulas that
    are not meant there; `tight`, tags of bounds that are attained there.
    """
    slack = []
    for values in POINTS[question]():
        if s.tag and s.tag in values.get("skip", ()):
            continue
        if s.text in values.get("false", ()):
            with pytest.raises(AssertionError):
                s.check(values)
            continue
        with contextlib.suppress(UnknownSymbol):  # meant for points of another kind
            found = s.check(values)
            slack += found
            tight = s.tag in values.get("tight", ())
            assert not tight or np.max(found) < 1e-3, f"a loose bound: {s.text}"
    assert slack, f"never evaluated: {s.text}"
    least = np.min(slack, axis=0).max()
    assert least < (0.3 if s.tag == "budget" else 0.01), f"a loose bound: {s.text}"


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def reversed_axes(derivative: Tensor, numerator_axes: int) -> np.ndarray:
    """autograd's axes in the paper's order: the denominator's axes reversed."""
    axes = list(range(derivative.dim()))
    order = axes[:numerator_axes] + axes[numerator_axes:][::-1]
    return derivative.permute(order).numpy()


def columns(vectors, first: int = 1) -> Callable:
    """Step -> column (n, 1); a step that is not there is an error."""
    found = {i: np.asarray(v).reshape(-1, 1) for i, v in enumerate(vectors, first)}

    def column(step: int) -> np.ndarray:
        assert step in found, f"no step {step}"
        return found[step]

    return column


def one_to(last: int) -> range:
    return range(1, last + 1)


# ---------------------------------------------------------------- 1.1 convolution


@box("1.1(a)")
def image() -> Iterator[dict]:
    """The printed recipe for other sizes of the image, in place of the question's numbers."""
    for rows, cols in ((19, 26), (20, 25), (7, 4)):
        x, w = normal(1, 1, rows, cols), normal(1, 1, 4, 4)
        out = F.conv2d(x, w, stride=2, padding=1)[0, 0].numpy()
        sizes = {"19": rows, "26": cols, "9": out.shape[0], "13": out.shape[1]}
        parts = {"8.5": (rows - 2) / 2, "12": (cols - 2) // 2}
        yield sizes | parts | {r"\text{output}": out}


@box("1.1(b)")
def images() -> Iterator[dict]:
    names, draw = ["H", "W", "H_K", "W_K", "S", "D", "P"], np.random.RandomState(0)
    for _ in range(150):
        sizes = draw.randint(1, [12, 12, 6, 6, 5, 5, 5]).tolist()
        h, w, h_k, w_k, s, d, p = sizes
        given = dict(zip(names, sizes, strict=True)) | {"P": p - 1, "F": 3}
        layer = partial(F.conv2d, stride=s, padding=p - 1, dilation=d)
        spare = {"H": h + 2 * p - 3 - d * (h_k - 1), "W": w + 2 * p - 3 - d * (w_k - 1)}
        arguments = normal(1, 2, h, w), normal(3, 2, h_k, w_k)
        if min(spare.values()) >= 0:
            out = layer(*arguments)[0].numpy()
            _, given[r"H_\text{out}"], given[r"W_\text{out}"] = out.shape
            yield given | {r"\text{output}": out}
        else:
            with pytest.raises(RuntimeError, match="Kernel size"):
                layer(*arguments)
            fits = r"D ( H _ K - 1 ) + 1 \le H + 2 P"
            short = [fits.replace("H", a) for a, rest in spare.items() if rest < 0]
            yield given | {"false": short}


def strided(x: Tensor, w: Tensor) -> Tensor:
    """PyTorch's layer: x (channel, position), w (1, channel, k) -> (1, position)."""
    return F.conv1d(x[None], w, stride=2)[0]


def convolution(channels: int, length: int) -> dict:
    """The printed numbers 7, 11 and 5 stand for channels, length and outputs."""
    x, w = normal(channels, length), normal(1, channels, 3)
    f = strided(x, w)
    r, (by_x, by_w) = normal(*f.shape), jacobian(strided, (x, w))
    by_f = jacobian(lambda f: (f.sin() * r).sum(), f)
    by_loss = jacobian(lambda w: (strided(x, w).sin() * r).sum(), w)
    sizes = {"7": channels, "11": length, "5": f.shape[1], "3": 3}
    orders = {"1.1(c)(ii)": (by_w, 2), "1.1(c)(iii)": (by_x, 2)}
    given = sizes | dict(zip("cnjk", map(one_to, sizes.values()), strict=True))
    return given | {
        "x": columns(x.T),
        "W": w.numpy(),
        "f_W": lambda x: f.numpy(),
        r"\pd{f_W(x)}{W}": reversed_axes(by_w, 2),
        r"\pd{f_W(x)}{x}": reversed_axes(by_x, 2),
        r"\pd{\ell}{f_W(x)}": reversed_axes(by_f, 0),
        r"\pd{\ell}{W}": reversed_axes(by_loss, 0),
        "orders": orders | {"1.1(c)(iv)": (by_loss, 0)},
    }


box("1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)")(
    lambda: itertools.starmap(convolution, ((7, 11), (1, 3), (2, 4), (3, 10)))
)


@pytest.mark.parametrize(
    ("question", "tag"),
    [*((f"1.1(c)({part})", "") for part in ("ii", "iii", "iv")), ("1.2.1(d)", "local")],
)
def test_both_orders_of_the_axes(question: str, tag: str) -> None:
    """The stated dimension, and where each entry stands."""
    equations = [s for s in statements(BOXES[question]) if s.relations == ["="]]
    formula = next(s for s in equations if s.tag == tag)
    stated = re.findall(r"\\axes{.*?}{(.*?)}{(.*?)}{.*?}", BOXES[question])
    for values in POINTS[question]():
        values = values | {"t": 1}
        usual, numerator = values["orders"][question]
        arrays = usual.numpy(), reversed_axes(usual, numerator)
        for (size, index), array in zip(stated, arrays, strict=True):
            assert evaluate(size, values, "shape") == array.shape
            cases = [(evaluate(index, c, "listed"), c) for c in formula.cases(values)]
            assert len({tuple(place) for place, _ in cases}) == array.size
            assert all(same(entry(array, p), formula.sides[1](c)) for p, c in cases)


# ---------------------------------------------------------------- 1.2.1 the gated RNN

Weights = dict[str, Tensor]  # "c", "h", "x"


def gate(weights: Weights, x: Tensor, h: Tensor) -> Tensor:
    """Equation (1) of the question."""
    return torch.sigmoid(weights["c"] @ x + weights["h"] @ h)


def step(weights: Weights, x: Tensor, h: Tensor) -> Tensor:
    """Equation (2) of the question."""
    c = gate(weights, x, h)
    return c * h + (1 - c) * (weights["x"] @ x)


def run(weights: Weights, xs: Tensor, h: Tensor, pushes=None) -> Tensor:
    """States (1 + steps, m) from h on, each moved by its push; later ones follow."""
    states = [h]
    for x, push in zip(xs, [0] * len(xs) if pushes is None else pushes, strict=True):
        states.append(step(weights, x, states[-1]) + push)
    return torch.stack(states)


SEQUENCES = [(3, 4, 5), (1, 1, 2), (1, 3, 2), (4, 1, 3), (2, 2, 2)]  # n, m, K


def draw(n: int, m: int, steps: int, scale: float = 1.0) -> tuple[Weights, Tensor]:
    """Weights, and inputs (steps, n)."""
    weights = {"c": normal(m, n), "h": scale * normal(m, m), "x": normal(m, n)}
    return weights, normal(steps, n)


def rnn(weights: Weights, xs: Tensor) -> dict:
    """Values of a run over the inputs, and the derivatives of its states."""
    (m, n), last = weights["x"].shape, len(xs)
    hs = run(weights, xs, torch.zeros(m, dtype=xs.dtype))
    cs = torch.stack([gate(weights, x, h) for x, h in zip(xs, hs[:-1], strict=True)])
    vs, row_sums = xs @ weights["x"].T, weights["h"].abs().sum(1)
    rho = cs * (hs[:-1] - vs).abs() * row_sums

    @functools.cache
    def state_by_state(t: int, s: int) -> np.ndarray:
        assert 0 <= s <= t <= last
        return jacobian(lambda h: run(weights, xs[s:t], h)[-1], hs[s]).numpy()

    def gate_by_state(t: int, s: int) -> np.ndarray:
        assert s == t - 1
        return jacobian(partial(gate, weights, xs[s]), hs[s]).numpy()

    given = {rf"\mW_{name}": weight.numpy() for name, weight in weights.items()}
    given |= {"n": n, "m": m, "K": last} | dict.fromkeys("tTs", one_to(last))
    given |= dict.fromkeys("ija", one_to(m)) | {"b": one_to(n)}
    given |= {r"\vx": columns(xs), r"\vh": columns(hs, 0), r"\vc": columns(cs)}
    given |= {r"\vv": columns([0 * vs[0], *vs], 0), r"\vu": columns(hs[:-1] - vs)}
    given |= {r"\gamma": cs.max().item()}
    given |= {r"\kappa": rho.max().item()} if rho.max() < 1 else {}
    rhos = columns(rho)
    return given | {
        r"\vone": np.ones((m, 1)),
        r"\bm0": np.zeros((m, 1)),
        r"\pd{\vh}{\vh}": state_by_state,
        r"\pd{\vc}{\vh}": gate_by_state,
        r"\mJ": lambda t: state_by_state(t, t - 1),
        "r": lambda i: row_sums[i - 1].item(),
        r"\rho": lambda i, t: entry(rhos(t), [i]),
    }


box("1.2.1(a)", "1.2.1(b)", "1.2.1(c)")(lambda: (rnn(*draw(*s)) for s in SEQUENCES))


def loss_of(states: Tensor, r: Tensor) -> Tensor:
    """A loss in which every state stands by itself and beside the others."""
    return (states.sin() * r).sum() + states.prod(0).sum() + (states**2).sum().cos()


def rows(derivatives: Tensor) -> Callable:
    return lambda t: derivatives[t - 1 : t].numpy()


def rnn_with_loss(n: int, m: int, last: int) -> dict:
    weights, xs = draw(n, m, last)
    r, start, w_x = normal(last, m), torch.zeros(m, dtype=xs.dtype), weights["x"]
    hs = run(weights, xs, start)

    def states(w: Tensor, pushes: Tensor) -> Tensor:
        return run(weights | {"x": w}, xs, start, pushes)

    def each_step(w: Tensor) -> Tensor:
        pairs = zip(xs, hs[:-1], strict=True)
        return torch.stack([step(weights | {"x": w}, *pair) for pair in pairs])

    direct = jacobian(lambda states: loss_of(states, r), hs[1:])
    by_loss, total = jacobian(lambda w, p: loss_of(states(w, p)[1:], r), (w_x, 0 * r))
    by_weight, own = jacobian(states, (w_x, 0 * r))[0], jacobian(each_step, w_x)
    return rnn(weights, xs) | {
        r"\pd{\ell}{\vh}": rows(total),
        r"\dd{\ell}{\vh}": rows(direct),
        r"\pd{\ell}{\mW_x}": reversed_axes(by_loss, 0),
        r"\pd{\vh}{\mW_x}": lambda t: reversed_axes(by_weight[t], 1),
        r"\dd{\vh}{\mW_x}": lambda t: reversed_axes(own[t - 1], 1),
        "t": range(1, last),  # the sweep's
        "orders": {"1.2.1(d)": (own[0], 1)},
    }


box("1.2.1(d)")(lambda: itertools.starmap(rnn_with_loss, SEQUENCES))


@box("1.2.1(e)")
def products() -> Iterator[dict]:
    for scale, sizes in itertools.product((0.1, 1.0, 4.0), SEQUENCES):
        yield rnn(*draw(*sizes, scale))
    long = rnn(*held_gate([10.0] * 230, -2.0, 0.99))
    yield long | {"T": range(230, 231), "t": one_to(1)}
    yield rnn(*held_gate([1.0, -2.0, 3.0], 1.0, 1e-4)) | {"tight": {"convex"}}
    yield rnn(*held_gate([-2.0], 1.5, 0.3)) | {"tight": {"step"}}
    for w in (0.3, 1.117, 1.119, -1.117, -1.119, 3.0):  # sqrt(5) / 2 = 1.118
        values = rnn(*held_gate([2.0, *[-3.0, 3.0] * 3], w, 0.5))
        vectors = ((name, values[rf"\v{name}"]) for name in "hcv")
        scalars = {name: lambda t, f=f: f(t).item() for name, f in vectors}
        scalars |= {r"\pd{h}{h}": values[r"\pd{\vh}{\vh}"], "W_h": w}
        explodes = r"\abs { W _ h } > \frac { 1 } { 2 } \sqrt 5"
        scalars |= {"false": {explodes} if abs(w) < 1.118 else ()}
        yield scalars | {"t": range(2, 6)}
        del scalars["v"]  # another at the first step
        yield scalars | {"t": one_to(1)}


def held_gate(candidates: list[float], w_h: float, c: float) -> tuple[Weights, Tensor]:
    """One unit; inputs (gate, candidate) hold the gate at c: W_c x = -W_h h for one half."""
    h, xs = 0.0, []
    for v in candidates:
        xs.append([math.log(c / (1 - c)) - w_h * h, v])
        h = c * h + (1 - c) * v
    weights = {"c": [[1.0, 0.0]], "h": [[w_h]], "x": [[0.0, 1.0]]}
    to = partial(torch.tensor, dtype=torch.float64)
    return {name: to(weight) for name, weight in weights.items()}, to(xs)


def wires(picture: str) -> set[tuple[str, str]]:
    """(from, to) of every wire of a labelled TikZ picture."""
    drawn = TEX.split(f"% picture: {picture}\n")[1].split(r"\end{tikzpicture}")[0]
    draws = re.findall(r"\\draw\[wire.*?;", drawn, re.DOTALL)
    ends = [re.findall(r"\((\w+(?:\\\w)?)(?:\.\w+)?\)", wire) for wire in draws]
    return {(nodes[0], nodes[-1]) for nodes in ends}


@pytest.mark.parametrize("cut", [None, ("Wh", "sum"), ("x", "Wx"), ("c", "oneminus")])
def test_diagram_computes_the_state(cut: tuple | None) -> None:
    """Sends values along the wires of Figure 1, node by node; without a wire it fails."""
    edges = wires("cell") - {cut}
    assert {("h", "delay"), ("delay", "hp")} < edges
    weights, xs = draw(3, 4, 1)
    values = {"x": xs[0], "hp": normal(4)}
    want = step(weights, values["x"], values["hp"])
    node = {f"W{k}": partial(torch.mv, weight) for k, weight in weights.items()}
    node |= dict.fromkeys(["c", "h"], lambda s: s) | {"sigma": torch.sigmoid}
    node |= dict.fromkeys(["sum", "add"], torch.add) | {"oneminus": lambda c: 1 - c}
    node |= dict.fromkeys(["keep", "write"], torch.mul)
    for _, (name, function) in itertools.product(node, node.items()):
        sources = [start for start, end in edges if end == name]
        enough = len(sources) == 1 + (function in (torch.add, torch.mul))
        if enough and all(start in values for start in sources):
            values[name] = function(*(values[start] for start in sources))
    assert ("h" in values and torch.allclose(values["h"], want)) == (cut is None)


def test_backward_diagram_mirrors_the_forward_one() -> None:
    forward, backward = wires("unrolled"), wires("backward")
    assert len(forward) == 10
    assert backward - {(r"loss\t", r"h\t")} == {(end, start) for start, end in forward}


REGIMES = {  # scale of W_h, bias of the gate, input held; bounds of the norm after 60 steps
    "vanishing": (0.1, 0.0, False, 0, 1e-7),
    "about constant": (0.1, 9.0, False, 1, 1.1),
    "exploding": (3.0, 0.0, False, 1e3, math.inf),
    "exploding, input held": (3.0, 0.0, True, 0, 1e3),
}


def gradient_norms(
    scale: float, bias: float, held: bool, seed: int
) -> tuple[list[float], list[float]]:
    """Largest row sums of the derivative of h[T] by h[0], T = 0..60, and of its factors.

    32 units, 8 inputs.
    """
    uniform = np.random.RandomState(seed).uniform
    w_h, w_c = uniform(-scale, scale, (32, 32)), uniform(-1, 1, (32, 8))
    w_x, xs = uniform(-2, 2, (32, 8)), uniform(-1, 1, (60, 8))
    xs[:, -1], w_c[:, -1] = 1, bias
    h, products, factors = np.zeros(32), [np.eye(32)], []
    for x in xs[[0] * 60] if held else xs:
        c, v = 1 / (1 + np.exp(-w_c @ x - w_h @ h)), w_x @ x
        factors.append(np.diag(c) + np.diag((h - v) * c * (1 - c)) @ w_h)
        products.append(factors[-1] @ products[-1])
        h = c * h + (1 - c) * v
    row_sums = lambda matrices: [np.abs(matrix).sum(1).max() for matrix in matrices]
    return row_sums(products), row_sums(factors)


@pytest.mark.parametrize("regime", REGIMES)
def test_figure_of_gradient_norms(regime: str) -> None:
    """The printed points are the medians of 20 draws; what is said of all draws holds."""
    *point, least, most = REGIMES[regime]
    plot = re.search(rf"coordinates {{([^}}]*)}}; % {regime}\n", TEX)[1]
    steps, printed = zip(*re.findall(r"\(([^,]+),([^)]+)\)", plot), strict=True)
    draws = [gradient_norms(*point, seed) for seed in range(20)]
    norms, factors = (np.array(found) for found in zip(*draws, strict=True))
    assert [int(t) for t in steps] == list(range(0, 61, 5))
    median = np.median(norms, 0)[::5]
    assert np.allclose([float(norm) for norm in printed], median, rtol=5.01e-3, atol=0)
    assert np.all((least < norms[:, -1]) & (norms[:, -1] < most))
    assert regime != "vanishing" or factors.min() > 1


# ---------------------------------------------------------------- 1.2.2 attention RNN


def attend(matrices: Tensor, slots: Tensor) -> tuple[Tensor, ...]:
    """Equations (3) to (8): matrices (3, slots, n, n), slots (slots, n) -> qkv, w, a, h."""
    qkv = torch.einsum("miab,ib->mia", matrices, slots)
    scores = (qkv[0] * qkv[1]).sum(1)
    shares = F.softmax(scores, 0)
    return qkv, scores, shares, shares @ qkv[2]


class Attention:
    """h[1..L] over xs (L, n), with matrices (3, sets, n, n); slot i uses set role(i).

    Slots are x[t], h[t-1], ..., h[t-k] with zeros before the start; every past state, and
    no zeros, where k is None.
    """

    def __init__(self, n: int, k: int | None, last: int, role: Callable = lambda i: i):
        self.k, self.role, self.xs = k, role, normal(last, n)
        self.matrices = normal(3, last if k is None else k + 1, n, n) / n
        self.hs = self.states(self.matrices, 0 * self.xs)

    def slots(self, hs: Tensor, t: int) -> Tensor:
        past = hs[: t - 1].flip(0)
        if self.k is not None:
            past = torch.cat([past, 0 * self.xs[:1].expand(self.k, -1)])[: self.k]
        return torch.cat([self.xs[t - 1][None], past])

    def attend(self, matrices: Tensor, slots: Tensor) -> tuple[Tensor, ...]:
        return attend(matrices[:, [self.role(i) for i in range(len(slots))]], slots)

    def states(self, matrices: Tensor, pushes: Tensor) -> Tensor:
        hs = self.xs[:0]
        for t, push in enumerate(pushes, start=1):
            state = self.attend(matrices, self.slots(hs, t))[-1] + push
            hs = torch.cat([hs, state[None]])
        return hs

    def count(self) -> int:
        """The number of matrices that the states depend on."""
        states = lambda matrices: self.states(matrices, 0 * self.xs)
        by_matrix = jacobian(states, self.matrices).abs().amax((0, 1, 4, 5))
        return int((by_matrix > 0).sum())

    def values(self) -> dict:
        """What the question's equations name, at every step t and slot i."""
        n, steps = self.xs.shape[1], one_to(len(self.xs))
        slots = {t: self.slots(self.hs, t) for t in steps}
        found = {t: self.attend(self.matrices, slots[t]) for t in steps}
        before = [0 * self.xs[0]] * (self.k or 0)  # h[1-k], ..., h[0]
        given = {"n": n, "k": self.k, "L": len(steps), "t": steps, r"\mI": np.eye(n)}
        given |= {"i": range((self.k or 0) + 1), "j": one_to(self.k or 0)}
        return given | {
            r"\mQ": lambda i: self.matrices[0, i].numpy(),
            r"\mK": lambda i: self.matrices[1, i].numpy(),
            r"\mV": lambda i: self.matrices[2, i].numpy(),
            r"\vs": lambda i, t: columns(slots[t], 0)(i),
            r"\vq": lambda i, t: columns(found[t][0][0], 0)(i),
            r"\vk": lambda i, t: columns(found[t][0][1], 0)(i),
            r"\vv": lambda i, t: columns(found[t][0][2], 0)(i),
            "w": lambda i, t: columns(found[t][1], 0)(i).item(),
            "a": lambda i, t: columns(found[t][2], 0)(i).item(),
            r"\va": columns(a for _, _, a, _ in found.values()),
            r"\vx": columns(self.xs),
            r"\vh": columns([*before, *self.hs], 1 - len(before)),
            r"\phi": self.role,
        }

    def derivatives(self, reads: Tensor) -> dict:
        """By autograd; the loss reads the states for which `reads` is true."""
        r, zero = normal(*self.xs.shape)[reads], 0 * self.xs
        states = partial(self.states, self.matrices)
        loss = lambda hs: loss_of(hs[reads], r)
        reach = jacobian(states, zero)

        @functools.cache
        def local(t: int, s: int) -> np.ndarray:
            if not 1 <= t - s <= self.k:
                return np.eye(self.xs.shape[1]) * (t == s)
            state = lambda slots: attend(self.matrices, slots)[-1]
            return jacobian(state, self.slots(self.hs, t))[:, t - s].numpy()

        return self.values() | {
            r"\dd{\ell}{\vh}": rows(jacobian(loss, self.hs)),
            r"\pd{\ell}{\vh}": rows(jacobian(lambda p: loss(states(p)), zero)),
            r"\pd{\vh}{\vh}": lambda t, s: reach[t - 1, :, s - 1].numpy(),
            r"\dd{\vh}{\vh}": local,
            "T": one_to(len(self.xs)),
            "i": one_to(self.k),
        }


SIZES = [(3, 2, 6), (1, 1, 1), (1, 1, 4), (2, 5, 3), (4, 3, 7), (2, 1, 5)]  # n, k, L
box("1.2.2(a)")(lambda: (Attention(n, 2, 4).values() for n in (1, 2, 5)))
box("1.2.2(b)")(lambda: (Attention(*sizes).values() for sizes in SIZES))


@box("1.2.2(d)")
def by_last_state() -> Iterator[dict]:
    for n in (1, 2, 3, 5):
        yield Attention(n, 2, 5).derivatives(torch.arange(5) >= 0) | {"t": range(2, 6)}


SHARING = {  # a row of 1.2.2(c): slot -> set of matrices, length -> number of matrices
    r"none & $i$ & $3t$, without bound": (lambda i: i, lambda t: 3 * t),
    r"by all past states & $\min(i,1)$ & $6$": (lambda i: min(i, 1), lambda _: 6),
    r"by all slots & $0$ & $3$": (lambda _: 0, lambda _: 3),
}


@box("1.2.2(c)")
def all_past_states() -> Iterator[dict]:
    for (role, _), (n, _, last) in itertools.product(SHARING.values(), SIZES):
        values = Attention(n, None, last, role).values()
        for t in one_to(last):
            yield values | {"t": t, "i": range(t), "j": range(1, t)}


def test_number_of_matrices() -> None:
    """Counts those that the states depend on. The words of the two boxes are pinned."""
    assert "There are $3(k+1)$ matrices." in BOXES["1.2.2(b)"]
    assert Attention(2, 3, 6).count() == 3 * (3 + 1)
    for row, (role, count) in SHARING.items():
        assert row in BOXES["1.2.2(c)"]
        assert all(Attention(2, None, t, role).count() == count(t) for t in (2, 3, 5))


@box("1.2.2(e)")
def by_any_state() -> Iterator[dict]:
    """All T with a loss that reads every state; early ones with one that reads late states."""
    reads_it, too_late = r"\dd { \ell } { \vh [ T ] } = 0", r"T + k \le L"
    for n, k, last in SIZES:
        early, late = one_to(last - k), range(max(1, last - k + 1), last + 1)
        network = Attention(n, k, last)
        general = network.derivatives(torch.arange(last) >= 0) | {"skip": {"key"}}
        yield general | {"T": late, "false": {reads_it, too_late}}
        if early:
            yield general | {"T": early, "false": {reads_it}}
            yield network.derivatives(torch.arange(last) >= last - k) | {"T": early}


# ---------------------------------------------------------------- 1.3 loss curves


def last_step(
    make: Callable, gradients: Iterable, **options
) -> tuple[dict, np.ndarray]:
    """The optimizer's state after these gradients, and its last step, weight by weight."""
    theta = torch.nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = make([theta], **options)
    for g in gradients:
        theta.data.zero_()  # so that nothing of the step is lost to rounding
        theta.grad = g.clone()
        optimizer.step()
    return optimizer.state[theta], theta.detach().numpy()


@box("1.3(a)")
def rmsprop() -> Iterator[dict]:
    given = {r"\eta": 1e-3, r"\alpha": 0.99, r"\epsilon": 1e-8}
    for before, size in ((1, 1.0), (5, 1.0), (20, 1.0), (3, 1e4)):
        past, g = normal(before, 6), size * normal(6)
        v = last_step(torch.optim.RMSprop, past, lr=1e-3)[0]["square_avg"]
        _, moves = last_step(torch.optim.RMSprop, [*past, g], lr=1e-3)
        for named in zip(v.tolist(), g.tolist(), moves.tolist(), strict=True):
            yield given | dict(zip(("v", "g", r"\Delta"), named, strict=True))


def cross_entropy(z: np.ndarray, y: int) -> float:
    return F.cross_entropy(torch.tensor(z).T, torch.tensor([y - 1])).item()


@box("1.3(b)", "1.3(d)")
def logits() -> Iterator[dict]:
    for scale in (0.0, 0.1, 0.2, 1.0, 30.0):
        signs = np.array([[1.0], [-1.0], [-1.0], [1.0]])
        z = 0.3 + scale * (signs if scale < 1 else normal(4, 1).numpy())
        right = z.argmax() == np.arange(4)  # each label once
        yield {
            r"\ell": cross_entropy,
            r"\vz": z,
            r"\barz": z.mean(),
            "s": z.std(),
            "y": one_to(4),
            "j": one_to(4),
            r"\text{accuracy}": right.mean(),
            "skip": {"small"} if scale >= 1 else {},
        }


def test_untrained_network_gives_nearly_one_answer() -> None:
    """1.3(d): for seed 1 the logits of a batch vary by less than 0.02, and no gate is shut."""
    course = load_definitions("seq_classification.ipynb")
    torch.manual_seed(1)
    generator = course.QRSU.get_predefined_generator(course.MODERATE, 32, 8382)
    model = course.SimpleLSTM(8, 12, 4)
    with torch.no_grad():
        x, lstm = torch.as_tensor(generator[0][0]).float(), model.lstm
        before = F.pad(lstm(x)[0], (0, 0, 1, -1))  # h[t-1]
        by_x = F.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0)
        by_h = F.linear(before, lstm.weight_hh_l0, lstm.bias_hh_l0)
        into, forget, _, out = (by_x + by_h).sigmoid().chunk(4, -1)
        assert model(x)[:, -1].std(0).max() < 0.02
    gates = torch.cat([into, forget, out])
    assert gates.min() > 0.25 and gates.max() < 0.75


def test_figures_of_1_3_stand_in_the_notebook() -> None:
    r"""Each number in \seen{} is one that the notebook prints, rounded.

    Those of a table's row must stand together in a line of the notebook's.
    """
    cells = notebooks.code_cells(notebooks.read(ROOT / "seq_classification.ipynb"))
    texts = [notebooks.text_of(output) for cell in cells for output in cell["outputs"]]
    number = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?")
    printed = [number.findall(line) for line in "\n".join(texts).splitlines()]
    for line in TEX.split(r"\begin{document}")[1].splitlines():
        seen = re.findall(r"\\seen{(.*?)}", line)
        near = [
            {n for n in seen for p in row if rounds_to(float(p), n)} for row in printed
        ]
        row = line.endswith((r"\\", "% row"))
        places = near if row else [set().union(*near)]
        assert set(seen) in places, line


def rounds_to(value: float, told: str) -> bool:
    return abs(value - float(told)) <= 0.5001 * 10 ** -len(told.partition(".")[2])


# ---------------------------------------------------------------- boxes and tests


def test_every_question_has_a_box_and_an_answer_at_a_glance() -> None:
    assert re.findall(r"\\question{(.*?)}", TEX) == QUESTIONS
    assert list(BOXES) == QUESTIONS == list(dict.fromkeys(QUESTIONS))
    assert re.findall(r"\n\\glance{(.*?)}", TEX) == QUESTIONS
    assert set(POINTS) == set(QUESTIONS) - {"1.3(c)"}  # words, no formula
    assert not statements(BOXES["1.3(c)"])


@pytest.mark.parametrize("question", QUESTIONS)
def test_answer_at_a_glance_stands_in_the_box(question: str) -> None:
    """Each formula of the table on page 1, token for token."""
    row = TEX.split(f"\n\\glance{{{question}}}")[1].split("\n\\")[0]
    whole = re.sub(r"\\axes{.*?}{(.*?)}{(.*?)}", r"\1 [\2]", BOXES[question])
    for formula in re.findall(r"\$(.*?)\$", row, re.DOTALL):
        assert " ".join(tokens(formula)) in " ".join(tokens(whole)), formula


@pytest.mark.parametrize("question", QUESTIONS)
def test_box(question: str) -> None:
    for statement in statements(BOXES[question]):
        check(question, statement)


ERRORS = [  # a piece of LaTeX, tokens apart by blanks, and what stands there by mistake
    (r"(?<=[^ ] )\+ ", "- "),  # a sign
    (r"(?<=[^ ] )- ", "+ "),
    (r"(?<=[={(\]] )- ", ""),
    (r"\\T ", ""),  # a transpose less, or more
    (r"((?:\\m[JQKV] _ [1i]|\\mW _ [chx]|\\mJ \[ t \])) ", r"\1 \\T "),
    (r"\b(\d+)(?= )", lambda m: str(int(m[1]) + 1)),  # index, factor, limit, size
    (r"\[ ([a-zT]) \]", r"[ \1 - 1 ]"),
    (r"\[ ([a-zT]) \]", r"[ \1 + 1 ]"),
    (r"\b([nmk]) \\times ([nm])\b", r"\2 + 1 \\times \1"),  # a dimension
    (r"\\R \^ { (\w) }", r"\\R ^ { \1 + 1 }"),
    (r"_ { i j }", "_ { j i }"),
    (r"\\dd ", r"\\pd "),  # direct or total
    (r"\\pd (?={ \\(?:ell } { \\(?:vh|mW)|vh \[ t \] } { \\mW))", r"\\dd "),
    (r"^(.*?\\le) (?!.*\\le)", r"\1 10 "),  # ten times looser, or tighter
    (r"^(.*?\\ge) (?!\d)", r"\1 2 "),
    (r"\\odot \\vc \[ t \] ", ""),  # a missing factor or term
    (r"\\v(one|c \[ t \]) - ", ""),
    (r"\+ (?:\\m\w _ \w \\T \\m\w _ \w|e \^ { w _ \w \[ t \] }) ", ""),
    (r"\\v([qkv]) _", lambda m: rf"\v{'kvq'['qkv'.index(m[1])]} _"),  # a wrong symbol
]
SAME = re.compile(  # edits that leave a true sentence
    r"(.*) = \1(?: = .*)?|\\sum .* a _ i \[ t . 1 \] = 1|c \[ t . 1 \] = .*|[hv] .* { t - 1 }"
    r"|\\ln \\norm .*(?:\[ T - 1 \]|\\vh \[ 1 \]) .*"
)


def edits(statement: Statement) -> set[str]:
    """Its text with one error at one place; of a dimension, on the right side only."""
    text, found = f"{statement.text} ", set()
    fixed = text.find(r"\in ") if r"\in" in statement.relations else 0
    for pattern, wrong in ERRORS:
        for place in re.finditer(pattern, text):
            put = wrong(place) if callable(wrong) else place.expand(wrong)
            if place.start() >= fixed:
                found.add((text[: place.start()] + put + text[place.end() :]).strip())
    return {edit for edit in found if not SAME.fullmatch(edit)} - {statement.text}


@pytest.mark.parametrize("question", QUESTIONS)
def test_planted_errors_are_caught(question: str) -> None:
    unnoticed = []
    caught = dict.fromkeys((s.tag for s in statements(BOXES[question])), 0)
    for statement in statements(BOXES[question]):
        for text in sorted(edits(statement)):
            try:
                check(question, Statement(text.split(" "), statement.tag))
                unnoticed.append(text)
            except SyntaxError:
                pass  # an edit that is no formula
            except AssertionError:
                caught[statement.tag] += 1
    assert not unnoticed, "\n".join(unnoticed)
    assert min(caught.values(), default=2) > 1, f"too few errors: {caught}"


def test_paper_is_whole_and_its_text_can_be_found() -> None:
    """The committed PDF: A4, 8 to 11 pages, embedded fonts, every answer findable."""
    reader = pypdf.PdfReader(ROOT / "hw2_theory.pdf")
    assert 8 <= len(reader.pages) <= 11
    text = "".join(page.extract_text() for page in reader.pages)
    text = re.sub(r"\s+", "", text)
    for question in QUESTIONS:
        assert f"Answer{question}." in text, question
    for page in reader.pages:
        assert [round(side) for side in page.mediabox[2:]] == [595, 842]
        for font in page["/Resources"]["/Font"].values():
            assert "/FontFile" in font["/FontDescriptor"]
