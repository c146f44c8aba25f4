"""Plausible mistakes, planted one at a time into the syntax tree of a module."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Pow: ast.Mult,
}
SWAPS = {"min": "max", "max": "min", "any": "all", "all": "any", "appendleft": "append", "popleft": "pop"}
NOT_BEHAVIOUR = (
    ast.Import,
    ast.ImportFrom,
    ast.ClassDef,
    ast.FunctionDef,
    ast.Assert,
    ast.Pass,
    ast.AnnAssign,
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`name` stays the same while the code around it changes; `source` is the whole mutated module."""

    name: str
    source: str


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its text."""
    tree = ast.parse(source)
    seen: dict[str, int] = {}
    for path, function in _places(tree):
        node = _at(tree, path)
        for number, (what, _) in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            _put(changed, path, list(_changes(_at(changed, path)))[number][1])
            text = ast.unparse(ast.fix_missing_locations(changed))
            name = f"{file} {function}: {what}"
            seen[name] = seen.get(name, 0) + 1
            yield Mutant(name if seen[name] == 1 else f"{name} #{seen[name]}", text)


Path = tuple[tuple[str, int | None], ...]


def _places(tree: ast.Module) -> Iterator[tuple[Path, str]]:
    """Where something can be changed: the path to a node inside a function, and the function's name."""
    yield from _walk(tree, (), "")


def _walk(node: ast.AST, path: Path, function: str) -> Iterator[tuple[Path, str]]:
    if isinstance(node, ast.FunctionDef):
        function = f"{function}.{node.name}".lstrip(".")
        fields = [("body", node.body)]
    elif isinstance(node, ast.ClassDef):
        function = node.name
        fields = [("body", node.body)]
    else:
        fields = list(ast.iter_fields(node))
    if function and not isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield path, function
    for name, value in fields:
        if name in {"annotation", "returns", "ctx"} or isinstance(node, ast.Assert):
            continue
        if isinstance(value, ast.AST):
            yield from _walk(value, (*path, (name, None)), function)
        elif isinstance(value, list):
            for n, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _walk(item, (*path, (name, n)), function)


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node = tree
    for name, n in path:
        value = getattr(node, name)
        node = value if n is None else value[n]
    return node


def _put(tree: ast.AST, path: Path, node: ast.AST) -> None:
    parent = _at(tree, path[:-1])
    name, n = path[-1]
    if n is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[n] = node


def _text(node: ast.AST) -> str:
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 100 else text[:97] + "..."


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What can go wrong at this node: a description, and the node in its place."""
    yield from _statements(node)
    yield from _conditions(node)
    yield from _expressions(node)


def _statements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    if not isinstance(node, ast.stmt) or isinstance(node, NOT_BEHAVIOUR):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if ast.unparse(node).startswith("assert_never("):
        return  # for the type checker
    if isinstance(
        node, ast.Assign | ast.AugAssign | ast.Expr | ast.Return | ast.Raise | ast.If | ast.For | ast.While
    ):
        yield f"drop `{_text(node)}`", ast.Pass()


def _conditions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If() | ast.IfExp() | ast.While():
            changed = copy.deepcopy(node)
            changed.test = ast.UnaryOp(ast.Not(), changed.test)
            yield f"negate `{_text(node.test)}`", changed
        case ast.comprehension(ifs=[_, *_]):
            for n, test in enumerate(node.ifs):
                changed_comprehension = copy.deepcopy(node)
                del changed_comprehension.ifs[n]
                yield f"do not filter by `{_text(test)}`", changed_comprehension
        case ast.match_case(guard=ast.expr() as guard):
            changed_case = copy.deepcopy(node)
            changed_case.guard = None
            yield f"do not guard by `{_text(guard)}`", changed_case
        case ast.BoolOp():
            other = copy.deepcopy(node)
            other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield f"swap and/or in `{_text(node)}`", other
            for n, value in enumerate(node.values):
                values = [v for m, v in enumerate(node.values) if m != n]
                rest = values[0] if len(values) == 1 else ast.BoolOp(node.op, values)
                yield f"drop `{_text(value)}` from `{_text(node)}`", copy.deepcopy(rest)
        case ast.UnaryOp(op=ast.Not()):
            yield f"drop not in `{_text(node)}`", copy.deepcopy(node.operand)
        case ast.Compare(ops=[op]):
            for kind in COMPARISONS.get(type(op), ()):
                compare = copy.deepcopy(node)
                compare.ops = [kind()]
                yield f"`{_text(node)}` -> `{_text(compare)}`", compare
        case _:
            pass


def _expressions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            changed = copy.deepcopy(node)
            changed.op = ARITHMETIC[type(op)]()
            yield f"`{_text(node)}` -> `{_text(changed)}`", changed
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield f"{value} -> {value + 1}", ast.Constant(value + 1)
        case ast.Constant(value=str() as text) if text.isidentifier():
            yield f"'{text}' -> 'mutant'", ast.Constant("mutant")
        case ast.Tuple(elts=[_, *_] as elements, ctx=ast.Load()):
            yield from _elements(node, elements)
        case ast.Call():
            yield from _calls(node)
        case ast.Slice(lower=ast.expr()):
            yield f"from the start in `[{_text(node)}]`", ast.Slice(None, node.upper, node.step)
        case ast.Slice(upper=ast.expr()):
            yield f"to the end in `[{_text(node)}]`", ast.Slice(node.lower, None, node.step)
        case _:
            pass


def _elements(node: ast.Tuple, elements: list[ast.expr]) -> Iterator[tuple[str, ast.AST]]:
    starred = any(isinstance(e, ast.Starred) for e in elements)
    for n, element in enumerate(elements):
        if starred or len(elements) == 1:
            rest = [copy.deepcopy(e) for m, e in enumerate(elements) if m != n]
            yield f"leave `{_text(element)}` out of `{_text(node)}`", ast.Tuple(rest, ast.Load())
    if starred:
        for n in range(len(elements) - 1):
            swapped = [copy.deepcopy(e) for e in elements]
            swapped[n], swapped[n + 1] = swapped[n + 1], swapped[n]
            yield f"swap {n} and {n + 1} of `{_text(node)}`", ast.Tuple(swapped, ast.Load())


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    for n, keyword in enumerate(node.keywords):
        if keyword.arg == "strict":
            continue  # False is the default
        changed = copy.deepcopy(node)
        del changed.keywords[n]
        yield f"leave {keyword.arg}= out of `{_text(node)}`", changed
    name = node.func.id if isinstance(node.func, ast.Name) else None
    if name in SWAPS:
        changed = copy.deepcopy(node)
        changed.func = ast.Name(SWAPS[name], ast.Load())
        yield f"`{name}` -> `{SWAPS[name]}` in `{_text(node)}`", changed
    if isinstance(node.func, ast.Attribute) and node.func.attr in SWAPS:
        changed = copy.deepcopy(node)
        assert isinstance(changed.func, ast.Attribute)
        changed.func.attr = SWAPS[node.func.attr]
        yield f"`{node.func.attr}` -> `{SWAPS[node.func.attr]}` in `{_text(node)}`", changed
