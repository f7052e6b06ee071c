r"""Turns the formulas of hw2_theory.tex into Python, and leaves the parsing to Python.

Two values side by side become `**`, which binds tighter than the `*` of \odot: `\Wh\vh[t-1]`
is `Wh ** vh[t - N(1)]`. A sum becomes a call with a lambda, a derivative a name:
`\pd{f[1,j]}{W[1,i,k]}` is `pd_f_W[N(1), j, N(1), i, k]`. Entries count from one.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import product

import numpy as np

TOKEN = re.compile(r"\\(?:text|bm){.*?}|\\[A-Za-z]+|\d+(?:\.\d+)?|\S")
SPACING = re.compile(r"\\(?:[bB]igg?[lr](?![A-Za-z])|[,;!])|[&~]|\*(?={)")
CASES = r"(?s)\\begin{cases}(.*?)\\text{if }(.*?),\s*\\\\(.*?)\\text.*?\\end{cases}"
DISPLAY = r"(?s)\\\[(.*?)\\\]|\\begin{align\*}(.*?)\\end{align\*}|\$(.*?)\$"
RELATIONS = {"=": "==", r"\in": "==", r"\le": "<=", r"\ge": ">=", r"\approx": "== ~"}
ENDS_SUM = {**RELATIONS, "+": "+", "-": "-", ",": ",", r"\times": ","}
OPERATORS = {**ENDS_SUM, r"\odot": "*"}
BRACKETS = {"(": "())", "{": "()}", "[": "[]]"}  # in Python, and what closes in LaTeX
FUNCTIONS = {r"\ln", r"\floor", r"\diag", r"\softargmax"}
ITEM = r"(\w+)\[([^,]+), t\], \.\.\., \1\[([^,]+), t\]"  # w_0[t], \dots, w_k[t]
FACTORS = r"(\w+)\[([^,]+)\] \*\* \.\.\. \*\* \1\[([^,]+)\]"  # J[T] \cdots J[1]


class Array:
    """A number, column (n, 1), row, matrix or tensor. Refuses shapes that do not fit."""

    def __init__(self, values):
        self.a = np.asarray(values, float)
        self.a = self.a[:, None] if self.a.ndim == 1 else self.a

    def beside(self, other: "Array") -> np.ndarray:
        assert self.a.shape == other.a.shape, f"{self.a.shape} beside {other.a.shape}"
        return other.a

    __add__ = lambda self, other: Array(self.a + self.beside(other))
    __sub__ = lambda self, other: Array(self.a - self.beside(other))
    __mul__ = lambda self, other: Array(self.a * self.beside(other))  # \odot
    __truediv__ = lambda self, other: Array(self.a / self.beside(other))
    __neg__ = lambda self: Array(-self.a)
    __invert__ = lambda self: {self.a.item()}  # what follows \approx
    T = property(lambda self: Array(self.a.T))

    def __pow__(self, other):  # side by side
        if self.a.ndim == 0 or other.a.ndim == 0:
            return Array(self.a * other.a)
        assert self.a.shape[-1] == other.a.shape[0], "a product that does not fit"
        return Array(np.tensordot(self.a, other.a, 1))

    def __int__(self) -> int:
        assert self.a.ndim == 0 and self.a == np.round(self.a), "not a whole number"
        return round(self.a.item())

    def __getitem__(self, index):
        index = [int(i) for i in (index if isinstance(index, tuple) else (index,))]
        assert all(1 <= i <= n for i, n in zip(index, self.a.shape, strict=True))
        return Array(self.a[tuple(i - 1 for i in index)])

    def __eq__(self, other) -> bool:
        if isinstance(other, tuple):  # a dimension
            return self.a.shape == other
        if isinstance(other, set):
            return abs(self.a.item() - max(other)) < 5e-4
        a, b = (x.a.reshape(()) if x.a.size == 1 else x.a for x in (self, other))
        near = 1e-10 * max(np.abs(a).max(), np.abs(b).max())
        return a.shape == b.shape and bool(np.abs(a - b).max() <= near < np.inf)

    def __le__(self, other) -> bool:  # and >=, the other way round
        return self == other or bool(self.a < other.a)


class Steps:
    """A function of whole numbers, called with brackets: h[t], Q_i, q_i[t]."""

    def __init__(self, function: Callable):
        self.function = function

    def __getitem__(self, index) -> Array:
        index = index if isinstance(index, tuple) else (index,)
        return Array(self.function(*map(int, index)))


def numbers(first: Array, last: Array, by: int = 1) -> list[Array]:
    return [Array(i) for i in range(int(first), int(last) + by, by)]


NAMES = {
    "total": lambda first, last, f: reduce(Array.__add__, map(f, numbers(first, last))),
    "stack": lambda first, last, f: Array([[f(i).a] for i in numbers(first, last)]),
    "falling": lambda f, first, last: reduce(
        pow, [f[i] for i in numbers(first, last, -1)]
    ),
    "R": lambda *n: (*map(int, n), 1)[: max(2, len(n))],  # m: a column (m, 1)
    "exp": lambda x: Array(np.exp(x.a)),
    "ln": lambda x: Array(np.log(x.a)),
    "floor": lambda x: Array(np.floor(x.a)),
    "softargmax": lambda x: Array(np.exp(x.a) / np.exp(x.a).sum()),
    "diag": lambda x: Array(np.diag(x.a[:, 0])),
}


class Translator:
    """Takes tokens one by one, and writes Python."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens[::-1]

    def accept(self, token: str) -> bool:
        return self.tokens[-1:] == [token] and bool(self.tokens.pop())

    def until(self, closer: str = "") -> str:
        """Python for what comes before the closer."""
        source, sums, after_value = "", 0, False
        while self.tokens and not self.accept(closer):
            token = self.tokens.pop()
            if token in OPERATORS:
                if token in ENDS_SUM:
                    source, sums = source + ")" * sums, 0
                source += " " * (OPERATORS[token] != ",") + OPERATORS[token] + " "
                after_value = False
            elif token != r"\cdot":
                source += " ** " * after_value
                if token == r"\sum":
                    name, first = self.script().split(" == ")
                    source += f"total({first}, {self.script()}, lambda {name}: "
                    sums += 1
                else:
                    source += self.value(token)
                after_value = token != r"\sum"
        return source + ")" * sums

    def group(self) -> str:
        """Python for a group in braces, or for a single token."""
        if self.accept("{"):
            return self.until("}")
        return Translator([self.tokens.pop()]).until()

    def script(self) -> str:
        assert self.tokens.pop() in "_^"
        return self.group()

    def value(self, token: str) -> str:
        if token in BRACKETS:
            left, right, closer = BRACKETS[token]
            source = left + self.until(closer) + right
        elif token[0].isdigit():
            source = f"N({token})"
        elif token in (r"\dots", r"\cdots"):
            source = "..."
        elif token in (r"\R", "e"):
            source = f"{'exp' if token == 'e' else 'R'}({self.script()})"
        elif token in FUNCTIONS:
            source = f"{token[1:]}({self.value(self.tokens.pop())})"
        elif token == r"\frac":
            source = f"(({self.group()}) / ({self.group()}))"
        elif token == r"\cases":
            source = f"({self.group()} if {self.group()} else {self.group()})"
        else:
            name, index = self.symbol(token)
            source = f"{name}[{', '.join(index)}]" if index else name
        return source + ".T" * self.accept(r"\T")

    def symbol(self, token: str) -> tuple[str, list[str]]:
        """A name and its indices. A capital or a word below it is part of the name."""
        name, index = re.sub(r"\W|text", "", token), []
        assert name, f"{token} stands where a value should"
        if token in (r"\pd", r"\dd"):
            for _ in "above", "below":
                self.accept("{")
                part, more = self.symbol(self.tokens.pop())
                name, index = f"{name}_{part}", index + more
                assert self.accept("}"), "a derivative of more than a symbol"
        if self.accept("_"):
            below = self.group()
            if re.fullmatch(r"[A-Z]|[a-z]{2,}", below):
                name += f"_{below}"
            else:
                index.append(below)
        while self.accept("["):
            index.append(self.until("]"))
        return name, index


def translate(tex: str) -> str:
    """A formula as Python: an expression that is true where the formula holds."""
    source = Translator(TOKEN.findall(tex)).until().strip()
    source = re.sub(rf"\[{ITEM}\]", r"stack(\2, \3, lambda i: \1[i, t])", source)
    source = re.sub(FACTORS, r"falling(\1, \2, \3)", source)
    if isinstance(ast.parse(source, mode="eval").body, ast.Tuple):
        left, equal, right = source.partition(" == ")  # a, ..., b = c, ..., d
        source = f"[{left}] == [{right}]" if equal else f"out == R({source})"
    return source


def formulas(tex: str) -> list[str]:
    """The tokens of each formula with a relation or a size in it, apart by blanks."""
    tex = re.sub(r"(?s)\\begin{tikz.*?\\end{tikz\w+}", "", tex)
    tex = SPACING.sub("", re.sub(CASES, r"\\cases{\1}{\2}{\3}", tex))
    tex = re.sub(r"\\i([pd]d)\b", r"\\\1", tex.replace("f_W(x)", "f"))
    tex = re.sub(r"\\t?frac(\d)(\d)", r"\\frac{\1}{\2}", tex)
    pieces = [
        TOKEN.findall(piece.strip(" .,\n"))
        for display in re.findall(DISPLAY, tex)
        for piece in re.split(r"\\q?quad|\\\\", "".join(display))
    ]
    return [" ".join(piece) for piece in pieces if {*RELATIONS, r"\times"} & {*piece}]


def cases(source: str, values: dict) -> Iterator[dict]:
    """The names of a formula, with each index that runs (a `range`) set to its numbers."""
    names = {node.id for node in ast.walk(ast.parse(source)) if hasattr(node, "id")}
    running = [name for name in names if isinstance(values.get(name), range)]
    printed = values.get("numbers", {})  # other numbers in place of the printed ones
    given = NAMES | {"N": lambda number: Array(printed.get(number, number))}
    for name in (names & values.keys()) - {*running}:
        given[name] = (Steps if callable(values[name]) else Array)(values[name])
    for index in product(*(values[name] for name in running)):
        yield given | dict(zip(running, map(Array, index), strict=True))


@np.errstate(divide="raise", invalid="raise")
def holds(tex: str, points: Iterable[dict]) -> bool:
    """Whether a formula is true at all points, and each bound an equality at one."""
    source = translate(tex)
    everywhere = [case for values in points for case in cases(source, values)]
    true = [eval(source, case) for case in everywhere]
    for bound in re.finditer("[<>]=", source):
        equal = source[: bound.start()] + "==" + source[bound.end() :]
        true.append(any(eval(equal, case) for case in everywhere))
    return bool(everywhere) and all(value is True for value in true)
