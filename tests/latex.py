r"""Turns the mathematics of hw2_theory.tex into Python, as it stands there, and evaluates it.

Columns are arrays (n, 1), rows (1, n), so that a transpose matters. Juxtaposition is the
product; entries count from one; `\pd{f[i]}{W[r,s]}` is entry [i, s, r] of `\pd{f}{W}`, as the
denominator's axes are reversed. A symbol whose value is a Python `range` is an index that
runs; one whose value is a function is called with its step or slot: `\vh[t]`, `\mQ_i`.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np

TOLERANCE = 1e-10
TOKEN = re.compile(
    r"\\(?:begin|end)\{\w+\}|\\(?:text|bm)\{[^{}]*\}|\\bm\w|\\(?:bar|hat) \w"
    r"|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S"
)
SPACING = r"\\(?:[bB]igg?[lr]?)(?![A-Za-z])|\\[,;! ]|\*(?=\{)|~"
ALIASES = {r"\tfrac": r"\frac", r"\ipd": r"\pd", r"\idd": r"\dd"}
BOUNDS = {r"\le", r"\ge"}
RELATIONS = {*BOUNDS, "=", "<", ">", r"\ne", r"\in", r"\approx"}
REDUCE = {r"\sum": lambda values: functools.reduce(add, values, 0), r"\prod": np.prod}
REDUCE |= {r"\max": max, r"\min": min}
FUNCTIONS = {
    r"\ln": np.log,
    r"\sqrt": np.sqrt,
    r"\abs": np.abs,
    r"\floor": lambda z: int(np.floor(z)),
    r"\norm": lambda matrix: np.abs(matrix).sum(1).max(),  # the largest row sum
    r"\sigma": lambda z: 1 / (1 + np.exp(-z)),
    r"\softargmax": lambda scores: np.exp(scores) / np.exp(scores).sum(),
    r"\diag": lambda column: np.diag(column[:, 0]),
}
GIVEN = {r"\ell": r"\ell", r"\phi": r"\phi", "f": "f_W"}  # functions among the values
ENDS = {*RELATIONS, *")]},.&+-|", r"\\", r"\times", r"\odot", r"\dots"}


class UnknownSymbol(Exception):
    """The values at hand have no such symbol, so that nothing can be said."""


def tokens(tex: str) -> list[str]:
    tex = re.sub(SPACING, " ", tex)
    tex = re.sub(r"frac(\d)(\d)", r"frac{\1}{\2}", tex)
    found = [token.replace(" ", "") for token in TOKEN.findall(tex)]
    return [ALIASES.get(token, token) for token in found]


# ---------------------------------------------------------------- what the Python calls


def add(a, b):
    for one, other in ((a, b), (b, a)):
        if isinstance(one, int) and one == 0:  # an empty sum
            return other
    assert np.shape(a) == np.shape(b) or np.size(a) == np.size(b) == 1, "sum of shapes"
    return a + b


def multiply(a, b):
    """Matrix product; with a tensor the sum over the axes that meet."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    assert a.shape[-1] == b.shape[0], f"product of {a.shape} and {b.shape}"
    return np.tensordot(a, b, 1)


def entry(array, index):
    """An entry, its indices counted from one; a column takes one index."""
    if array.ndim == 2 and len(index) == array.shape[1] == 1:
        index = [*index, 1]
    inside = [1 <= i <= n for i, n in zip(index, array.shape, strict=True)]
    assert all(inside), f"entry {index} of {array.shape}"
    return array[tuple(i - 1 for i in index)]


def get(v: dict, name: str):
    if name not in v:
        raise UnknownSymbol(name)
    return v[name]


def symbol(v: dict, base: str, subscript: str, index: Callable, *brackets: list):
    name = f"{base}_{subscript}" if subscript else base
    if index and name not in v and base not in v:  # h_i[t] is entry i of \vh[t]
        return entry(symbol(v, rf"\v{base}", "", None, *brackets), index())
    if index and name not in v:  # a slot: w_i[t] is w(i, t)
        name, brackets = base, [index() + [i for bracket in brackets for i in bracket]]
    value = get(v, name)
    for bracket in brackets:
        value = value(*bracket) if callable(value) else entry(value, bracket)
    return value


def derivative(v: dict, key: str, above: tuple, below: tuple):
    """Each part is (entries, bracket, ...). A bracket is a step, or entries of an array."""
    value = get(v, key)
    (inner, *steps), (other, *other_steps) = above, below
    if callable(value):
        value = value(*itertools.chain(*steps, *other_steps))
    else:  # x[n][c] is entry [c, n]
        inner = itertools.chain(*steps[::-1])
        other = [*itertools.chain(*other_steps[::-1])]
    index = [*inner, *other[::-1]]
    return entry(value, index) if index else value


def over(v: dict, name: str, *limits: int) -> Iterator[dict]:
    """The values with an index set to each number from one limit to the other."""
    numbers = range(limits[0], limits[1] + 1) if limits else get(v, name)
    return ({**v, name: number} for number in numbers)


def same(a, b) -> bool:
    a, b = np.asarray(a, float), np.asarray(b, float)
    if b.ndim == 0 and b == 0:
        return not a.any()
    if a.size == b.size == 1:
        a, b = a.reshape(()), b.reshape(())
    a, b = (c[0] if c.shape[:-2] == (1,) else c for c in (a, b))  # row times tensor
    scale = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    return a.shape == b.shape and np.abs(a - b).max(initial=0) <= TOLERANCE * scale


def gap(a, b) -> float:
    return np.abs(a - b).item() / max(np.abs(a).item(), np.abs(b).item(), 1e-300)


def related(relation: str, a, b) -> bool:
    if relation == r"\in":  # b is a stated dimension
        return np.shape(a) == (b if len(b) > 1 else (*b, 1))
    if relation == "=":
        return same(a, b)
    a, b = float(np.squeeze(a)), float(np.squeeze(b))
    low, high = b - TOLERANCE * abs(b), b + TOLERANCE * abs(b)
    holds = {"<": a < b, ">": a > b, r"\le": a <= high, r"\ge": a >= low}
    holds |= {r"\ne": a != b, r"\approx": abs(a - b) < 5e-4}
    return holds[relation]


# ---------------------------------------------------------------- LaTeX to Python


class Reader:
    """Recursive descent: each method reads tokens and returns Python in `v`, the values."""

    def __init__(self, found: list[str]):
        self.tokens, self.at, self.free = found, 0, set()
        self.last = None  # the last symbol, its index, what follows: where dots go on

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.next()
        if not token or (wanted and token != wanted):
            raise SyntaxError(f"{wanted} expected after {self.tokens[: self.at]}")
        self.at += 1
        return token

    def accept(self, *wanted: str) -> str:
        return self.take() if self.next() in wanted else ""

    def group(self, opening: str = "{", closing: str = "}") -> list[str]:
        """The tokens of a group in brackets, or one token where there are none."""
        if self.next() != opening:
            return [self.take()]
        start, depth = self.at + 1, 0
        while True:
            token = self.take()
            depth += (token == opening) - (token == closing)
            if depth == 0:
                return self.tokens[start : self.at - 1]

    def inside(self, found: list[str], method: str = "expression") -> str:
        """What a method of this class makes of other tokens."""
        reader = Reader(found)
        source = getattr(reader, method)()
        if reader.next():
            raise SyntaxError(f"{reader.next()} is left of {found}")
        self.free |= reader.free
        return source

    def grouped(self, method: str = "expression", brackets: str = "{}") -> str:
        return self.inside(self.group(*brackets), method)

    def chain(self) -> tuple[list[str], list[str]]:
        """Sides and relations: a = b \\le c."""
        sides, relations = [self.expression()], []
        while relation := self.accept(*RELATIONS):
            relations.append(relation)
            if relation == r"\in":
                self.take(r"\R"), self.take("^")
                sides.append(self.grouped("shape"))
            else:
                sides.append(self.expression())
        return sides, relations

    def truth(self) -> str:
        sides, relations = self.chain()
        triples = zip(relations, sides, sides[1:], strict=False)
        return " and ".join(f"related(r'{r}', {a}, {b})" for r, a, b in triples)

    def shape(self) -> str:
        sides = [self.expression()]
        while self.accept(r"\times"):
            sides.append(self.expression())
        return f"({', '.join(sides)},)"

    def listed(self) -> str:
        """a, b, c or w_0[t], \\dots, w_k[t]."""
        items, begin = [self.expression()], None
        while self.accept(","):
            if self.accept(r"\dots"):
                begin = self.last
                self.take(",")
            items.append(self.expression())
        if not begin:
            return f"[{', '.join(items)}]"
        assert begin[::2] == self.last[::2], f"dots in {self.tokens}"
        numbers = f"range({begin[1]}, {self.last[1]} + 1)"
        return f"[symbol(v, r'{begin[0]}', 'i', lambda i=i: [i]{begin[2]}) for i in {numbers}]"

    def expression(self) -> str:
        source = f"-{self.term()}" if self.accept("-") else self.term()
        while sign := self.accept("+", "-"):
            source = f"add({source}, {sign}{self.term()})"
        return source

    def term(self) -> str:
        source = self.product()
        while self.accept(r"\odot"):
            source = f"np.multiply({source}, {self.product()})"
        return source

    def product(self) -> str:
        source, before = self.factor(), "1"
        while self.next() and self.next() not in ENDS:
            if self.accept("/"):
                source = f"({source} / {self.factor()})"
            elif self.accept(r"\cdots"):  # a[t] \cdots a[s]
                if self.tokens[self.at - 2] != "]":
                    raise SyntaxError("dots that do not follow a bare symbol")
                (name, first, _), _ = self.last, self.factor()
                assert name == self.last[0], f"dots in {self.tokens}"
                steps = f"range({first}, {self.last[1]} - 1, -1)"  # the index falls
                factors = f"map(get(v, r'{name}'), {steps})"
                source = f"functools.reduce(multiply, {factors}, {before})"
            else:
                self.accept(r"\cdot")
                before, source = source, f"multiply({source}, {self.factor()})"
        return source

    def factor(self) -> str:
        source = f"({self.atom()})"
        while mark := self.accept(r"\T", "^", "_"):
            if mark == r"\T":
                source = f"np.transpose({source})"
            elif mark == "^":
                source = f"{source} ** ({self.grouped()})"
            else:
                source = f"entry({source}, {self.index(self.group())})"
        return f"({source})"

    def index(self, found: list[str]) -> str:
        """`ij` are two indices, `\\phi(i)` is one."""
        if all(len(token) == 1 and token.isalnum() for token in found):
            return f"[{', '.join(self.inside([token]) for token in found)}]"
        return f"[{self.inside(found)}]"

    def atom(self) -> str:
        token = self.next()
        if token in ENDS:
            raise SyntaxError(f"{token} stands where a value should")
        if token == "(":
            return self.grouped(brackets="()")
        if token == "[":
            return f"np.reshape({self.grouped('listed', '[]')}, (-1, 1))"
        self.take()
        if token in REDUCE:
            return self.big(f"REDUCE[r'{token}']")
        if token in FUNCTIONS or token in GIVEN:
            return self.call(token)
        if token in (r"\pd", r"\dd"):
            return self.differential(token)
        if token == r"\begin{cases}":
            return self.cases()
        if token[0].isdigit():
            return f"v.get('{token}', {token})"
        if token == "e" and self.accept("^"):
            return f"np.exp({self.grouped()})"
        if token == r"\frac":
            return f"({self.grouped()}) / ({self.grouped()})"
        return self.symbol(token)

    def symbol(self, base: str) -> str:
        subscript = self.group() if self.accept("_") else []
        index = self.index(subscript) if subscript else ""
        brackets = ""
        while self.next() == "[":
            brackets += f", {self.grouped('listed', '[]')}"
        if not subscript:
            self.free.add(base)
        first, rest = (index[1:-1], brackets) if index else (brackets[3:-1], "")
        self.last = (base, first, rest)
        index = f"lambda: {index}" if index else None
        return f"symbol(v, r'{base}', r'{''.join(subscript)}', {index}{brackets})"

    def call(self, name: str) -> str:
        if self.next() == "[" or self.accept("_"):  # the size of \norm[\Big]{...}; f_W
            self.group("[", "]")
        if self.next() == "(":
            argument = f"*{self.grouped('listed', '()')}"
        else:
            argument = self.product() if name == r"\ln" else self.grouped()
        if name == r"\norm":
            self.take("_"), self.take(r"\infty")
        where = "FUNCTIONS" if name in FUNCTIONS else "v"
        source = f"get({where}, r'{GIVEN.get(name, name)}')({argument})"
        bracket = self.next() == "["
        return f"entry({source}, {self.grouped('listed', '[]')})" if bracket else source

    def big(self, reduce: str) -> str:
        if self.next() == "(":
            return f"{reduce}({self.grouped('listed', '()')})"
        self.take("_")
        below, outside, self.free = self.group(), self.free, set()
        limits, condition = "", ""
        if below[1:2] == ["="]:
            self.take("^")
            limits = f", {self.inside(below[2:])}, {self.grouped()}"
        elif below[1:]:
            condition = f" if {self.inside(below, 'truth')}"
        body = self.term()
        self.free = outside | (self.free - {below[0]})
        return f"{reduce}([{body} for v in over(v, '{below[0]}'{limits}){condition}])"

    def cases(self) -> str:
        source = ""
        while not self.accept(r"\end{cases}"):
            source += self.expression()
            self.accept(",")
            self.take("&")
            if "otherwise" not in self.take():
                source += f" if {self.truth()} else "
            self.accept(",", ".")
            self.accept(r"\\")
        return source

    def differential(self, kind: str) -> str:
        (name, part), (other, below) = (self.part(Reader(self.group())) for _ in "ab")
        return f"derivative(v, r'{kind}{{{name}}}{{{other}}}', {part}, {below})"

    def part(self, reader: "Reader") -> tuple[str, str]:
        """Above or below a derivative's bar: the symbol, and its entries and brackets."""
        bare = reader.next() == "("  # (\mW_x)_{ab}
        name, entries = "".join(reader.group("(", ")")), "[]"
        if reader.accept("_"):
            subscript = reader.group()
            if bare or (name.isalpha() and name != "f"):  # h_i[t]
                name, entries = name if bare else rf"\v{name}", reader.index(subscript)
            else:
                name += "_" + "".join(subscript)
        if reader.next() == "(":
            name += f"({''.join(reader.group('(', ')'))})"
        while reader.next() == "[":
            entries += f", {reader.grouped('listed', '[]')}"
        if reader.next():
            raise SyntaxError(f"{reader.next()} in a derivative")
        self.free |= reader.free
        return name, f"({entries},)"


def function(source: str) -> Callable[[dict], object]:
    return eval(f"lambda v: {source}")


def evaluate(tex: str, values: dict, method: str = "expression"):
    return function(Reader([]).inside(tokens(tex), method))(values)


# ---------------------------------------------------------------- statements


class Statement:
    """An equation, a bound or a stated dimension."""

    def __init__(self, found: list[str], tag: str = ""):
        self.text, self.tag, reader = " ".join(found), tag, Reader(found)
        if r"\iff" in found:
            cut = found.index(r"\iff")
            sides = [reader.inside(p, "truth") for p in (found[:cut], found[cut + 1 :])]
            self.relations, reader.at = ["="], len(found)
        else:
            sides, self.relations = reader.chain()
        if reader.next():
            raise SyntaxError(f"{reader.next()} in {self.text}")
        self.free, self.sides = reader.free, [function(side) for side in sides]

    def cases(self, values: dict) -> Iterator[dict]:
        """The values with every running index of the statement set."""
        running = [n for n in sorted(self.free) if isinstance(values.get(n), range)]
        for index in itertools.product(*(values[name] for name in running)):
            yield {**values, **dict(zip(running, index, strict=True))}

    def check(self, values: dict) -> list[list[float]]:
        """Asserts that it holds; returns for each case the relative slack of each relation."""
        slack = []
        for case in self.cases(values):
            try:
                with np.errstate(all="ignore"):
                    found = [side(case) for side in self.sides]
            except (LookupError, TypeError, ValueError) as error:
                raise AssertionError(f"{self.text}: {error}") from error
            pairs = list(zip(self.relations, found, found[1:], strict=False))
            for relation, a, b in pairs:
                assert related(relation, a, b), f"{self.text}: {a} {relation} {b}"
            slack.append([gap(a, b) if r in BOUNDS else 0 for r, a, b in pairs])
        return slack


def split(found: list[str]) -> list[list[str]]:
    """Cuts at \\quad and \\\\ outside groups; drops punctuation at the ends."""
    pieces, depth = [[]], 0
    for token in found:
        depth += token in "{([" or token.startswith(r"\begin")
        depth -= token in "})]" or token.startswith(r"\end")
        if depth == 0 and token in (r"\quad", r"\qquad", r"\\"):
            pieces.append([])
        elif depth or token != "&":
            pieces[-1].append(token)
    for piece in pieces:
        while piece and (piece[-1] in ".,;" or piece[-1].startswith(r"\text{for")):
            piece.pop()
    return [piece for piece in pieces if piece]


DISPLAY = re.compile(
    r"\\begin\{(equation|align|gather)\*\}(.*?)\\end\{\1\*\}|\\\[(.*?)\\\]|\$(.*?)\$",
    re.DOTALL,
)


def statements(tex: str) -> list[Statement]:
    """All that a box's LaTeX claims: each piece of mathematics with a relation in it."""
    found = []
    for match in DISPLAY.finditer(tex):
        for line in re.split(r"(?<=\})\\\\\n", match[2] or match[3] or match[4] or ""):
            tag = re.search(r"\\formula\{(.*?)\}", line)
            line = re.sub(r"\\formula\{.*?\}|\\(?:begin|end)\{gathered\}", " ", line)
            for piece in split(tokens(line)):
                if r"\times" in piece and not RELATIONS & set(piece):  # $9\times13$
                    piece = [r"\text{output}", r"\in", r"\R", "^", "{", *piece, "}"]
                if RELATIONS & set(piece):
                    found.append(Statement(piece, tag[1] if tag else ""))
    return found
