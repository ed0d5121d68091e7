"""Runs the part of IEC 61131-3 Structured Text that reference.st is written in, and is as strict as a PLC's compiler:
no implicit conversion, no short circuit, names without case, every value within its type.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

RANGES = {"WORD": (0, 0xFFFF), "UINT": (0, 0xFFFF), "INT": (-0x8000, 0x7FFF), "UDINT": (0, 0xFFFFFFFF)}
NUMBER = "a number"  # a literal: of any type that it fits
TOKEN = re.compile(r"16#[0-9A-Fa-f]+|\d+|[A-Za-z_]\w*|:=|\.\.|<>|<=|>=|[-+*/=<>()\[\].,:;]")

Value = object
Scope = dict[str, Value]
Evaluate = Callable[[Scope], Value]
Run = Callable[[Scope], None]


class StructuredTextError(Exception):
    """A PLC's compiler would refuse this."""


@dataclass(frozen=True)
class Array:
    first: int
    last: int
    of: "Type"


@dataclass(frozen=True)
class Struct:
    name: str
    members: tuple[tuple[str, "Type"], ...]


Type = str | Array | Struct


@dataclass(frozen=True)
class Expression:
    type: Type
    value: Evaluate


@dataclass
class Program:
    """One function block: `scan` sets its inputs, runs it once and gives all its variables."""

    variables: dict[str, Type] = field(default_factory=dict)
    section_of: dict[str, str] = field(default_factory=dict)
    memory: Scope = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    body: list[Run] = field(default_factory=list)

    def scan(self, **inputs: Value) -> Scope:
        for name, value in inputs.items():
            assert self.section_of[name] == "VAR_INPUT"
            self.memory[name] = checked(self.variables[name], value)
        for statement in self.body:
            statement(self.memory)
        return self.memory


def checked(kind: Type, value: Value) -> Value:
    """The value, if it is one of the type; differences of UDINT wrap, as PLCs have it."""
    if kind == "UDINT" and isinstance(value, int):
        return value & 0xFFFFFFFF
    if isinstance(kind, Array) and isinstance(value, list | tuple):
        if len(value) != kind.last + 1:
            raise StructuredTextError(f"{len(value)} values for {kind}")
        return [checked(kind.of, item) for item in value]
    if kind == "BOOL" and isinstance(value, bool):
        return value
    if isinstance(kind, str) and kind in RANGES and isinstance(value, int) and not isinstance(value, bool):
        least, most = RANGES[kind]
        if least <= value <= most:
            return value
    raise StructuredTextError(f"{value!r} is no {kind}")


def empty(kind: Type) -> Value:
    if isinstance(kind, Array):
        return [empty(kind.of) for _ in range(kind.first, kind.last + 1)]
    if isinstance(kind, Struct):
        return {name: empty(member) for name, member in kind.members}
    return False if kind == "BOOL" else 0


def load(text: str) -> Program:
    """Compile.

    Raises:
        StructuredTextError: a PLC's compiler would refuse it.
    """
    return _Parser(text).program()


class _Parser:
    def __init__(self, text: str) -> None:
        plain = re.sub(r"\(\*.*?\*\)", " ", text, flags=re.DOTALL)
        left = TOKEN.sub("", plain).strip()
        if left:
            raise StructuredTextError(f"cannot be read: {left[:40]!r}")
        self.tokens = [token.upper() for token in TOKEN.findall(plain)]
        self.at = 0
        self.types: dict[str, Struct] = {}
        self.made = Program()

    # Declarations

    def program(self) -> Program:
        while self.now() == "TYPE":
            self.structure()
        self.take("FUNCTION_BLOCK")
        self.name()
        while self.now() in {"VAR", "VAR_INPUT", "VAR_OUTPUT"}:
            self.section()
        self.made.body = self.block("END_FUNCTION_BLOCK")
        self.take("END_FUNCTION_BLOCK")
        return self.made

    def structure(self) -> None:
        self.take("TYPE")
        name = self.name()
        self.take(":", "STRUCT")
        members = []
        while self.now() != "END_STRUCT":
            member = self.name()
            self.take(":")
            members.append((member, self.type()))
            self.take(";")
        self.take("END_STRUCT", ";", "END_TYPE")
        self.types[name] = Struct(name, tuple(members))

    def section(self) -> None:
        section = self.next()
        constant = self.now() == "CONSTANT" and self.next() == "CONSTANT"
        while self.now() != "END_VAR":
            name = self.name()
            if name in self.made.variables or name in self.types:
                raise StructuredTextError(f"{name} is declared twice: case does not tell names apart")
            self.take(":")
            kind = self.type()
            value = empty(kind)
            if self.now() == ":=":
                self.take(":=")
                value = checked(kind, self.typed(self.expression(), kind).value({}))
            self.take(";")
            self.made.variables[name] = kind
            self.made.section_of[name] = section
            self.made.memory[name] = value
            if constant:
                self.made.constants.add(name)
        self.take("END_VAR")

    def type(self) -> Type:
        name = self.name()
        if name == "ARRAY":
            self.take("[")
            first = int(self.next())
            self.take("..")
            last = int(self.next())
            self.take("]", "OF")
            return Array(first, last, self.type())
        if name in self.types:
            return self.types[name]
        if name != "BOOL" and name not in RANGES:
            raise StructuredTextError(f"{name} is no type")
        return name

    # Statements

    def block(self, *ends: str) -> list[Run]:
        statements = []
        while self.now() not in ends:
            statements.append(self.statement())
        return statements

    def statement(self) -> Run:
        if self.now() == "IF":
            return self.choice()
        if self.now() == "FOR":
            return self.loop()
        return self.assignment()

    def choice(self) -> Run:
        branches: list[tuple[Evaluate, list[Run]]] = []
        while self.now() in {"IF", "ELSIF"}:
            self.next()
            condition = self.typed(self.expression(), "BOOL").value
            self.take("THEN")
            branches.append((condition, self.block("ELSIF", "ELSE", "END_IF")))
        otherwise = []
        if self.now() == "ELSE":
            self.next()
            otherwise = self.block("END_IF")
        self.take("END_IF", ";")

        def run(scope: Scope) -> None:
            for statement in next((body for condition, body in branches if condition(scope)), otherwise):
                statement(scope)

        return run

    def loop(self) -> Run:
        self.take("FOR")
        counter = self.name()
        self.take(":=")
        first = self.typed(self.expression(), "INT").value
        self.take("TO")
        last = self.typed(self.expression(), "INT").value
        self.take("DO")
        body = self.block("END_FOR")
        self.take("END_FOR", ";")

        def run(scope: Scope) -> None:
            least, most = first(scope), last(scope)
            assert isinstance(least, int)
            assert isinstance(most, int)
            for number in range(least, most + 1):
                scope[counter] = number
                for statement in body:
                    statement(scope)

        return run

    def assignment(self) -> Run:
        first = self.name()
        if self.made.section_of.get(first) == "VAR_INPUT" or first in self.made.constants:
            raise StructuredTextError(f"{first} is an input or a constant: nothing is assigned to it")
        kind, steps = self.path(first)
        self.take(":=")
        value = self.typed(self.expression(), kind).value
        self.take(";")
        *way, last = steps

        def run(scope: Scope) -> None:
            target: Value = scope
            for step in way:
                target = target[step(scope)]  # type: ignore[index]
            target[last(scope)] = checked(kind, value(scope))  # type: ignore[index]

        return run

    def path(self, name: str) -> tuple[Type, list[Evaluate]]:
        """A variable, an array's item, a structure's member: its type and the keys that lead there."""
        kind = self.made.variables.get(name)
        if kind is None:
            raise StructuredTextError(f"{name} is not declared")
        steps: list[Evaluate] = [lambda _: name]
        while self.now() in {"[", "."}:
            if self.next() == "[":
                if not isinstance(kind, Array):
                    raise StructuredTextError(f"{name} is no array")
                steps.append(_within(self.typed(self.expression(), "INT").value, kind))
                kind = kind.of
                self.take("]")
            else:
                member = self.name()
                if not isinstance(kind, Struct) or member not in dict(kind.members):
                    raise StructuredTextError(f"{name} has no member {member}")
                kind = dict(kind.members)[member]
                steps.append(lambda _, member=member: member)  # type: ignore[misc]
        return kind, steps

    # Expressions, loosest first

    def expression(self) -> Expression:
        return self.chain(self.exclusive, {"OR": operator.or_}, logic=True)

    def exclusive(self) -> Expression:
        return self.chain(self.conjunction, {"XOR": operator.xor}, logic=True)

    def conjunction(self) -> Expression:
        return self.chain(self.equality, {"AND": operator.and_}, logic=True)

    def equality(self) -> Expression:
        return self.chain(self.comparison, {"=": operator.eq, "<>": operator.ne}, gives="BOOL")

    def comparison(self) -> Expression:
        signs = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
        return self.chain(self.sum, signs, gives="BOOL", numbers=True)

    def sum(self) -> Expression:
        return self.chain(self.product, {"+": operator.add, "-": operator.sub}, numbers=True)

    def product(self) -> Expression:
        signs = {"*": operator.mul, "/": operator.floordiv, "MOD": operator.mod}
        return self.chain(self.unary, signs, numbers=True)

    def chain(
        self,
        inner: Callable[[], Expression],
        signs: dict[str, Callable[..., Value]],
        *,
        gives: str = "",
        logic: bool = False,
        numbers: bool = False,
    ) -> Expression:
        left = inner()
        while self.now() in signs:
            sign = self.next()
            right = inner()
            kind = right.type if left.type == NUMBER else left.type
            left, right = self.typed(left, kind), self.typed(right, kind)
            if isinstance(kind, Array | Struct) or (logic and kind not in {"BOOL", "WORD"}):
                raise StructuredTextError(f"{sign} does not take {kind}")
            if numbers and kind in {"BOOL", "WORD"}:
                raise StructuredTextError(f"{sign} does not take {kind}: convert it")
            left = Expression(gives or kind, _both(signs[sign], left.value, right.value))
        return left

    def unary(self) -> Expression:
        if self.now() == "NOT":
            self.next()
            inner = self.typed(self.unary(), "BOOL").value
            return Expression("BOOL", lambda scope: not inner(scope))
        if self.now() == "-":
            self.next()
            number = -int(self.next())
            return Expression(NUMBER, lambda _: number)
        if self.now() == "(":
            self.next()
            expression = self.expression()
            self.take(")")
            return expression
        return self.primary()

    def primary(self) -> Expression:
        if self.now() in {"TRUE", "FALSE"}:
            true = self.next() == "TRUE"
            return Expression("BOOL", lambda _: true)
        token = self.next()
        if token[0].isdigit():
            number = int(token[3:], 16) if token.startswith("16#") else int(token)
            return Expression(NUMBER, lambda _: number)
        if self.now() == "(":
            return self.conversion(token)
        kind, steps = self.path(token)

        def value(scope: Scope) -> Value:
            found: Value = scope
            for step in steps:
                found = found[step(scope)]  # type: ignore[index]
            return found

        return Expression(kind, value)

    def conversion(self, name: str) -> Expression:
        source, _, target = name.partition("_TO_")
        if source not in RANGES or target not in RANGES:
            raise StructuredTextError(f"{name} is no conversion")
        self.take("(")
        inner = self.typed(self.expression(), source).value
        self.take(")")
        return Expression(target, inner)

    def typed(self, expression: Expression, kind: Type) -> Expression:
        if expression.type != kind and not (expression.type == NUMBER and kind in {*RANGES, NUMBER}):
            raise StructuredTextError(f"{expression.type} where {kind} is wanted, before {' '.join(self.ahead())}")
        return Expression(kind, expression.value)

    # Tokens

    def now(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def ahead(self) -> Iterator[str]:
        yield from self.tokens[self.at : self.at + 8]

    def next(self) -> str:
        token = self.now()
        self.at += 1
        return token

    def take(self, *wanted: str) -> None:
        for token in wanted:
            if self.next() != token:
                raise StructuredTextError(f"{token} is missing before {' '.join(self.ahead())}")

    def name(self) -> str:
        token = self.next()
        if not re.fullmatch(r"[A-Z_]\w*", token):
            raise StructuredTextError(f"{token} is no name, before {' '.join(self.ahead())}")
        return token


def _both(combine: Callable[..., Value], left: Evaluate, right: Evaluate) -> Evaluate:
    return lambda scope: combine(left(scope), right(scope))


def _within(index: Evaluate, kind: Array) -> Evaluate:
    def position(scope: Scope) -> Value:
        number = index(scope)
        if not isinstance(number, int) or not kind.first <= number <= kind.last:
            raise StructuredTextError(f"index {number} is outside {kind.first}..{kind.last}")
        return number - kind.first

    return position
