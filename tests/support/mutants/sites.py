"""The mutants of a file: cosmic-ray's operators at every place where they change the program."""

import ast
import random
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

# Each operator for its nearest neighbours. cosmic-ray has some 180 more pairs: most raise a TypeError on floats, and a
# test that sees an exception has seen nothing of the formula.
OPERATORS = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul")),
    *(f"ReplaceUnaryOperator_Delete_{sign}" for sign in ("USub", "Not", "Invert")),
    *(
        f"ReplaceComparisonOperator_{pair}"
        for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")
    ),
    *("AddNot", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop", "NumberReplacer"),
]


@dataclass(frozen=True)
class Place:
    """The `occurrence`-th place of a file that an operator changes."""

    path: Path
    operator: str
    occurrence: int


@dataclass(frozen=True)
class Mutant:
    """One changed line of a file: `number` from 1, `line` as it stands and `mutated` in its stead."""

    path: str
    number: int
    line: str
    mutated: str

    @property
    def source(self) -> str:
        """The whole mutated file."""
        lines = Path(self.path).read_text().splitlines(keepends=True)
        lines[self.number - 1] = lines[self.number - 1].replace(self.line, self.mutated)
        return "".join(lines)


def places(path: Path) -> list[Place]:
    """Every operator at every place; a few of them are the same program, or none."""
    nodes = list(ast_nodes(get_ast(path.read_text())))
    found = []
    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        count = sum(len(list(operator.mutation_positions(node))) for node in nodes)
        found += [Place(path, name, occurrence) for occurrence in range(count)]
    return found


def sample(everything: list[Place], count: int, seed: int) -> list[Mutant]:
    """`count` different mutants at random, in the order of files and lines."""
    order, mutants = random.Random(seed).sample(everything, len(everything)), {}
    for place in order:
        program, mutant = _mutated(place)
        if program is not None:
            mutants.setdefault((mutant.path, program), mutant)
        if len(mutants) == count:
            break
    return sorted(mutants.values(), key=lambda mutant: (mutant.path, mutant.number, mutant.mutated))


def _mutated(place: Place) -> tuple[str | None, Mutant]:
    """The program as a syntax tree, None if it is the original or none at all, and the mutant."""
    source = place.path.read_text()
    mutated = mutate_code(source, get_operator(f"core/{place.operator}")(), place.occurrence)
    pairs = enumerate(zip(source.splitlines(), mutated.splitlines(), strict=True), 1)
    number, (line, other) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    program = _program(mutated)
    return None if program == _program(source) else program, Mutant(
        str(place.path), number, line.strip(), other.strip()
    )


def _program(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None
