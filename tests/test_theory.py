r"""The answers of hw2_theory.tex: its own LaTeX, evaluated and compared with PyTorch.

A function under `@box(question)` yields values for the symbols of that answer box: what the
question gives, at random, and each derivative by autograd (`pd_f_x` is total, `dd_f_x`
direct). Each formula of the box must hold there, and fail with any of the `ERRORS` in it.
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product, starmap

import nbformat
import numpy as np
import pypdf
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from latex import formulas, holds
from torch import Tensor
from torch.autograd.functional import jacobian

TEX = (ROOT / "hw2_theory.tex").read_text(encoding="utf-8")
BOXES = dict(re.findall(r"(?s)\\begin{answer}{(.*?)}(.*?)\\end{answer}", TEX))
POINTS: dict[str, tuple[dict, ...]] = {}


def box(*questions: str) -> Callable:
    """Registers the values at which the formulas of these boxes must hold."""

    def register(points: Callable) -> None:
        torch.manual_seed(0)
        POINTS.update(dict.fromkeys(questions, tuple(points())))

    return register


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def steps(arrays, first: int = 1) -> Callable:
    """Step -> array. A step that is not there is an error."""
    return dict(enumerate(arrays, first)).__getitem__


# 1.1 convolution.
@box("1.1(a)")
def image():
    """The printed recipe for other images too: their sizes replace the printed numbers."""
    for height, width in (19, 26), (20, 25), (7, 4):
        x, kernel = normal(1, 1, height, width), normal(1, 1, 4, 4)
        out = F.conv2d(x, kernel, stride=2, padding=1)[0, 0]
        numbers = {19: height, 26: width, 9: out.shape[0], 13: out.shape[1]}
        numbers |= {8.5: (height - 2) / 2, 12: (width - 2) / 2}
        yield {"numbers": numbers, "out": out}


@box("1.1(b)")
def images():
    names = ["H", "W", "H_K", "W_K", "S", "D", "P", "F", "H_out", "W_out"]
    for sizes in np.random.RandomState(0).randint(1, 7, (150, 7)).tolist():
        h, w, h_k, w_k, s, d, p = sizes
        if d * (h_k - 1) < h + 2 * p and d * (w_k - 1) < w + 2 * p:
            x, kernels = normal(1, 2, h, w), normal(3, 2, h_k, w_k)
            out = F.conv2d(x, kernels, stride=s, dilation=d, padding=p)[0]
            yield dict(zip(names, [*sizes, *out.shape], strict=True)) | {"out": out}


@box("1.1(c)(i)", "1.1(c)(ii)", "1.1(c)(iii)", "1.1(c)(iv)")
def convolution():
    """By PyTorch's layer: x (channel, position), W (1, channel, tap) -> (1, position)."""
    layer = lambda x, w: F.conv1d(x[None], w, stride=2)[0]
    loss = lambda f: (f.sin() * torch.arange(1, 6)).sum()
    x, w = normal(7, 11), normal(1, 7, 3)
    by_x, by_w = jacobian(layer, (x, w))
    yield {
        **{name: range(1, size + 1) for name, size in zip("ijkn", (7, 5, 3, 11))},
        **dict(zip("xWf", (x, w, layer(x, w)), strict=True)),
        "pd_f_W": by_w,
        "pd_f_x": by_x,
        "pd_ell_f": jacobian(loss, layer(x, w)),
        "pd_ell_W": jacobian(lambda w: loss(layer(x, w)), w),
    }


# 1.2.1 the gated network.
def gate(weights: dict, x: Tensor, h: Tensor) -> Tensor:
    """Equation (1) of the question, for one step or for columns of steps."""
    return torch.sigmoid(weights["Wc"] @ x + weights["Wh"] @ h)


def step(weights: dict, x: Tensor, h: Tensor) -> Tensor:
    """Equation (2) of the question."""
    c = gate(weights, x, h)
    return c * h + (1 - c) * (weights["Wx"] @ x)


def loss_of(states: Tensor) -> Tensor:
    """A loss in which every state stands by itself and beside the others."""
    weights = torch.arange(1, states.numel() + 1).reshape(states.shape)
    return (states.sin() * weights).sum() + states.prod(0).sum()


def gated(n: int, m: int, last: int) -> dict:
    """A run of the network. Pushes move its states, to show what follows from each."""
    weights = {"Wc": normal(m, n), "Wh": normal(m, m), "Wx": normal(m, n)}
    wx, xs, still = weights["Wx"], normal(last, n), 0 * normal(last + 1, m)

    def states(pushes: Tensor, wx: Tensor = wx) -> Tensor:
        hs = [pushes[0]]
        for x, push in zip(xs, pushes[1:], strict=True):
            hs.append(step(weights | {"Wx": wx}, x, hs[-1]) + push)
        return torch.stack(hs)

    gates = lambda pushes: gate(weights, xs.T, states(pushes)[:-1].T)
    each_step = lambda wx: step(weights | {"Wx": wx}, xs.T, hs[:-1].T)
    hs, cs = states(still), gates(still)
    reach, by_gate = jacobian(states, still), jacobian(gates, still)
    total, by_wx = jacobian(lambda *args: loss_of(states(*args)[1:]), (still, wx))
    return {
        **weights,
        **dict(zip("nmKxc", (n, m, last, xs.T, cs), strict=True)),
        **{name: range(1, s + 1) for name, s in zip("ijtT", (m, n, last - 1, last))},
        "vone": torch.ones(m),
        "vx": steps(xs),
        "vh": steps(hs, 0),
        "vc": steps(cs.T),
        "pd_vh_vh": lambda t, s: reach[t, :, s],
        "pd_vc_vh": lambda t, s: by_gate[:, t - 1, s],
        "mJ": lambda t: reach[t, :, t - 1],
        "pd_ell_vh": steps(total[:, None], 0),
        "pd_ell_h": total[1:].T,
        "dd_ell_vh": steps(jacobian(loss_of, hs[1:])[:, None]),
        "pd_ell_Wx": by_wx.T,
        "pd_ell_eWx": by_wx,
        "dd_h_eWx": jacobian(each_step, wx),
    }


SIZES = [(3, 4, 5), (1, 1, 2), (1, 3, 2), (4, 1, 3), (2, 2, 2)]  # n, m, last
box("1.2.1(b)", "1.2.1(c)", "1.2.1(d)", "1.2.1(e)")(lambda: starmap(gated, SIZES))


def test_diagram_computes_the_state() -> None:
    """Follows the wires of Figure 1 back from h. With any wire missing it cannot."""
    drawn = BOXES["1.2.1(a)"]
    edges = re.findall(r"\\draw\[wire\] \((\w+)\) \S+ \((\w+)\);", drawn)
    assert edges[-2:] == [("h", "delay"), ("delay", "hp")] and len(edges) == 17
    weights = {"Wc": normal(4, 3), "Wh": normal(4, 4), "Wx": normal(4, 3)}
    modules = re.findall(r"\\node\[module\] \((W\w)\).*?{\$\\(\w+)\$}", drawn)
    assert dict(modules) == {name: name for name in weights}
    given = {"x": normal(3), "hp": normal(4)}
    node = {name: partial(torch.mv, weight) for name, weight in weights.items()}
    node |= dict.fromkeys(["c", "h"], lambda s: s) | {"sigma": torch.sigmoid}
    node |= dict.fromkeys(["sum", "add"], torch.add) | {"oneminus": lambda c: 1 - c}
    node |= dict.fromkeys(["keep", "write"], torch.mul)

    def value(name: str, edges: list) -> Tensor:
        if name in given:
            return given[name]
        return node[name](*(value(start, edges) for start, end in edges if end == name))

    assert torch.allclose(value("h", edges), step(weights, given["x"], given["hp"]))
    for edge in edges[:-2]:
        with pytest.raises(TypeError):
            value("h", [other for other in edges if other != edge])


# 1.2.2 the attention network.
def attend(matrices: Tensor, slots: Tensor) -> tuple[Tensor, ...]:
    """Equations (3) to (8): matrices (3, slots, n, n), slots (slots, n) -> qkv, w, a, h."""
    qkv = torch.einsum("miab,ib->mia", matrices[:, : len(slots)], slots)
    scores = (qkv[0] * qkv[1]).sum(1)
    shares = F.softmax(scores, 0)
    return qkv, scores, shares, shares @ qkv[2]


class Attention:
    """h[1..last] from the last k states, zeros before the start; from all where k is None."""

    def __init__(self, n: int, k: int | None, last: int):
        self.n, self.k, self.last = n, k, last
        self.xs, self.still = normal(last, n), 0 * normal(last, n)
        self.matrices = normal(3, last if k is None else k + 1, n, n) / n
        self.hs = self.states(self.still, self.matrices)

    def slots(self, hs: Tensor, t: int) -> Tensor:
        past = hs[: t - 1].flip(0)
        if self.k is not None:
            past = F.pad(past, (0, 0, 0, self.k))[: self.k]
        return torch.cat([self.xs[t - 1][None], past])

    def states(self, pushes: Tensor, matrices: Tensor) -> Tensor:
        hs = self.xs[:0]
        for t, push in enumerate(pushes, start=1):
            state = attend(matrices, self.slots(hs, t))[-1] + push
            hs = torch.cat([hs, state[None]])
        return hs

    def count(self, role: Callable = lambda i: i) -> int:
        """The number of matrices that the states depend on, if slot i uses those of role(i)."""
        shared = [role(i) for i in range(self.matrices.shape[1])]
        states = lambda matrices: self.states(self.still, matrices[:, shared])
        return int(jacobian(states, self.matrices).abs().amax((0, 1, 4, 5)).gt(0).sum())

    def values(self) -> dict:
        """What the question's equations name, at every step t."""
        k, names, found, shares = self.k or 0, ("vq", "vk", "vv", "w", "a"), {}, {}
        for t in range(1, self.last + 1):
            qkv, scores, shares[t], _ = attend(self.matrices, self.slots(self.hs, t))
            for name, slots in zip(names, (*qkv, scores, shares[t]), strict=True):
                found[name, t] = steps(slots, 0)
        matrices = zip(("mQ", "mK", "mV"), self.matrices, strict=True)
        return {name: steps(matrix, 0) for name, matrix in matrices} | {
            **{v: lambda i, t, v=v: found[v, t](i) for v in names},
            "va": shares.__getitem__,
            "vx": steps(self.xs),
            "vh": steps(F.pad(self.hs, (0, 0, k, 0)), 1 - k),
            "n": self.n,
            "k": k,
            "i": range(k + 1),
            "t": range(1, self.last + 1),
        }

    def derivatives(self, first: int) -> dict:
        """By autograd; the loss reads the states from the first on."""
        states = lambda pushes: self.states(pushes, self.matrices)
        reach = jacobian(states, self.still)

        def direct(t: int, s: int) -> Tensor:
            if not 1 <= t - s <= self.k:
                return torch.eye(self.n) * (t == s)
            state = lambda slots: attend(self.matrices, slots)[-1]
            return jacobian(state, self.slots(self.hs, t))[:, t - s]

        loss = lambda pushes: loss_of(states(pushes)[first - 1 :])
        return self.values() | {
            "pd_ell_vh": steps(jacobian(loss, self.still)[:, None]),
            "pd_vh_vh": lambda t, s: reach[t - 1, :, s - 1],
            "dd_vh_vh": direct,
        }


SIZES = [(3, 2, 6), (1, 1, 4), (4, 3, 7), (2, 5, 3)]  # n, k, last
box("1.2.2(b)")(lambda: (Attention(*sizes).values() for sizes in SIZES))


@box("1.2.2(c)")
def all_past_states():
    for n, last in (3, 6), (1, 4), (2, 3):
        values = Attention(n, None, last).values()
        yield from (values | {"t": t, "i": range(t)} for t in range(2, last + 1))


@box("1.2.2(a)", "1.2.2(d)")
def by_last_state():
    for n in (1, 2, 3, 5):
        yield Attention(n, 2, 5).derivatives(1) | {"t": range(2, 6)}


@box("1.2.2(e)")
def by_any_state():
    """Early states, and a loss that reads the last k alone: what the remark says of others."""
    for n, k, last in SIZES:
        late = last - k + 1
        yield Attention(n, k, last).derivatives(late) | {"T": range(1, late)}


def test_number_of_matrices() -> None:
    """The three numbers of 1.2.2(c), and 3(k + 1), counted as those the states depend on."""
    said = r"\$(3t)\$ at step \$t\$.* limit.*?: (\d) with .* past states; (\d) with"
    assert re.search(said, BOXES["1.2.2(c)"], re.DOTALL).groups() == ("3t", "6", "3")
    assert r"It has $3(k+1)$ weight matrices." in TEX
    for t in (2, 3, 5):
        assert Attention(2, t, 9).count() == 3 * (t + 1)
        assert Attention(2, None, t).count() == 3 * t
        assert Attention(2, None, t).count(lambda i: min(i, 1)) == 6
        assert Attention(2, None, t).count(lambda _: 0) == 3


# 1.3 loss curves.
@box("1.3(b)", "1.3(d)")
def logits():
    for scale, y in product((0.0, 1.0, 100.0), range(1, 5)):
        z = scale * normal(4)
        loss = F.cross_entropy(z[None], torch.tensor([y - 1]))
        given = {"z": steps(z), "p": steps(z.softmax(0)), "ell": loss}
        yield given | {"y": y, "j": range(1, 5)}


# Boxes, and the test of the test.
def test_every_question_has_its_box() -> None:
    assert list(BOXES) == re.findall(r"\\question{(.*?)}", TEX)
    words = {"1.2.1(a)", "1.3(a)", "1.3(c)"}  # a diagram, and answers without a formula
    assert len(BOXES) == 20 and POINTS.keys() == BOXES.keys() - words
    assert all((q in words) != bool(formulas(BOXES[q])) for q in BOXES)


ERRORS = [  # a piece of a formula, tokens apart by blanks, and what stands there by mistake
    (r"(?<=[^={(] )\+ ", "- "),  # a sign
    (r"(?<=[^={(] )- ", "+ "),
    (r"(?<=[={(] )- ", ""),
    (r"\\T ", ""),  # a transpose less, or more
    (r"(\\m[QKV] _ \w|\\W[chx]|\\mJ \[ t \]) ", r"\1 \\T "),
    (r"\b(\d+)(?!\S)", lambda m: str(int(m[1]) + 1)),  # index, factor, limit, size
    (r"\b(\d+)(?!\S)", lambda m: str(int(m[1]) - 1)),
    (r"\[ ([a-zT]) \]", r"[ \1 - 1 ]"),
    (r"\[ ([a-zT]) \]", r"[ \1 + 1 ]"),
    (r"(?<=\^ {) ([nmktK]) ", r" \1 + 1 "),  # a limit, or a dimension
    (r"\b([nm]) \\times ([nm])\b", r"\2 + 1 \\times \1"),
    (r"\b([HW]) _", lambda m: "WH"["HW".index(m[1])] + " _"),
    (r"([ij]) , ([ij])", r"\2 , \1"),
    (r"\\dd ", r"\\pd "),  # direct or total
    (r"\\pd (?={ \\ell)", r"\\dd "),
    (r"\\odot \\vc \[ t \] ", ""),  # a missing factor or term
    (r"\\vone - |1 - (?=c)|2 (?=j|P)", ""),
    (r"\+ \\m\w _ \w \\T \\m\w _ \w ", ""),
    (r"\\v([qkv]) _", lambda m: rf"\v{'kvq'['qkv'.index(m[1])]} _"),  # a wrong symbol
    (r"\\m([QKV]) _", lambda m: rf"\m{'KVQ'['QKV'.index(m[1])]} _"),
]
# No formula at all, shapes that do not fit, a step or symbol that is not there, ln 0:
REFUSED = SyntaxError, AssertionError, LookupError, NameError, TypeError, ValueError
REFUSED += (ArithmeticError,)


def edits(formula: str) -> set[str]:
    """The formula with one error at one place; of a dimension, on the right alone."""
    found, start = set(), formula.find(r"\in ")
    for pattern, wrong in ERRORS:
        for place in re.finditer(pattern, formula):
            put = wrong(place) if callable(wrong) else place.expand(wrong)
            if place.start() > start:
                found.add(formula[: place.start()] + put + formula[place.end() :])
    return found - {formula}


@pytest.mark.parametrize("question", POINTS)
def test_box_holds_and_planted_errors_do_not(question: str) -> None:
    unnoticed = []
    for formula in formulas(BOXES[question]):
        assert holds(formula, POINTS[question]), formula
        for edit in edits(formula):
            with suppress(*REFUSED):
                unnoticed += [edit] * holds(edit, POINTS[question])
    assert not unnoticed


def test_paper_is_up_to_date_and_short() -> None:
    reader = pypdf.PdfReader(ROOT / "hw2_theory.pdf")
    stamp = hashlib.md5(TEX.encode()).hexdigest().upper()
    assert reader.metadata["/SourceMD5"] == stamp and len(reader.pages) <= 7
    fonts = [f for p in reader.pages for f in p["/Resources"]["/Font"].values()]
    assert all("/FontFile" in font["/FontDescriptor"] for font in fonts)


def test_numbers_of_1_3_stand_in_the_notebook() -> None:
    """Each decimal of the text, and each number of three digits, in its outputs or code."""
    notebook = nbformat.read(ROOT / "seq_classification.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [c.source for c in code] + [o.get("text") for c in code for o in c.outputs]
    there = [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", str(texts))]
    section = TEX.split(r"\section{1.3")[1]
    prose = re.sub(r"(?s)\\begin{tikz.*?\\end{tikz\w+}", "", section)
    for number in re.findall(r"\d*\.\d+|\d{3,}", prose):
        digits = len(number.partition(".")[2])
        assert float(number) in [round(n, digits) for n in there], number


def test_curves_of_1_3_have_the_spikes_of_the_table() -> None:
    drawn = re.findall(r"row sep=.*?{\n(.*?)};", TEX, re.DOTALL)
    curves = [np.array(curve.split(r"\\")[:-1], float) for curve in drawn]
    spikes = [(c - np.minimum.accumulate(c)).max() for c in curves]
    table = re.findall(r" & (\d\.\d+) &", TEX)
    assert np.allclose(spikes, [float(table[0]), float(table[-1])], atol=0.01)
