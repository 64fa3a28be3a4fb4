"""Rules for a folder's Python code: what fails, or is unsafe, on other machines. It is parsed and never imported."""

import ast
import sys
from collections.abc import Iterator

from transformers.dynamic_module_utils import get_relative_imports

from publish.check.folder import Folder, Problem, shown
from publish.manifest import REMOTE_CODE

LIBRARIES = {"torch", "transformers"}
COMPANIONS = LIBRARIES | {"tokenizers"}
"""What other files of a release may import; tokenizers comes with transformers."""
UNSAFE_MODULES = {
    *("subprocess", "multiprocessing", "pty", "ctypes", "signal", "webbrowser", "antigravity"),
    *("socket", "socketserver", "ssl", "asyncio", "urllib", "http", "ftplib", "smtplib", "poplib", "imaplib", "xmlrpc"),
    *("pickle", "marshal", "shelve", "dbm", "importlib", "imp", "runpy", "code", "codeop", "builtins", "zipimport"),
}
"""Modules of the standard library that start programs, use the network or run code from data."""
UNSAFE_NAMES = {"exec", "eval", "compile", "__import__", "__builtins__", "breakpoint"}
UNSAFE_ATTRIBUTES = {
    "os": ("system", "popen", "exec", "spawn", "fork", "posix_spawn", "startfile"),
    "torch": ("load", "hub"),
}
PROJECT = {"axion", "publish", "playground"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def auto_map_names_classes(folder: Folder) -> Iterator[Problem]:
    """`auto_map` names classes of this folder, not of another repository (transformers PR#22698, #37716)."""
    auto_map = folder.data("config.json").get("auto_map")
    if not folder.data("config.json"):
        return
    if not isinstance(auto_map, dict) or not {"AutoConfig", "AutoModelForCausalLM"} <= set(auto_map):
        what = "has no auto_map with AutoConfig and AutoModelForCausalLM"
        yield Problem("config.json", None, what, "Auto classes need it to find the code; name both")
        return
    for auto_class, target in auto_map.items():
        module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
        what = f"has {shown(target)} for {shown(auto_class)} in its auto_map"
        if not module or not name:
            yield Problem("config.json", None, what, 'write "module.Class"')
        elif "--" in target:
            yield Problem(
                "config.json", None, what, f"that is code of another repository: write {shown(target.split('--')[-1])}"
            )
        elif "." in module or "/" in module:
            yield Problem("config.json", None, what, "code must be beside config.json, not in a subfolder")
        elif not folder.names.get(f"{module}.py"):
            yield Problem("config.json", None, what, f"there is no {shown(f'{module}.py')}")
        elif (tree := folder.tree(f"{module}.py")) and name not in _classes(tree):
            yield Problem("config.json", None, what, f"{module}.py has no class of that name")


def relative_imports(folder: Folder) -> Iterator[Problem]:
    """Files of the folder import each other only as `from .x import y` (transformers#20813, #29714).

    transformers finds the files to copy by searching for lines of that form: it misses `from . import x`, copies no
    subfolders, and mistakes such a line in a docstring for an import.
    """
    for name, tree in _python_files(folder):
        written = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            module = "." * (node.level - 1) + (node.module or "")
            written.add(module)
            if node.level > 1:
                remedy = "published files have no parent package; write from .x import y"
            elif not module:
                remedy = "transformers does not find it; write from .x import y"
            elif "." in module:
                remedy = "subpackages are not copied; move the file beside this one"
            elif not folder.names.get(f"{module}.py"):
                remedy = f"there is no {module}.py; add it or remove the import"
            else:
                continue
            yield Problem(name, node.lineno, f"has 'from .{module} import …'", remedy)
        found = set(get_relative_imports(folder.path / name))
        for module in sorted(module for module in written - found if module.isidentifier()):
            what = f"imports .{module} where transformers does not find it"
            yield Problem(name, None, what, f"put from .{module} import … on a line of its own")
        for module in sorted(found - written):
            what = f"has a line in a string that transformers mistakes for an import of .{module}"
            yield Problem(name, None, what, "reword it")


def known_imports(folder: Folder) -> Iterator[Problem]:
    """Remote code imports torch, transformers and the standard library only; others may not have anything else."""
    remote = _remote_code(folder)
    for name, tree in _python_files(folder):
        allowed = LIBRARIES if name in remote else COMPANIONS
        own = {file.removesuffix(".py") for file in folder.files if name not in remote}
        for line, module in _imported(tree):
            top = module.partition(".")[0]
            if top in PROJECT:
                yield Problem(name, line, f"imports {module}", "others do not have this project; copy what is needed")
            elif top not in allowed | own | sys.stdlib_module_names:
                remedy = f"published code may import {', '.join(sorted(allowed))} and the standard library"
                yield Problem(name, line, f"imports {module}", remedy)


def no_unsafe_code(folder: Folder) -> Iterator[Problem]:
    """Published code starts no programs, uses no network and evaluates no strings, so that users can trust it."""
    remedy = "published code must only compute; remove it"
    for name, tree in _python_files(folder):
        for line, module in _imported(tree):
            top, _, rest = module.partition(".")
            if top in UNSAFE_MODULES or rest.startswith(UNSAFE_ATTRIBUTES.get(top, "\0")):
                yield Problem(name, line, f"imports {module}", remedy)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in UNSAFE_NAMES:
                yield Problem(name, node.lineno, f"uses {node.id}", remedy)
            elif isinstance(node, ast.Attribute):
                top, _, rest = _dotted(node).partition(".")
                if rest in UNSAFE_ATTRIBUTES.get(top, ()) or (top == "os" and rest.startswith(("exec", "spawn"))):
                    yield Problem(name, node.lineno, f"uses {top}.{rest}", remedy)


def config_class(folder: Folder) -> Iterator[Problem]:
    """The config class derives from PreTrainedConfig and has config.json's `model_type`; Auto classes need both."""
    for file, node in _mapped(folder, "AutoConfig"):
        family = _family(folder, node)
        if not {"PreTrainedConfig", "PretrainedConfig"} & _bases(family):
            yield Problem(
                file,
                node.lineno,
                f"has a config class {node.name} that is not a config",
                "derive it from PreTrainedConfig",
            )
        values = [value for ancestor in family if (value := _attribute(ancestor, "model_type"))]
        ours, theirs = (_constant(values[0]) if values else None), folder.data("config.json").get("model_type")
        if ours is None or ours != theirs:
            what = f"gives {node.name} the model_type {shown(ours)}, but config.json has {shown(theirs)}"
            yield Problem(file, values[0].lineno if values else node.lineno, what, "use the same in both")


def post_init(folder: Folder) -> Iterator[Problem]:
    """A model's `__init__` ends with `self.post_init()`; without it tied weights fail to load (transformers#43951)."""
    for file, node in _mapped(folder, "AutoModel"):
        method = next((own for ancestor in _family(folder, node) if (own := _method(ancestor, "__init__"))), None)
        if method and not any(_dotted(call.func) == "self.post_init" for call in _calls(method)):
            yield Problem(
                file,
                method.lineno,
                f"does not call post_init() in {node.name}",
                "end its __init__ with self.post_init()",
            )


def tied_weights(folder: Folder) -> Iterator[Problem]:
    """`_tied_weights_keys` is a dict since transformers 5, and required where weights are tied (mteb#3768)."""
    remedy = 'write {"lm_head.weight": "model.embed_tokens.weight"}, with the names of this model'
    for file, tree in _remote_code(folder).items():
        for node in _classes(tree).values():
            value = _attribute(node, "_tied_weights_keys")
            if value and not isinstance(value, ast.Dict) and _constant(value, "no") is not None:
                yield Problem(file, value.lineno, f"has _tied_weights_keys in {node.name} that is not a dict", remedy)
    if folder.data("config.json").get("tie_word_embeddings") is True:
        for file, node in _mapped(folder, "AutoModelForCausalLM"):
            if not any(_attribute(ancestor, "_tied_weights_keys") for ancestor in _family(folder, node)):
                yield Problem(file, node.lineno, f"ties weights in {node.name} without _tied_weights_keys", remedy)


def generation_mixin(folder: Folder) -> Iterator[Problem]:
    """The language model inherits GenerationMixin; PreTrainedModel has no `generate` (transformers#33150, #36605)."""
    for file, node in _mapped(folder, "AutoModelForCausalLM"):
        if "GenerationMixin" not in _bases(_family(folder, node)):
            yield Problem(
                file,
                node.lineno,
                f"has {node.name} without GenerationMixin",
                "add it to the base classes, which have no generate()",
            )


def initialization(folder: Folder) -> Iterator[Problem]:
    """`_init_weights` uses `transformers.initialization`, which skips loaded weights; under transformers 5, anything
    else overwrites them with random numbers (genomeocean PR#8)."""
    remedy = "use transformers.initialization, which skips loaded weights"
    for file, tree in _remote_code(folder).items():
        safe = _names_of(tree, "transformers.initialization")
        for node in _classes(tree).values():
            for call in _calls(_method(node, "_init_weights")):
                called = _dotted(call.func)
                method = called.rpartition(".")[2]
                if method.endswith("_") and not method.endswith("__") and called.partition(".")[0] not in safe:
                    yield Problem(
                        file, call.lineno, f"initializes weights with {shown(called)} in _init_weights", remedy
                    )


def buffers(folder: Folder) -> Iterator[Problem]:
    """Non-persistent buffers are in a *RotaryEmbedding class: only there does transformers restore them after building
    a model on the meta device; elsewhere they hold garbage (transformers#48892, #45902)."""
    for file, tree in _remote_code(folder).items():
        for node in _classes(tree).values():
            for call in _calls(node):
                if node.name.endswith("RotaryEmbedding") or not _dotted(call.func).endswith(".register_buffer"):
                    continue
                persistent = [word.value for word in call.keywords if word.arg == "persistent"] or call.args[2:3]
                if persistent and _constant(persistent[0], True) is False:
                    what = f"has a non-persistent buffer in {node.name}"
                    yield Problem(
                        file, call.lineno, what, "make it persistent, or move it to a class named *RotaryEmbedding"
                    )


# --- Reading syntax trees ---------------------------------------------------------------------------------------------


def _python_files(folder: Folder) -> list[tuple[str, ast.Module]]:
    """Name and syntax tree of every valid Python file."""
    return [(name, tree) for name in folder.files if name.endswith(".py") and (tree := folder.tree(name))]


def _remote_code(folder: Folder) -> dict[str, ast.Module]:
    """The files that transformers loads, and those with the names of this version's remote code, with their trees."""
    names = sorted(folder.remote_code | set(REMOTE_CODE))
    return {name: tree for name in names if (tree := folder.tree(name))}


def _mapped(folder: Folder, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """File and class of every auto_map entry whose Auto class starts with `prefix`, each once."""
    auto_map = folder.data("config.json").get("auto_map")
    targets = {str(target): key for key, target in auto_map.items()} if isinstance(auto_map, dict) else {}
    for target, auto_class in targets.items():
        module, _, name = target.rpartition(".")
        tree = folder.tree(f"{module}.py")
        if auto_class.startswith(prefix) and tree and name in _classes(tree):
            yield f"{module}.py", _classes(tree)[name]


def _classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _family(folder: Folder, node: ast.ClassDef) -> list[ast.ClassDef]:
    """The class and its ancestors that the folder's own code defines, nearest first."""
    known = {}
    for tree in _remote_code(folder).values():
        known |= _classes(tree)
    family, waiting = [], [node]
    while waiting:
        family.append(waiting.pop(0))
        bases = (known.get(_dotted(base)) for base in family[-1].bases)
        waiting += [base for base in bases if base and base not in family and base not in waiting]
    return family


def _bases(family: list[ast.ClassDef]) -> set[str]:
    """The names of all base classes, without modules."""
    return {_dotted(base).rpartition(".")[2] for node in family for base in node.bases}


def _attribute(node: ast.ClassDef, name: str) -> ast.expr | None:
    """The value that a class body assigns to a name."""
    for statement in node.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return statement.value
    return None


def _method(node: ast.ClassDef, name: str) -> _Function | None:
    return next((child for child in node.body if isinstance(child, _Function) and child.name == name), None)


def _calls(node: ast.AST | None) -> Iterator[ast.Call]:
    return (child for child in ast.walk(node) if isinstance(child, ast.Call)) if node else iter(())


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _names_of(tree: ast.Module, module: str) -> set[str]:
    """The names under which a file imports a module, or something from it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname for alias in node.names if alias.name == module and alias.asname}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if node.module == module or f"{node.module}.{alias.name}" == module:
                    names.add(alias.asname or alias.name)
    return names


def _dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression. A first part that is not a name is left out: `.normal_` for `x[0].normal_`."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (
        ".".join([node.id if isinstance(node, ast.Name) else "", *reversed(parts)])
        if parts or isinstance(node, ast.Name)
        else ""
    )


def _constant(node: ast.expr, otherwise: object = None) -> object:
    return node.value if isinstance(node, ast.Constant) else otherwise
