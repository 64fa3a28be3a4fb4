"""The command line: output, errors and exit codes."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml
from safetensors import SafetensorError

from axion.cli import app, run
from axion.inference.chat import Conversation
from axion.inference.sampling import LIMITS, Sampling
from axion.inference.stream import stream
from axion.kernels.dimensions import WEIGHT_BITS
from axion.model.configuration_axion import AxionConfig
from axion.model.modeling_axion import AxionForCausalLM
from axion.options import Weights
from axion.recipe import load_recipe
from axion.release import open_release
from axion.training.run import Interrupted
from playground.server import launch
from tests.conftest import TINY

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = ("params", "data", "train", "finetune", "generate", "chat", "eval", "compare", "reproduce", "export")
TORCH = ("--backend", "torch")
"""For models that no other test uses, for which kernels would have to be compiled."""
PROMPT = "# Pergunta:\nQuanto é 5 + 3?\n--\n# Resposta:\n"


def axion(*arguments):
    return run(app, [str(argument) for argument in arguments])


def refused(capsys, *arguments):
    """The one line that an invalid call prints."""
    code = axion(*arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in err
    return err


@pytest.fixture
def tiny_recipe(tmp_path, monkeypatch):
    """A recipe file that trains in seconds on generated problems; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(load_recipe("axion1-v0.1").to_yaml())
    recipe["name"] = "tiny"
    recipe["tokenizer"]["vocab_size"] = TINY["vocab_size"]
    recipe["architecture"] |= {"hidden_size": 32, "num_hidden_layers": 2, "moe_intermediate_size": 16}
    recipe["architecture"]["max_position_embeddings"] = 128
    recipe["data"] |= {"hub_id": None, "arithmetic": 300, "word_problems": 20}
    recipe["training"] |= {
        "window": 64,
        "short_window": None,
        "batch_size": 8,
        "epochs": 1,
        "max_steps": 6,
        "warmup_steps": 2,
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_params_prints_one_json_object(capsys):
    assert axion("params", "axion1-v0.1", "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["total"], counted["active"], counted["embedding"]) == (344_224, 245_920, 65_536)
    assert counted["cache"]["values_per_token_and_layer"] == 12
    assert counted["cache"]["plain_values_per_token_and_layer"] == 128


def test_params_prints_a_table(capsys):
    assert axion("params", "axion1-v0.1") == 0
    assert "344,224 parameters, 245,920 active per token" in capsys.readouterr().out


def test_generate_prints_the_text_of_the_stream(tiny_release, capsys):
    release = open_release(tiny_release)
    options = ["--max-new-tokens", 20, "--seed", 5, "--temperature", 1.1, "--min-p", 0.01]
    assert axion("generate", tiny_release, PROMPT, *options) == 0
    sampling = Sampling(temperature=1.1, min_p=0.01, max_new_tokens=20, seed=5)
    steps = stream(release.model, release.tokenizer, PROMPT, sampling)
    text = "".join(step.text for step in steps if not step.is_prompt)
    assert text and capsys.readouterr().out == text + "\n"


def test_generate_takes_backslash_n_for_a_new_line(tiny_release, capsys):
    outputs = []
    for prompt in (PROMPT, PROMPT.replace("\n", "\\n")):
        assert axion("generate", tiny_release, prompt, "--temperature", 0, "--max-new-tokens", 12) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


def test_generate_shows_the_experts(tiny_release, capsys):
    assert axion("generate", tiny_release, PROMPT, "--max-new-tokens", 12, "--show-experts") == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(index for index, line in enumerate(lines) if "experts that read the" in line)
    assert lines[head + 1].split() == ["E1", "E2", "E3", "E4"]
    for row, name in zip(lines[head + 2 : head + 4], ("1", "2"), strict=True):
        _, layer, *shares = row.split()
        assert layer == name
        assert sum(int(share.rstrip("%")) for share in shares) == pytest.approx(200, abs=2)  # two experts per token
    assert lines[head + 5].split()[:2] == ["token", "p"] and len(lines) > head + 6


def test_generate_shows_no_experts_where_there_are_none(tiny_release, tmp_path, capsys):
    folder = shutil.copytree(tiny_release, tmp_path / "dense")
    AxionForCausalLM(AxionConfig(**TINY | {"first_k_dense_replace": 2})).save_pretrained(folder)
    assert axion("generate", folder, "7", "--max-new-tokens", 3, "--show-experts", *TORCH) == 0
    out = capsys.readouterr().out
    assert (
        out.endswith("\nthe model has no experts: every token passes through all of its weights\n") and "E1" not in out
    )


def test_experts_and_heads_are_tampered_with_at_the_call(tiny_release, capsys, monkeypatch):
    changes = (
        "--mute",
        "L2.E4,L1.E3",
        "--force=L1.E2",
        "--mute",
        "L2.E1",
        "--scale",
        "L1.E2=.5",
        "--mute-head",
        "L1.H2",
    )
    assert axion("generate", tiny_release, PROMPT, "--max-new-tokens", 12) == 0
    before = capsys.readouterr().out
    assert axion("generate", tiny_release, PROMPT, "--max-new-tokens", 12, "--show-experts", *changes) == 0
    out, err = capsys.readouterr()
    said = "--mute L1.E3,L2.E1,L2.E4 --force L1.E2 --scale L1.E2=0.5 --mute-head L1.H2"
    assert err == f"the model is tampered with: {said}\n" and not out.startswith(before)
    lines = out.splitlines()
    head = next(index for index, line in enumerate(lines) if "experts that read the" in line)
    assert [row.split()[2:] for row in lines[head + 2 : head + 4]][1] == ["0%", "100%", "100%", "0%"]
    assert lines[head + 2].split()[3] == "100%" and lines[head + 2].split()[4] == "0%"

    assert axion("generate", tiny_release, PROMPT, "--max-new-tokens", 5, "--show-experts", "--top-experts", 1) == 0
    assert ", 1 of 4 a layer (fair: 25%)" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("1 + 1\n"))
    assert axion("chat", tiny_release, "--max-new-tokens", 5, "--bias", "off") == 0
    assert "the model is tampered with: --bias off\n" in capsys.readouterr().err
    for command in (("generate", tiny_release, PROMPT), ("chat", tiny_release)):
        assert "layer 1 has no expert E9" in refused(capsys, *command, "--mute", "L1.E9")
        assert "scale needs L1.E2=0.5, not L1.E2" in refused(capsys, *command, "--scale", "L1.E2")


def test_loops_are_chosen_at_the_call(tiny_release, tmp_path, capsys):
    shutil.copytree(tiny_release, looped := tmp_path / "looped")
    shapes = {"num_shared_layers": 1, "first_k_dense_replace": 2}
    AxionForCausalLM(AxionConfig(**TINY | shapes)).save_pretrained(looped)
    texts = []
    for loops in (("--loops", "1"), ("--loops", "4"), ()):
        capsys.readouterr()
        assert axion("generate", looped, PROMPT, "--max-new-tokens", 30, *TORCH, *loops) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[2] != texts[1]
    for command in (("generate", tiny_release, PROMPT), ("chat", tiny_release), ("eval", tiny_release)):
        said = refused(capsys, *command, "--loops", 9)
        assert "--loops" in said and f"less than or equal to {LIMITS['num_loops'][1]};" in said
    for command in (("generate", tiny_release, PROMPT), ("chat", tiny_release), ("eval", tiny_release)):
        assert "has no shared layers to loop, so it must be 1" in refused(capsys, *command, "--loops", 2)


def test_weights_are_chosen_at_the_call(tiny_release, capsys):
    folder, choices = [tiny_release, PROMPT], get_args(get_args(Weights)[0])
    assert choices == launch.WEIGHTS == tuple(WEIGHT_BITS)
    options = ["--max-new-tokens", 12, "--weights", "bf16"]
    for command in (("generate", *folder), ("chat", tiny_release), ("eval", tiny_release)):
        said = refused(capsys, *command, "--weights", "int4")
        assert "--weights" in said and "'int4' is not one of 'fp32', 'bf16', 'int8'" in said
    said = refused(capsys, "generate", *folder, *options, *TORCH)
    assert "bf16 weights need the native kernels, which cannot be used: PyTorch was requested" in said
    assert axion("generate", *folder, *options, "--backend", "native") == 0
    assert capsys.readouterr().err.endswith(" floats per vector, bf16 weights\n")


def test_the_layer_that_drafts_changes_no_text_and_states_its_acceptance(tiny_release, tmp_path, capsys):
    shutil.copytree(tiny_release, folder := tmp_path / "mtp")
    model = AxionForCausalLM(AxionConfig(**TINY | {"num_nextn_predict_layers": 1}))
    model.attach_mtp()
    model.save_pretrained(folder)
    capsys.readouterr()
    arguments = ("generate", folder, PROMPT, "--max-new-tokens", 20, "--temperature", 1, "--seed", 3)
    assert axion(*arguments, *TORCH) == 0
    plain = capsys.readouterr().out
    assert axion(*arguments, "--mtp") == 0
    out, err = capsys.readouterr()
    assert out == plain
    said = err.splitlines()[-1]  # the kernels may be compiled first
    assert re.fullmatch(r"multi-token prediction: \d+ of \d+ guesses accepted \(\d+%\)", said)
    assert "axion-tiny: the model has no layer of multi-token prediction" in refused(
        capsys, "generate", tiny_release, PROMPT, "--mtp"
    )


def test_eval_prints_one_json_object(tiny_release, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("axion.evaluation.subject.ARITHMETIC_PROMPTS", 3)
    monkeypatch.setattr("axion.evaluation.speed.REPETITIONS", 1)
    monkeypatch.setattr("axion.evaluation.speed.NEW_TOKENS", 10)
    monkeypatch.setattr("axion.evaluation.speed.measure_memory", lambda *_: None)  # which would start a process
    folder = tmp_path / "tiny"
    folder.symlink_to(tiny_release, target_is_directory=True)
    assert "has no recipe.yaml" in refused(capsys, "eval", folder)

    run_folder = tmp_path / "run"
    (run_folder / "final").mkdir(parents=True)
    for file in tiny_release.iterdir():
        (run_folder / "final" / file.name).symlink_to(file)
    (run_folder / "run.json").write_text("{}")
    (run_folder / "recipe.yaml").write_text(load_recipe("axion1-v0.1").to_yaml())
    assert (
        axion("eval", run_folder / "final", "--tasks", "arithmetic, expert_load", "--set", "data.hub_id=null", "--json")
        == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["results"]) == ["arithmetic", "expert_load"]
    command = printed["results"]["arithmetic"]["command"]
    assert command == f"python -m axion eval {run_folder / 'final'} --set data.hub_id=null --tasks arithmetic"

    assert axion("eval", run_folder / "final", "--set", "data.hub_id=null") == 0
    text = capsys.readouterr().out
    assert "gsm8k_test: skipped" in text and "tokens/s" in text and "times its fair share" in text
    assert re.search(r"^sums and differences, 2 digits, English +\d+\.\d% +\d of 3; 95% interval", text, re.MULTILINE)
    assert "no task 'mmlu'" in refused(capsys, "eval", run_folder / "final", "--tasks", "mmlu")


def test_data_counts_what_it_wrote(tiny_recipe, capsys):
    assert axion("data", tiny_recipe, "--synthetic", "--max", "200", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["train"]["documents"] + summary["validation"]["documents"] == 200
    assert Path(summary["folder"], "train.txt").read_text().count("<eos>") == summary["train"]["documents"]
    assert axion("data", tiny_recipe, "--synthetic", "--max", "200") == 0
    assert f"{summary['train']['tokens']:,}" in capsys.readouterr().out


def test_train_passes_its_options_on_and_its_model_generates(tiny_recipe, capsys):
    assert (
        axion("train", tiny_recipe, "--batch-size", 4, "--grad-accum", 2, "--epochs", 2, "--out", "elsewhere", *TORCH)
        == 0
    )
    assert "trained: elsewhere/final" in capsys.readouterr().out
    recipe = yaml.safe_load(json.loads(Path("elsewhere/run.json").read_text())["recipe"])
    assert [recipe["training"][key] for key in ("batch_size", "grad_accum", "epochs")] == [4, 2, 2]
    assert axion("generate", "elsewhere/final", "7", "--max-new-tokens", 3, *TORCH) == 0
    capsys.readouterr()
    assert "holds a run already" in refused(capsys, "train", tiny_recipe, "--out", "elsewhere", *TORCH)


def test_a_full_disk_is_one_line_whichever_library_writes(tiny_release, tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("axion.export.native.write_native", full)
    assert "No space left on device" in refused(capsys, "export", tiny_release, "--to", "native", "--out", tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("not enough memory for the kernels"), "error: not enough memory for the kernels"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), "is not enough memory"),
    ],
)
def test_too_little_memory_is_one_line(error, said, tiny_release, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("axion.export.native.write_native", fail)
    assert said in refused(capsys, "export", tiny_release, "--to", "native", "--out", tmp_path)


def test_interrupted_preparation_says_what_is_kept(tiny_recipe, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("axion.data.prepare.prepare", interrupted)
    assert axion("data", tiny_recipe) == 130
    assert capsys.readouterr().err == ("stopped; finished shards are kept, and the same command continues from there\n")


def test_interrupted_training_says_how_to_resume(tiny_recipe, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted("stopped at step 3 of 6; go on with --resume")

    monkeypatch.setattr("axion.training.run.train", interrupted)
    assert axion("train", tiny_recipe) == 130
    assert capsys.readouterr() == ("", "stopped at step 3 of 6; go on with --resume\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["params", "axion9"], "axion1-debug, axion1-v0.1, axion1-v0.2"),
        (["params", "nowhere.yaml"], "nowhere.yaml"),
        (["params"], "Missing argument 'VERSION'"),
        (["params", "axion1-v0.1", "--frobnicate"], "No such option: --frobnicate"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["data", "axion1-v0.1", "--max", "many"], "--max"),
        (["train", "axion1-v0.1", "--set", "training.speed=9"], "training.speed is unknown"),
        (["train", "axion1-v0.1", "--set", "epochs"], "key.path=value"),
        (["train", "axion1-v0.1", "--epochs", "0"], "training.epochs"),
        (["train", "axion1-v0.1", "--batch-size", "x"], "--batch-size"),
        (["train", "axion1-v0.1", "--set", "data.files=nowhere.jsonl"], "no file nowhere.jsonl"),
        (["generate", "axion9", "hi"], "no release 'axion9'"),
        (["generate", "axion1-v0.1"], "Missing argument"),
        (["eval", "/nowhere"], "no release '/nowhere'"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--temperature", "nan"], "temperature must be a number from 0 to 5"),
        (["--temperature", "-1"], "temperature"),
        (["--temperature", "warm"], "--temperature"),
        (["--top-p", "1.5"], "top_p"),
        (["--seed", "1.5"], "--seed"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
    ],
)
def test_bad_sampling_is_one_line_and_exit_code_2(options, said, tiny_release, capsys):
    assert said in refused(capsys, "generate", tiny_release, "7", *options)


@pytest.mark.parametrize(("prompt", "said"), [("", "the prompt is empty"), ("5" * 500, "shorten it to 127")])
def test_a_bad_prompt_is_one_line_and_exit_code_2(prompt, said, tiny_release, capsys):
    assert said in refused(capsys, "generate", tiny_release, prompt)


def test_help_names_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from axion.cli import app, run; run(app, []); run(app, ['train', '--help']);"
        "print([name for name in ('torch', 'transformers', 'datasets', 'gradio') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(command in output for command in COMMANDS) and "--grad-accum" in output
    assert output.endswith("[]\n")


def start(*arguments, **options):
    command = [sys.executable, "-m", "axion", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def endless_release(tiny_release, tmp_path_factory):
    """A tiny release with a context that takes many seconds to fill, whose text never ends."""
    import torch
    from transformers import GenerationConfig

    release = open_release(tiny_release)
    folder = tmp_path_factory.mktemp("endless") / "endless"
    config = type(release.config).from_dict(release.config.to_dict() | {"max_position_embeddings": 100_000})
    model = type(release.model)(config)
    with torch.no_grad():
        model.load_state_dict(release.model.state_dict())
    model.generation_config = GenerationConfig(eos_token_id=3)  # <unk>, which no text contains
    model.save_pretrained(folder)
    release.tokenizer.save_pretrained(folder)
    return folder


def test_text_is_streamed_and_ctrl_c_is_quiet(endless_release):
    process = start("generate", endless_release, "7", "--max-new-tokens", 90_000)
    assert process.stdout.read(20)  # arrives before the rest is generated
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_a_closed_pipe_ends_generation_quietly(endless_release):
    process = start("generate", endless_release, "7", "--max-new-tokens", 90_000)
    process.stdout.read(20)
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_output_is_utf8_in_any_locale():
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    process = start("--help", env=environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "─" in out, err


def test_generate_has_the_default_sampling_settings():
    defaults = {option.name: option.default for option in typer.main.get_command(app).commands["generate"].params}
    shared = {field.name: field.default for field in fields(Sampling) if field.name in defaults}
    assert len(shared) == 7
    assert defaults["max_new_tokens"] is None  # that of Sampling; with --ask as many as the context has
    assert {name: defaults[name] for name in shared} == shared | {"max_new_tokens": None}


# --- Teaching and talking ---------------------------------------------------------------------------------


def test_finetune_teaches_a_release_that_chat_talks_to(tiny_release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": f"Diga {n % 4}", "output": f"{n % 4}!"} for n in range(24)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ("--epochs", 40, "--batch-size", 2, "--lr", 0.01, "--name", "tiny-chat")
    assert axion("finetune", tiny_release, "--data", "chats.jsonl", *options) == 0
    assert "fine-tuned: runs/tiny-chat/final" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("Diga 1\n\nDiga 2\n/exit\nDiga 3\n"))
    assert axion("chat", "runs/tiny-chat/final", "--max-new-tokens", 8) == 0
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 2 and sum(answer == f"{n}!" for n, answer in enumerate(answers, 1)) >= 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"instruction": "a"', "chats.jsonl, line 2: not JSON"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "line 2: 'messages' must be a list"),
        ('{"instruction": "a", "output": ""}', "line 2: field 'output' is ''"),
    ],
)
def test_finetune_refuses_broken_data_before_it_starts(tiny_release, tmp_path, monkeypatch, capsys, line, problem):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chats.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n", encoding="utf-8")
    assert problem in refused(capsys, "finetune", tiny_release, "--data", "chats.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["chats.jsonl"]


def test_finetune_refuses_options_that_do_not_fit(tiny_release, tmp_path, capsys):
    assert "add --lora" in refused(capsys, "finetune", tiny_release, "--data", "x.jsonl", "--rank", 4)
    assert "no file" in refused(capsys, "finetune", tiny_release, "--data", tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9, encoding="utf-8")
    data = ("finetune", tiny_release, "--data", tmp_path / "x.jsonl", "--out", tmp_path / "run")
    assert "name is 'A b'" in refused(capsys, *data, "--name", "A b")
    assert "training.lr is unknown" in refused(capsys, *data, "--set", "training.lr=1")
    assert not (tmp_path / "run").exists()


def test_chat_in_a_terminal(tiny_release, monkeypatch, capsys):
    """Ctrl-C stops an answer and discards a line; a question that cannot be answered does not end the conversation."""
    typed = iter(["1 + 2", KeyboardInterrupt, "7 " * 200, "", "2 + 2", EOFError])

    def read(prompt):
        if isinstance(line := next(typed), str):
            return line
        raise line

    def ask(self, question):
        yield from asked(self, question)
        if question == "1 + 2":
            raise KeyboardInterrupt

    asked = Conversation.ask
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", read)
    monkeypatch.setattr(Conversation, "ask", ask)
    assert axion("chat", tiny_release, "--max-new-tokens", 3) == 0
    out, err = capsys.readouterr()
    assert "was not taught to chat" in err and "Ctrl-D or /exit ends" in err and next(typed, None) is None
    assert err.count("error: the prompt has") == 1 and len(out.splitlines()) >= 3


def test_chat_refuses_what_a_pipe_cannot_ask(tiny_release, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("7 " * 200))
    assert axion("chat", tiny_release) == 2
    assert "error: the prompt has" in capsys.readouterr().err
    assert "not taught to chat, so it reads no system" in refused(capsys, "chat", tiny_release, "--system", "S")
