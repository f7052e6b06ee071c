r"""The answers of hw2_theory.tex: its own LaTeX, evaluated and compared with PyTorch.

A function under `@box(question)` yields values for the symbols of that answer box, at random
points of several sizes: what the question gives, and each derivative by autograd, under its
LaTeX name. Every equation, bound and dimension of the box must hold at these points.
`PLANTED` lists edits of the LaTeX that must fail.
"""

import contextlib
import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial

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
POINTS: dict[str, Callable[[], list[dict]]] = {}
ALSO: dict[
    str, Callable[[str, str], None]
] = {}  # what a box says beside its statements


def box(*questions: str) -> Callable:
    """Registers the values at which the statements of these boxes must hold."""

    def register(points: Callable) -> Callable:
        @functools.cache
        def drawn() -> list[dict]:
            torch.manual_seed(0)
            return list(points())

        POINTS.update(dict.fromkeys(questions, drawn))
        return points

    return register


def also(*questions: str) -> Callable:
    return lambda check: ALSO.update(dict.fromkeys(questions, check))


def check(question: str, s: Statement) -> None:
    """Asserts that a statement of a box holds at each of its points, and a bound nearly.

    A point may have: `false`, texts that must not hold there; `where`, by tag the condition
    under which a formula is meant; `skip`, tags that are not meant; `tight`, tags of bounds
    that are attained there.
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
            if s.tag in values.get("tight", ()):
                assert max(found, default=0) < 1e-3, f"a loose bound: {s.text}"
    assert slack, f"never evaluated: {s.text}"
    assert min(slack) < (0.3 if s.tag == "budget" else 0.01), f"a loose bound: {s.text}"


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def layout(derivative: Tensor, numerator_axes: int) -> np.ndarray:
    """autograd's axes in the paper's order: the denominator's axes reversed."""
    axes = list(range(derivative.dim()))
    order = axes[:numerator_axes] + axes[numerator_axes:][::-1]
    return derivative.permute(order).numpy()


def columns(vectors, first: int = 1) -> Callable:
    """Step -> column (n, 1); a step that is not there is an error."""
    arrays = [np.asarray(vector).reshape(-1, 1) for vector in vectors]

    def column(step: int) -> np.ndarray:
        assert 0 <= step - first < len(arrays), f"no step {step}"
        return arrays[step - first]

    return column


def one_to(last: int) -> range:
    return range(1, last + 1)


# ---------------------------------------------------------------- 1.1 convolution


@box("1.1(a)")
def image() -> Iterator[dict]:
    """Other sizes of the image in place of the question's numbers, by the printed recipe."""
    for rows, cols in ((19, 26), (20, 25), (7, 4)):
        out = F.conv2d(
            normal(1, 1, rows, cols), normal(1, 1, 4, 4), stride=2, padding=1
        )
        shape = tuple(out.shape[2:])
        halves = {"8.5": (rows - 2) / 2, "12": (cols - 2) // 2}
        sizes = {"19": rows, "26": cols, "9": shape[0], "13": shape[1]}
        yield {**sizes, **halves, r"\text{output}": out[0, 0]}


@box("1.1(b)")
def images() -> Iterator[dict]:
    draw = np.random.RandomState(0)
    for _ in range(150):
        h, w, h_k, w_k, p, s, d = map(int, draw.randint(*zip(*SIZES, strict=True)))
        given = {"H": h, "W": w, "H_K": h_k, "W_K": w_k, "P": p, "S": s, "D": d, "F": 3}
        layer = partial(F.conv2d, stride=s, padding=p, dilation=d)
        fits = (d * (h_k - 1) < h + 2 * p, d * (w_k - 1) < w + 2 * p)
        x, weight = normal(1, 2, h, w), normal(3, 2, h_k, w_k)
        if all(fits):
            out = layer(x, weight)[0].numpy()
            _, given[r"H_\text{out}"], given[r"W_\text{out}"] = out.shape
            yield given | {r"\text{output}": out}
        else:
            with pytest.raises(RuntimeError, match="Kernel size"):
                layer(x, weight)
            texts = (rf"D ( {a} _ K - 1 ) + 1 \le {a} + 2 P" for a in "HW")
            yield given | {"false": {t for t, fit in zip(texts, fits) if not fit}}


SIZES = [
    (1, 12),
    (1, 12),
    (1, 6),
    (1, 6),
    (0, 4),
    (1, 5),
    (1, 5),
]  # H, W, ..., dilation


def strided(x: Tensor, w: Tensor) -> Tensor:
    """PyTorch's layer: x (channel, position), w (1, channel, k) -> (1, position)."""
    return F.conv1d(x[None], w, stride=2)[0]


# channels, length: the question's first. Its numbers 7, 11 and 5 stand for these.
@box("1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)")
def convolutions() -> Iterator[dict]:
    for channels, length in ((7, 11), (1, 3), (2, 4), (3, 10)):
        x, w = normal(channels, length), normal(1, channels, 3)
        f = strided(x, w)
        r = normal(*f.shape)
        by_f = jacobian(lambda f, r=r: (f.sin() * r).sum(), f)
        by_loss = jacobian(lambda w, x=x, r=r: (strided(x, w).sin() * r).sum(), w)
        by_w, by_x = jacobian(strided, (x, w))[::-1]
        yield {
            "7": channels,
            "11": length,
            "5": f.shape[1],
            "j": one_to(f.shape[1]),
            "n": one_to(length),
            "c": one_to(channels),
            "k": one_to(3),
            "x": columns(x.T),
            "W": w.numpy(),
            "f_W": lambda x, f=f: f.numpy(),
            r"\pd{f_W(x)}{W}": layout(by_w, 2),
            r"\pd{f_W(x)}{x}": layout(by_x, 2),
            r"\pd{\ell}{f_W(x)}": layout(by_f, 0),
            r"\pd{\ell}{W}": layout(by_loss, 0),
            "orders": {
                "1.1(c)(ii)": (by_w.numpy(), layout(by_w, 2)),
                "1.1(c)(iii)": (by_x.numpy(), layout(by_x, 2)),
                "1.1(c)(iv)": (by_loss.numpy(), layout(by_loss, 0)),
            },
        }


@also("1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)")
def check_axes(question: str, text: str) -> None:
    """Both stated orders of the axes: the dimension, and where each entry stands."""
    formula = next(s for s in statements(text) if s.relations == ["="])
    stated = re.findall(r"\\axes{.*?}{(.*?)}{(.*?)}{.*?}", text)
    for values in POINTS[question]():
        for (size, index), array in zip(
            stated, values["orders"][question], strict=True
        ):
            assert evaluate(size, values, "shape") == array.shape
            visited = set()
            for case in formula.cases(values):
                indices = tuple(evaluate(index, case, "listed"))
                assert same(entry(array, indices), formula.sides[1](case))
                visited.add(indices)
            assert len(visited) == array.size


# ---------------------------------------------------------------- 1.2.1 the gated RNN

Weights = dict[str, Tensor]  # "c", "h", "x"


def gate(weights: Weights, x: Tensor, h: Tensor) -> Tensor:
    """Equation (1) of the question."""
    return torch.sigmoid(weights["c"] @ x + weights["h"] @ h)


def step(weights: Weights, x: Tensor, h: Tensor) -> Tensor:
    """Equation (2) of the question."""
    c = gate(weights, x, h)
    return c * h + (1 - c) * (weights["x"] @ x)


def run(weights: Weights, xs: Tensor, h: Tensor) -> list[Tensor]:
    """The states from h on: one more than there are inputs."""
    states = [h]
    for x in xs:
        states.append(step(weights, x, states[-1]))
    return states


def draw(n: int, m: int, steps: int) -> tuple[Weights, Tensor]:
    """Weights, and inputs (steps, n)."""
    return {"c": normal(m, n), "h": normal(m, m), "x": normal(m, n)}, normal(steps, n)


def rnn(weights: Weights, xs: Tensor) -> dict:
    """Values of a run over the inputs; derivatives of states by automatic differentiation."""
    (m, n), last = weights["x"].shape, len(xs)
    hs = run(weights, xs, torch.zeros(m, dtype=xs.dtype))
    cs = [gate(weights, x, h) for x, h in zip(xs, hs, strict=False)]
    vs = xs @ weights["x"].T
    us = torch.stack(hs[:-1]) - vs

    @functools.cache
    def state_by_state(t: int, s: int) -> np.ndarray:
        assert 0 <= s <= t <= last
        return jacobian(lambda h: run(weights, xs[s:t], h)[-1], hs[s]).numpy()

    def gate_by_state(t: int, s: int) -> np.ndarray:
        assert s == t - 1
        return jacobian(partial(gate, weights, xs[s]), hs[s]).numpy()

    def row_sum(i: int) -> float:
        return float(weights["h"].abs().sum(1)[i - 1])

    return {
        "n": n,
        "m": m,
        "K": last,
        r"\vone": np.ones((m, 1)),
        r"\bm0": np.zeros((m, 1)),
        **{rf"\mW_{name}": weight.numpy() for name, weight in weights.items()},
        r"\vx": columns(xs),
        r"\vh": columns(hs, 0),
        r"\vc": columns(cs),
        r"\vv": columns([0 * vs[0], *vs], 0),
        r"\vu": columns(us),
        r"\pd{\vh}{\vh}": state_by_state,
        r"\pd{\vc}{\vh}": gate_by_state,
        r"\mJ": lambda t: state_by_state(t, t - 1),
        r"\mW_h": weights["h"].numpy(),
        r"r": row_sum,
        r"\rho": lambda i, t: (
            float(cs[t - 1][i - 1] * us[t - 1][i - 1].abs()) * row_sum(i)
        ),
        "t": one_to(last),
        "T": one_to(last),
        "s": one_to(last),
        "i": one_to(m),
        "j": one_to(m),
        "a": one_to(m),
        "b": one_to(n),
    }


SEQUENCES = [(3, 4, 5), (1, 1, 2), (1, 3, 2), (4, 1, 3), (2, 2, 2)]  # n, m, K


@box("1.2.1(a)", "1.2.1(b)", "1.2.1(c)")
def runs() -> Iterator[dict]:
    for sizes in SEQUENCES:
        yield rnn(*draw(*sizes))


def loss_of_states(states: Tensor, r: Tensor) -> Tensor:
    """A loss in which every state stands by itself and beside the others."""
    return (states.sin() * r).sum() + states.prod(0).sum() + (states**2).sum().cos()


def pushed(one_step: Callable, start: Tensor, xs: Tensor, pushes: Tensor) -> Tensor:
    """States (steps, m), each moved by its push; later states follow the move."""
    states = [start]
    for x, push in zip(xs, pushes, strict=True):
        states.append(one_step(x, states[-1]) + push)
    return torch.stack(states[1:])


@box("1.2.1(d)")
def losses() -> Iterator[dict]:
    for sizes in SEQUENCES:
        weights, xs = draw(*sizes)
        start, last = torch.zeros(sizes[1], dtype=xs.dtype), len(xs)
        hs, r = run(weights, xs, start), normal(last, sizes[1])

        def states_of(w: Tensor, weights=weights, xs=xs, start=start) -> Tensor:
            return torch.stack(run(weights | {"x": w}, xs, start))

        def loss_of_pushes(pushes: Tensor, weights=weights, xs=xs, start=start, r=r):
            return loss_of_states(pushed(partial(step, weights), start, xs, pushes), r)

        by_weight = jacobian(states_of, weights["x"])  # (K + 1, m, m, n)
        by_loss = jacobian(
            lambda w, f=states_of, r=r: loss_of_states(f(w)[1:], r), weights["x"]
        )
        own = [
            jacobian(
                lambda w, u=weights, x=x, h=h: step(u | {"x": w}, x, h), weights["x"]
            )
            for x, h in zip(xs, hs, strict=False)
        ]
        direct = jacobian(partial(loss_of_states, r=r), torch.stack(hs[1:])).numpy()
        total = jacobian(loss_of_pushes, torch.zeros_like(r)).numpy()
        yield rnn(weights, xs) | {
            r"\pd{\ell}{\vh}": lambda t, rows=total: rows[t - 1 : t],
            r"\dd{\ell}{\vh}": lambda t, rows=direct: rows[t - 1 : t],
            r"\pd{\ell}{\mW_x}": layout(by_loss, 0),
            r"\pd{\vh}{\mW_x}": lambda t, d=by_weight: layout(d[t], 1),
            r"\dd{\vh}{\mW_x}": lambda t, d=own: layout(d[t - 1], 1),
            "t": range(1, last),  # the sweep's
        }


@box("1.2.1(e)")
def products() -> Iterator[dict]:
    for scale, sizes in itertools.product((0.1, 1.0, 4.0), SEQUENCES):
        weights, xs = draw(*sizes)
        yield rnn(weights | {"h": scale * weights["h"]}, xs)
    yield rnn(*held_gate([10.0] * 230, -2.0, 0.99)) | {
        "T": range(230, 231),
        "t": one_to(1),
    }
    yield rnn(*held_gate([1.0, -2.0, 3.0], 1.0, 1e-4)) | {"tight": {"state"}}
    yield rnn(*held_gate([-2.0], 1.5, 0.3)) | {"tight": {"step"}}
    for w in (0.3, 1.117, 1.119, -1.117, -1.119, 3.0):  # sqrt(5) / 2 = 1.118
        steps = [2.0, -3.0, 3.0, -3.0, 3.0, -3.0, 3.0]
        values = rnn(*held_gate(steps, w, 0.5))
        plain = {name[2:]: values[name] for name in (r"\vh", r"\vc", r"\vv")}
        assert np.allclose(values[r"\mW_c"] @ values[r"\vx"](3), -w * plain["h"](2))
        scalars = {k: lambda t, f=f: f(t).item() for k, f in plain.items()}
        derivative = {r"\pd{h}{h}": values[r"\pd{\vh}{\vh}"]}
        yield scalars | derivative | {"W_h": w, "t": range(2, 6)}


def held_gate(candidates: list[float], w_h: float, c: float) -> tuple[Weights, Tensor]:
    """One unit; inputs (gate, candidate) that hold the gate at c, as `W_c x = -W_h h + ...`."""
    h, xs = 0.0, []
    for v in candidates:
        xs.append([math.log(c / (1 - c)) - w_h * h, v])
        h = c * h + (1 - c) * v
    weights = {"c": [[1.0, 0.0]], "h": [[w_h]], "x": [[0.0, 1.0]]}
    to = partial(torch.tensor, dtype=torch.float64)
    return {name: to(weight) for name, weight in weights.items()}, to(xs)


def test_the_construction_explodes() -> None:
    """1.2.1(e): sixty steps multiply as often as the two of the box say."""
    for w in (0.5, 1.0, 1.2, 2.0):
        values = rnn(*held_gate([2.0, *[-3.0, 3.0] * 30], w, 0.5))
        derivative = values[r"\pd{\vh}{\vh}"](61, 1).item()
        assert math.isclose(abs(derivative), abs(0.25 - w**2) ** 30, rel_tol=1e-9)
        assert (abs(derivative) > 1) == (w > math.sqrt(5) / 2)


def wires(picture: str) -> set[tuple[str, str]]:
    """(from, to) of every wire of a labelled TikZ picture."""
    found = re.search(
        rf"% picture: {picture}\n(.*?)\\end{{tikzpicture}}", TEX, re.DOTALL
    )
    draws = re.findall(r"\\draw\[wire.*?;", found[1], re.DOTALL)
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


# ---------------------------------------------------------------- the figure of 1.2.1(e)

REGIMES = {  # scale of W_h, bias of the gate, input held; bounds of the norm after 60 steps
    "vanishing": (0.1, 0.0, False, 0, 1e-7),
    "about constant": (0.1, 9.0, False, 1, 1.1),
    "exploding": (3.0, 0.0, False, 1e3, math.inf),
    "exploding, input held": (3.0, 0.0, True, 0, 1e3),
}


def gradient_norms(scale: float, bias: float, fixed: bool, seed: int) -> np.ndarray:
    """Largest row sum of the derivative of h[T] by h[0], T = 0..60, by the box's formula."""
    draw, m, n, last = np.random.RandomState(seed), 32, 8, 60
    w_h = draw.uniform(-scale, scale, (m, m))
    w_c, w_x = draw.uniform(-1, 1, (m, n)), draw.uniform(-2, 2, (m, n))
    xs = draw.uniform(-1, 1, (last, n))
    xs[:, -1], w_c[:, -1] = 1, bias
    h, product, norms = np.zeros(m), np.eye(m), [1.0]
    for x in xs[[0] * last] if fixed else xs:
        c, v = 1 / (1 + np.exp(-w_c @ x - w_h @ h)), w_x @ x
        product = (np.diag(c) + np.diag((h - v) * c * (1 - c)) @ w_h) @ product
        h = c * h + (1 - c) * v
        norms.append(np.abs(product).sum(1).max())
    return np.array(norms)


@pytest.mark.parametrize("regime", REGIMES)
def test_figure_of_gradient_norms(regime: str) -> None:
    """The printed points are the recomputed ones; the caption's bounds hold in 20 draws."""
    *point, least, most = REGIMES[regime]
    plot = re.search(rf"coordinates {{([^}}]*)}}; % {regime}\n", TEX)[1]
    points = [tuple(map(float, p)) for p in re.findall(r"\(([^,]+),([^)]+)\)", plot)]
    draws = [gradient_norms(*point, seed) for seed in range(20)]
    assert [t for t, _ in points] == list(range(0, 61, 5))
    assert np.allclose([norm for _, norm in points], draws[0][::5], rtol=5.01e-3)
    assert all(least < norms[-1] < most for norms in draws)


# ---------------------------------------------------------------- 1.2.2 attention RNN


def attend(q: Tensor, k: Tensor, v: Tensor, sources: Tensor) -> Tensor:
    """All slots at once: matrices (slots, n, n), sources (slots, n) -> h[t]."""
    project = partial(torch.einsum, "iab,ib->ia")
    scores = (project(q, sources) * project(k, sources)).sum(1)
    return F.softmax(scores, 0) @ project(v, sources)


def slots_of(xs: Tensor, hs: Tensor, t: int, k: int | None) -> Tensor:
    """x[t], h[t-1], ..., h[t-k], with zeros before the start; every past state for None."""
    past = hs[: t - 1].flip(0)
    if k is not None:
        past = torch.cat([past, torch.zeros(k, xs.shape[1], dtype=xs.dtype)])[:k]
    return torch.cat([xs[t - 1][None], past])


def attention(matrices: Tensor, xs: Tensor, k: int | None, role: Callable, pushes=0.0):
    """h[1..L]: matrices (3, sets, n, n), slot i uses set role(i)."""
    hs, pushes = xs[:0], pushes + torch.zeros_like(xs)
    for t, push in enumerate(pushes, start=1):
        sources = slots_of(xs, hs, t, k)
        used = matrices[:, [role(i) for i in range(len(sources))]]
        hs = torch.cat([hs, (attend(*used, sources) + push)[None]])
    return hs


def attention_values(
    matrices: Tensor, xs: Tensor, k: int | None, role: Callable
) -> dict:
    """The quantities of the question's equations (3) to (8), at every step."""
    hs = attention(matrices, xs, k, role)

    @functools.cache
    def at(name: str, i: int, t: int) -> np.ndarray:
        sources = slots_of(xs, hs, t, k)
        assert 0 <= i < len(sources)
        if name == "s":
            return sources[i][:, None].numpy()
        used = matrices["qkv".index(name), role(i)]
        return (used @ sources[i])[:, None].numpy()

    def score(i: int, t: int) -> float:
        return float((at("q", i, t) * at("k", i, t)).sum())

    def shares(t: int) -> np.ndarray:
        scores = [score(i, t) for i in range(t if k is None else k + 1)]
        return F.softmax(torch.tensor(scores, dtype=xs.dtype), 0)[:, None].numpy()

    def state(t: int) -> np.ndarray:
        assert k is not None or t >= 1
        return hs[t - 1][:, None].numpy() if t >= 1 else np.zeros((xs.shape[1], 1))

    return {
        **{rf"\v{name}": partial(at, name) for name in "sqkv"},
        **{f"\\m{n}": lambda i, m=m: m[i].numpy() for n, m in zip("QKV", matrices)},
        "w": score,
        r"\va": shares,
        "a": lambda i, t: shares(t)[i].item(),
        r"\vx": columns(xs),
        r"\vh": state,
        r"\mI": np.eye(xs.shape[1]),
        "n": xs.shape[1],
        "L": len(xs),
        "t": one_to(len(xs)),
    }


ATTENTIONS = [
    (3, 2, 6),
    (1, 1, 1),
    (1, 1, 4),
    (2, 5, 3),
    (4, 3, 7),
    (2, 1, 5),
]  # n, k, L


def own(i: int) -> int:
    return i


def window(n: int, k: int, last: int) -> dict:
    values = attention_values(normal(3, k + 1, n, n) / n, normal(last, n), k, own)
    return values | {"k": k, "i": range(k + 1), "j": one_to(k)}


@box("1.2.2(a)")
def three_slots() -> Iterator[dict]:
    for n in (1, 2, 5):
        yield window(n, 2, 4)


@box("1.2.2(b)")
def windows() -> Iterator[dict]:
    for n, k, last in ATTENTIONS:
        yield window(n, k, last)


def sharing(text: str) -> list[tuple[Callable, Callable]]:
    """The rows of 1.2.2(c): slot -> set of matrices, and the number of matrices."""
    rows = re.findall(r"& \$(.*?)\$ & \$(.*?)\$", text)
    assert len(rows) == 3
    return [
        (
            lambda i, r=role: evaluate(r, {"i": i}),
            lambda t, c=count: evaluate(c, {"t": t}),
        )
        for role, count in rows
    ]


@box("1.2.2(c)")
def all_past_states() -> Iterator[dict]:
    for role, _ in sharing(BOXES["1.2.2(c)"]):
        for n, _, last in ATTENTIONS:
            values = attention_values(
                normal(3, last, n, n) / n, normal(last, n), None, role
            )
            for t in one_to(last):
                slots = {"i": range(t), "j": range(1, t), r"\phi": role}
                yield values | slots | {"t": t}


def count_matrices(last: int, k: int | None, role: Callable) -> int:
    """How many of the matrices the states of a sequence depend on."""
    states = partial(attention, xs=normal(last, 2), k=k, role=role)
    by_matrix = jacobian(states, normal(3, last, 2, 2)).abs().amax((0, 1, 4, 5))
    return int((by_matrix > 0).sum())


@also("1.2.2(b)")
def check_number_of_matrices(_: str, text: str) -> None:
    count = re.search(r"There are \$(.*?)\$ matrices", text)[1]
    assert evaluate(count, {"k": 2}) == count_matrices(5, 2, own)


@also("1.2.2(c)")
def check_sharing(_: str, text: str) -> None:
    roles = sharing(text)
    for last, (role, count) in itertools.product((2, 3, 5), roles):
        assert count(last) == count_matrices(last, None, role)
    for i in range(1, 5):  # as the words beside them say
        assert [role(i) for role, _ in roles] == [i, 1, 0]
    assert [role(0) for role, _ in roles] == [0, 0, 0]


def test_full_sharing_forgets_the_order() -> None:
    """1.2.2(c): past states in any order give one h[t]; vectors of position undo that."""
    n, slots = 4, 6
    shared, apart = normal(2, 3, slots, n, n) / n
    shared = shared[:, :1].expand(3, slots, n, n)
    sources, positions = normal(slots, n), normal(slots, n)
    shuffled = sources[[0, 3, 1, 5, 2, 4]]
    assert torch.allclose(attend(*shared, shuffled), attend(*shared, sources))
    for m, p in ((apart, 0), (shared, positions)):
        assert (attend(*m, shuffled + p) - attend(*m, sources + p)).abs().max() > 1e-3


def attention_derivatives(n: int, k: int, last: int, reads: Tensor) -> dict:
    """By autograd; the loss reads the states for which `reads` is one."""
    matrices, xs, r = normal(3, k + 1, n, n) / n, normal(last, n), normal(last, n)
    hs = attention(matrices, xs, k, own)
    states = partial(attention, matrices, xs, k, own)
    zero = torch.zeros(last, n, dtype=xs.dtype)
    loss = lambda s: loss_of_states(s[reads.bool()], r[reads.bool()])
    direct, total = jacobian(loss, hs), jacobian(lambda p: loss(states(p)), zero)
    reach = jacobian(states, zero)

    @functools.cache
    def local(t: int, s: int) -> np.ndarray:
        assert 1 <= s <= last and 1 <= t <= last
        if not 1 <= t - s <= k:
            return np.eye(n) * (t == s)
        slots = slots_of(xs, hs, t, k)
        return jacobian(partial(attend, *matrices), slots)[:, t - s].numpy()

    return attention_values(matrices, xs, k, own) | {
        r"\pd{\ell}{\vh}": lambda t: total[t - 1 : t].numpy(),
        r"\dd{\ell}{\vh}": lambda t: direct[t - 1 : t].numpy(),
        r"\pd{\vh}{\vh}": lambda t, s: reach[t - 1, :, s - 1].numpy(),
        r"\dd{\vh}{\vh}": local,
        "k": k,
        "i": one_to(k),
        "T": one_to(last),
    }


@box("1.2.2(d)")
def by_last_state() -> Iterator[dict]:
    for n in (1, 2, 3, 5):
        yield attention_derivatives(n, 2, 5, torch.ones(5)) | {"t": range(2, 6)}


@box("1.2.2(e)")
def by_any_state() -> Iterator[dict]:
    """All T with a loss that reads every state; early ones with one that reads late states."""
    where = {"local": Statement(["t", ">", "i"]), "forward": Statement(["t", ">", "T"])}
    reads_it, too_late = r"\dd { \ell } { \vh [ T ] } = 0", r"T + k \le L"
    for n, k, last in ATTENTIONS:
        early, late = one_to(last - k), range(max(1, last - k + 1), last + 1)
        values = attention_derivatives(n, k, last, torch.ones(last))
        general = values | {"where": where, "skip": {"key"}}
        yield general | {"T": late, "false": {reads_it, too_late}}
        if early:
            yield general | {"T": early, "false": {reads_it}}
            reads = (torch.arange(last) >= last - k).double()
            yield attention_derivatives(n, k, last, reads) | {
                "T": early,
                "where": where,
            }


# ---------------------------------------------------------------- 1.3 loss curves


@box("1.3(a)")
def rmsprop() -> Iterator[dict]:
    """A weight by weight: steps of PyTorch's optimizer, k of them without gradient, then g."""
    given = {r"\eta": 1e-3, r"\alpha": 0.99, r"\epsilon": 1e-8}
    for before, k, size in ((1, 0, 1.0), (5, 1, 1.0), (20, 138, 1.0), (3, 700, 100.0)):
        theta = torch.nn.Parameter(normal(6))
        optimizer = torch.optim.RMSprop([theta], lr=1e-3)
        for g in [*normal(before, 6), *torch.zeros(k, 6, dtype=theta.dtype)]:
            theta.grad = g
            optimizer.step()
        square = optimizer.state[theta]["square_avg"] / 0.99**k
        theta.data.zero_()  # so that nothing of the step is lost to rounding
        theta.grad = size * normal(6)
        optimizer.step()
        for v, g, move in zip(square, theta.grad, theta.detach(), strict=True):
            yield given | {"k": k, "v": v.item(), "g": g.item(), r"\Delta": move.item()}


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


@box("1.3(c)")
def remedies() -> Iterator[dict]:
    yield {}


def first_logits(seed: int) -> Tensor:
    """Logits of Section 8's untrained network for 64 sequences with distractors only."""
    torch.manual_seed(seed)
    lstm, linear = torch.nn.LSTM(8, 12, batch_first=True), torch.nn.Linear(12, 4)
    draws = np.random.RandomState(0)
    symbols = draws.randint(2, 6, (64, 81))
    symbols[:, 0], symbols[:, -1] = 6, 7
    symbols[:, 15], symbols[:, 50] = draws.randint(0, 2, (2, 64))
    with torch.no_grad():
        states, _ = lstm(F.one_hot(torch.tensor(symbols), 8).float())
        return linear(states[:, -1]).double()


def test_first_loss_of_the_untrained_network() -> None:
    """The figures of 1.3(d) that need no training."""
    logits = first_logits(1)
    assert (logits.std(0) < 0.02).all()
    shares = F.softmax(logits, 1).mean(0)
    assert (shares - torch.tensor([0.17, 0.30, 0.23, 0.31])).abs().max() < 0.01
    means = [first_logits(seed).mean(0) for seed in range(1, 101)]
    losses = [float((z - z.mean()).exp().sum().log()) for z in means]
    assert abs(losses[0] - 1.42) < 0.01
    assert abs(np.mean(losses) - 1.40) < 0.01


NOTEBOOK = "seq_classification.ipynb"


def test_first_batch() -> None:
    """1.3(d): 15 of class Q among 32, and 1.53 nats, from the notebook's definitions."""
    course = load_definitions(NOTEBOOK)
    torch.manual_seed(1)
    for _ in range(2):  # train and test generator; the second restarts the draws
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


# ---------------------------------------------------------------- boxes and tests

QUESTIONS = [
    *["1.1(a)", "1.1(b)", "1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)"],
    *[f"1.2.{part}({letter})" for part in (1, 2) for letter in "abcde"],
    *[f"1.3({letter})" for letter in "abcd"],
]


def test_every_question_has_a_box_and_an_answer_at_a_glance() -> None:
    assert re.findall(r"\\question{(.*?)}", TEX) == QUESTIONS
    assert list(BOXES) == QUESTIONS == list(dict.fromkeys(QUESTIONS))
    assert re.findall(r"\n\\glance{(.*?)}", TEX) == QUESTIONS
    assert set(POINTS) == set(QUESTIONS)


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
    if question in ALSO:
        ALSO[question](question, BOXES[question])


ERRORS = [  # a piece of LaTeX, tokens apart by blanks, and what stands there by mistake
    (r"(?<=[^ ] )\+ ", "- "),  # a sign
    (r"(?<=[^ ] )- ", "+ "),
    (r"(?<=[={(\]] )- ", ""),
    (r"\\T ", ""),  # a transpose less, or more
    (r"((?:\\m[JQKV] _ [1i]|\\mW _ [chx]|\\mJ \[ t \])) ", r"\1 \\T "),
    (
        r"\b(\d+)(?= )",
        lambda m: str(int(m[1]) + 1),
    ),  # an index, a factor, a limit, a size
    (r"\[ ([a-zT]) \]", r"[ \1 - 1 ]"),
    (r"\[ ([a-zT]) \]", r"[ \1 + 1 ]"),
    (r"\b([nmk]) \\times ([nm])\b", r"\2 + 1 \\times \1"),  # a dimension
    (r"\\R \^ { (\w) }", r"\\R ^ { \1 + 1 }"),
    (r"_ { i j }", "_ { j i }"),
    (r"\\dd ", r"\\pd "),  # direct or total
    (
        r"\\pd (?={ \\(?:ell|vh \[ t \]) } { \\(?:vh \[ [tTK] (?:\+ 1 )?\]|mW))",
        r"\\dd ",
    ),
    (r"^(.*?\\le) (?!.*\\le)", r"\1 10 "),  # ten times looser, or tighter
    (r"^(.*?\\ge) (?!\d)", r"\1 2 "),
    (r"\\odot \\vc \[ t \] ", ""),  # a missing factor or term
    (r"\\v(one|c \[ t \]) - ", ""),
    (r"\+ (?:\\m\w _ \w \\T \\m\w _ \w|e \^ { w _ \w \[ t \] }) ", ""),
    (r"\\v([qkv]) _", lambda m: rf"\v{'kvq'['qkv'.index(m[1])]} _"),  # a wrong symbol
]
SAME = {  # edits that leave a true sentence
    *(rf"\sum _ {{ i = 0 }} ^ {{ 2 }} a _ i [ t {sign} 1 ] = 1" for sign in "+-"),
    *(rf"c [ t {sign} 1 ] = \frac {{ 1 }} {{ 2 }}" for sign in "+-"),
    *(rf"{name} ( - 1 ) ^ {{ t - 1 }}" for name in ("h [ t ] =", "v [ t ] = 3")),
    *(
        rf"\ln \norm [ ] {{ \pd {{ \vh [ {last} ] }} {{ \vh [ {first} ] }} }} _ \infty \le "
        r"\sum _ { i = 1 } ^ { m } r _ i "
        r"\sum _ { t = 1 } ^ { T } \abs [ ] { v _ i [ t ] - v _ i [ t - 1 ] }"
        for last, first in (("T - 1", "0"), ("T", "1"))
    ),
}


def edits(statement: Statement) -> set[str]:
    """Its text with one error at one place; of a dimension, on the right side only."""
    text, found = f"{statement.text} ", set()
    fixed = text.find(r"\in ") if r"\in" in statement.relations else 0
    for pattern, wrong in ERRORS:
        for place in re.finditer(pattern, text):
            put = wrong(place) if callable(wrong) else place.expand(wrong)
            if place.start() >= fixed:
                found.add((text[: place.start()] + put + text[place.end() :]).strip())
    found -= SAME | {statement.text}
    return {
        t for t in found if len(set(t.split(" = "))) > 1 or " = " not in t
    }  # no a = a


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
