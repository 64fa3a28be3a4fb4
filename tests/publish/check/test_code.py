"""Rules for the Python code of a release."""

import pytest

from publish.check import code as rules
from publish.check.lint import lint
from tests.publish.check.spoil import add, fields, swap, swap_code

REMOTE = "modeling_axion.py"
UNSAFE = ": published code must only compute; remove it"
IMPORTS = REMOTE + r" imports {} \(line \d+\)"

BROKEN = [
    (rules.auto_map_names_classes, fields("config.json", auto_map=None), "config.json has no auto_map with AutoConfig"),
    (
        rules.auto_map_names_classes,
        swap("config.json", '"modeling_axion.AxionModel"', '"someone/x--modeling_axion.AxionModel"'),
        "config.json has 'someone/x--modeling_axion.AxionModel' for 'AutoModel'.*write 'modeling_axion.AxionModel'",
    ),
    (
        rules.auto_map_names_classes,
        swap("config.json", '"modeling_axion.AxionModel"', '"modeling_axion.AxionModle"'),
        r"config.json has 'modeling_axion.AxionModle' .*: modeling_axion.py has no class of that name",
    ),
    (
        rules.auto_map_names_classes,
        swap("config.json", '"modeling_axion.AxionModel"', '"axion.m.A"'),
        "not in a subfolder",
    ),
    (rules.auto_map_names_classes, swap("config.json", '"modeling_axion.AxionModel"', '"m.A"'), "there is no 'm.py'"),
    (rules.relative_imports, add(REMOTE, "from . import x\n"), r"has 'from \. import …' .*does not find it"),
    (rules.relative_imports, add(REMOTE, "from ..a import x\n"), "has 'from .*published files have no parent"),
    (rules.relative_imports, add(REMOTE, "from .a.b import x\n"), "has 'from .*subpackages"),
    (
        rules.relative_imports,
        add(REMOTE, "from .nowhere import x\n"),
        r"has 'from \.nowhere .*there is no nowhere",
    ),
    (
        rules.relative_imports,
        add("tokenizer.py", "if 1: from .modeling_axion import x\n"),
        "imports \\.modeling_axion where transformers does not find it",
    ),
    (rules.relative_imports, add(REMOTE, '"""\nfrom .nowhere import x\n"""\n'), r"mistakes for an import of \.nowhere"),
    (
        rules.known_imports,
        add(REMOTE, "import einops\n"),
        IMPORTS.format("einops") + ": .* import torch, transformers and",
    ),
    (rules.known_imports, add(REMOTE, "def f():\n    from axion import params\n"), IMPORTS.format("axion.params")),
    (rules.known_imports, add("tokenizer.py", "import numpy\n"), "tokenizer.py imports numpy .*tokenizers, torch"),
    (rules.no_unsafe_code, add(REMOTE, "import subprocess\n"), IMPORTS.format("subprocess") + UNSAFE),
    (rules.no_unsafe_code, add(REMOTE, "from urllib.request import urlopen\n"), IMPORTS.format("urllib.*") + UNSAFE),
    (rules.no_unsafe_code, add(REMOTE, "import os\nos.system('ls')\n"), r"uses os\.system \(line \d+\)" + UNSAFE),
    (rules.no_unsafe_code, add(REMOTE, "from os import popen\n"), IMPORTS.format("os.popen") + UNSAFE),
    (rules.no_unsafe_code, add("tokenizer.py", "exec('1')\n"), "tokenizer.py uses exec"),
    (rules.no_unsafe_code, add("tokenizer.py", "run = eval\n"), "tokenizer.py uses eval"),
    (rules.no_unsafe_code, add(REMOTE, "torch.load('x')\n"), r"uses torch\.load"),
    (
        rules.config_class,
        swap_code("(AxionShape, PreTrainedConfig)", "(AxionShape)"),
        "has a config class AxionConfig that is not a config",
    ),
    (
        rules.config_class,
        fields("config.json", model_type="axiom"),
        "gives AxionConfig the model_type 'axion', but config",
    ),
    (rules.post_init, swap_code("        self.post_init()\n", ""), r"does not call post_init\(\) in AxionModel"),
    (
        rules.tied_weights,
        swap_code('{"lm_head.weight": "model.embed_tokens.weight"}', '["lm_head.weight"]'),
        "has _tied_weights_keys in AxionForCausalLM that is not a dict",
    ),
    (
        rules.tied_weights,
        swap_code("    _tied_weights_keys", "    _keys"),
        "ties weights in AxionForCausalLM without",
    ),
    (rules.generation_mixin, swap_code(", GenerationMixin)", ")"), "has AxionForCausalLM without GenerationMixin"),
    (
        rules.initialization,
        swap_code("init.zeros_(", "nn.init.zeros_("),
        "initializes weights with 'nn.init.zeros_' in _init",
    ),
    (
        rules.initialization,
        swap_code("init.zeros_(module.", "module.zero_(module."),
        r"initializes weights with 'module\.zero_'",
    ),
    (
        rules.buffers,
        swap_code("torch.zeros(config.n_routed_experts))", "torch.zeros(config.n_routed_experts), False)"),
        "has a non-persistent buffer in AxionRouter",
    ),
    (rules.buffers, swap_code("class AxionRotaryEmbedding(", "class AxionRotary("), *2 * ["buffer in AxionRotary "]),
]


@pytest.mark.parametrize(("rule", "change", "messages"), [(rule, change, words) for rule, change, *words in BROKEN])
def test_each_rule_alone_reports_its_problem(check_rule, rule, change, messages):
    check_rule(rule, change, messages)


def test_code_in_the_folder_is_never_run(spoilt, tmp_path):
    mark = tmp_path / "mark"
    snippet = f"open({str(mark)!r}, 'w')\n"
    folder = spoilt(
        lambda folder: [add(name, snippet)(folder) for name in (REMOTE, "configuration_axion.py", "tokenizer.py")]
    )
    add("README.md", f"```python\n{snippet}```\n")(folder)
    lint(folder)
    assert not mark.exists()
