"""An exact reader of VNN-LIB 1.0.

The text is evaluated while it is read: a closing parenthesis applies its operator to the operands
collected since the opening one. There is no recursion, so nesting may be as deep as the file is
long, and every error knows its place.
"""

from __future__ import annotations

import re
from typing import NoReturn

from verifier.core.errors import PropertyError
from verifier.io.formula import (
    FALSE,
    ONE,
    TRUE,
    Expression,
    Formula,
    Linear,
    apply,
    decimal,
)

_TOKEN = re.compile(r';[^\n]*|[()]|"[^"]*"|\|[^|]*\||[^\s();]+')
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)\Z", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)\Z", re.IGNORECASE)

_DECLARATIONS = ("declare-const", "declare-fun")
_ASKING = ("check-sat", "exit")
_WITHOUT_EFFECT = ("set-logic", "set-info", "set-option", "get-model", *_ASKING)


class _Frame:
    """One open parenthesis: where it stands, its operator, and the operands so far."""

    __slots__ = ("head", "operands", "start", "words")

    def __init__(self, start: int) -> None:
        self.start = start
        self.head = ""
        self.words: list[str] = []
        self.operands: list[Expression] = []


def read_formulas(text: str, *, n_inputs: int, n_outputs: int, name: str) -> list[Formula]:
    """The assertions of a VNN-LIB 1.0 text.

    Args:
        text: the whole file.
        n_inputs: number of network inputs; X_0.. must all be declared, and no more.
        n_outputs: number of network outputs, likewise for Y_0...
        name: the file, for messages.

    Raises:
        PropertyError: anything wrong, with line and column.
    """
    return _Reader(text, n_inputs, n_outputs, name).read()


class _Reader:
    """The state of one reading."""

    def __init__(self, text: str, n_inputs: int, n_outputs: int, name: str) -> None:
        self.text, self.name = text, name
        self.sizes = {"X": n_inputs, "Y": n_outputs}
        self.variables: dict[str, Linear] = {}
        self.numbers: dict[str, Linear] = {}
        self.assertions: list[Formula] = []
        self.stack: list[_Frame] = []
        #: The command that asked the question or ended the file; nothing may be added after it.
        self.asked = ""

    def fail(self, offset: int, message: str) -> NoReturn:
        """Raise with the file, line and column of the offset."""
        line = self.text.count("\n", 0, offset) + 1
        column = offset - (self.text.rfind("\n", 0, offset) + 1) + 1
        raise PropertyError(f"{self.name}:{line}:{column}: {message}")

    def read(self) -> list[Formula]:
        """Evaluate the whole text."""
        stack = self.stack
        for match in _TOKEN.finditer(self.text):
            token = match.group()
            if token == "(":
                if stack and not stack[-1].head:
                    self.fail(match.start(), "expected an operator, found '('")
                stack.append(_Frame(match.start()))
            elif token == ")":
                if not stack:
                    self.fail(match.start(), "')' without '('")
                self._close(stack.pop())
            elif token[0] != ";":
                self._word(token, match.start())
        if stack:
            self.fail(stack[-1].start, "'(' is never closed")
        self._check_declared()
        if not self.assertions:
            self.fail(len(self.text), "the file has no (assert ...)")
        return self.assertions

    def _word(self, token: str, start: int) -> None:
        """A token that is not a parenthesis: an operator, or an operand."""
        if not self.stack:
            self.fail(start, f"expected '(', found {token[:30]!r}")
        frame = self.stack[-1]
        if not frame.head:
            frame.head = token
            known = token in _DECLARATIONS or token in _WITHOUT_EFFECT or token == "assert"
            if len(self.stack) == 1 and not known:
                self.fail(start, f"unknown command {token[:30]!r}; known: assert, declare-const")
        elif self.stack[0].head != "assert":
            frame.words.append(token)
        else:
            frame.operands.append(self._operand(token, start))

    def _operand(self, token: str, start: int) -> Expression:
        """A variable, a number, true or false."""
        found = self.variables.get(token) or self.numbers.get(token)
        if found is not None:
            return found
        if _NUMBER.match(token):
            try:
                self.numbers[token] = Linear({}, decimal(token))
            except PropertyError as error:
                self.fail(start, str(error))
            return self.numbers[token]
        if token in ("true", "false"):
            return TRUE if token == "true" else FALSE
        if _NOT_FINITE.match(token):
            message = f"{token} is not a finite number"
        elif _VARIABLE.match(token):
            message = f"variable {token} is used before it is declared"
        else:
            message = f"expected a number or a variable X_i or Y_i, found {token[:30]!r}"
        return self.fail(start, message)

    def _close(self, frame: _Frame) -> None:
        """Apply the operator of a finished parenthesis."""
        outer = self.stack[-1] if self.stack else None
        if outer is None:
            self._command(frame)
        elif self.stack[0].head != "assert":
            outer.words.append("()" if not frame.head else "(...)")
        elif not frame.head:
            self.fail(frame.start, "expected an operator, found '()'")
        else:
            try:
                outer.operands.append(apply(frame.head, frame.operands))
            except PropertyError as error:
                self.fail(frame.start, str(error))

    def _command(self, frame: _Frame) -> None:
        """A command on the outermost level."""
        if not frame.head:
            self.fail(frame.start, "expected a command, found '()'")
        if frame.head in _ASKING:
            self.asked = frame.head
        elif self.asked and frame.head in (*_DECLARATIONS, "assert"):
            # To other programs it is no part of the question, which it would make narrower.
            self.fail(frame.start, f"({frame.head} ...) after ({self.asked})")
        if frame.head in _DECLARATIONS:
            self._declare(frame)
        elif frame.head == "assert":
            if len(frame.operands) != 1 or isinstance(frame.operands[0], Linear):
                self.fail(frame.start, "assert takes exactly one true-or-false formula")
            self.assertions.append(frame.operands[0])

    def _declare(self, frame: _Frame) -> None:
        """(declare-const NAME Real) or (declare-fun NAME () Real)."""
        words = frame.words
        if frame.head == "declare-fun" and len(words) == 3 and words[1] == "()":
            words = [words[0], words[2]]
        if len(words) != 2:
            self.fail(frame.start, f"expected ({frame.head} NAME Real)")
        variable, sort = words
        match = _VARIABLE.match(variable)
        if not match:
            self.fail(frame.start, f"variables are called X_i or Y_i, not {variable[:30]!r}")
        if sort != "Real":
            self.fail(frame.start, f"{variable} has sort {sort[:30]!r}; only Real is supported")
        if variable in self.variables:
            self.fail(frame.start, f"{variable} is declared twice")
        letter, index = match.group(1), int(match.group(2)[:20])
        size, kind = self.sizes[letter], "inputs" if letter == "X" else "outputs"
        if index >= size:
            self.fail(frame.start, f"{variable} is declared, but the network has {size} {kind}")
        number = index if letter == "Y" else self.sizes["Y"] + index
        self.variables[variable] = Linear({number: ONE}, 0 * ONE)

    def _check_declared(self) -> None:
        """Every input and output of the network must have been declared."""
        for letter, kind in (("X", "inputs"), ("Y", "outputs")):
            for i in range(self.sizes[letter]):
                if f"{letter}_{i}" not in self.variables:
                    self.fail(
                        len(self.text),
                        f"{letter}_{i} is not declared, but the network has "
                        f"{self.sizes[letter]} {kind}",
                    )
