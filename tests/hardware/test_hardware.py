import json

import pytest
import torch

from tinyslm.cli.doctor import doctor
from tinyslm.core.errors import TinyslmError
from tinyslm.hardware import device as devices
from tinyslm.hardware import doctor as examination
from tinyslm.hardware.device import has_fast_bf16, pick_device, pick_dtype
from tinyslm.hardware.machine import Machine, examine_machine, parse_cpuinfo
from tinyslm.hardware.speed import Speed, measure_speed

CPU = torch.device("cpu")
CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Some Processor @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""
MACHINE = Machine(
    platform="Linux 6.1 x86_64",
    python="3.11.7",
    processor="Some Processor",
    features=("avx2", "avx512_bf16"),
    cores=2,
    all_cores=8,
    memory_bytes=8_000_000_000,
    available_memory_bytes=6_000_000_000,
    compiler=None,
    free_disk_bytes=50_000_000_000,
)
SPEED = Speed(device="cpu", gflops_fp32=150.0, gflops_bf16=720.0, gigabytes_per_second=65.0)


def test_cpuinfo_of_x86():
    assert parse_cpuinfo(CPUINFO) == ("Some Processor @ 2.00GHz", ("avx2", "avx512f", "avx512_bf16", "amx_bf16"))


def test_cpuinfo_of_arm():
    assert parse_cpuinfo("processor : 0\nFeatures : fp asimd bf16 i8mm\n") == ("", ("asimd", "bf16", "i8mm"))


def test_cpuinfo_that_says_nothing():
    assert parse_cpuinfo("") == ("", ())


def test_machine():
    machine = examine_machine()
    assert machine.processor
    assert 1 <= machine.cores <= machine.all_cores
    assert 0 < machine.available_memory_bytes <= machine.memory_bytes
    assert machine.free_disk_bytes > 0


def test_the_cpu_is_always_there():
    assert pick_device("cpu") == CPU
    assert pick_device().type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize("name", ["cuda:99", "mps:7"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(TinyslmError, match=f'no device "{name}"'):
        pick_device(name)


def test_an_unknown_device_gets_a_suggestion():
    with pytest.raises(TinyslmError, match='Did you mean "cpu"'):
        pick_device("cpuu")


def test_gpus_come_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(TinyslmError, match="cuda:0, cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        (("avx2", "avx512_bf16"), torch.bfloat16),
        (("amx_bf16",), torch.bfloat16),
        (("asimd", "bf16"), torch.bfloat16),
        (("avx2", "avx512f"), torch.float32),
        ((), torch.float32),
    ],
)
def test_bf16_where_the_processor_has_it(monkeypatch, features, dtype):
    monkeypatch.setattr(devices, "read_processor", lambda: ("", features))
    assert pick_dtype(CPU) == dtype


def test_number_formats_by_name():
    assert pick_dtype(CPU, "bf16") == torch.bfloat16
    assert pick_dtype(CPU, "fp32") == torch.float32
    assert pick_dtype(torch.device("cuda"), "fp16") == torch.float16
    assert pick_dtype(torch.device("mps")) == torch.float32
    with pytest.raises(TinyslmError, match="slow on a CPU"):
        pick_dtype(CPU, "fp16")
    with pytest.raises(TinyslmError, match='"bf16"'):
        pick_dtype(CPU, "bf61")


def test_speed_is_measured():
    speed = measure_speed(seconds=0.05)
    assert speed.device == "cpu"
    assert min(speed.gflops_fp32, speed.gflops_bf16, speed.gigabytes_per_second) > 0


def test_the_estimate_agrees_with_what_was_measured():
    """At these rates: 10,900 tokens/s with 3.1 M parameters in bf16; with 10.65 M, 6,086 in bf16 and 2,394 in fp32."""
    bf16 = examination.training_tokens_per_second(SPEED, bf16=True, parameters=3_100_000)
    larger = examination.training_tokens_per_second(SPEED, bf16=True, parameters=10_650_000)
    fp32 = examination.training_tokens_per_second(SPEED, bf16=False, parameters=10_650_000)
    assert bf16 == pytest.approx(10_900, rel=0.3)
    assert larger == pytest.approx(6_086, rel=0.3)
    assert fp32 == pytest.approx(2_394, rel=0.3)


def test_findings_say_what_the_figures_mean(monkeypatch):
    monkeypatch.setattr(examination, "has_fast_bf16", lambda device: True)
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 1.0, 1.0), raising=False)
    findings = {finding.name: finding for finding in examination.describe(MACHINE, CPU, SPEED)}
    assert findings["cores"].value == "2 of 8"
    assert findings["memory"].meaning == "Room to train models of up to about 200 M parameters."
    assert findings["C++ compiler"].value == "none"
    assert findings["matrix products"].meaning == "bf16 products run 4.8 times faster than fp32: training uses bf16."
    assert findings["memory speed"].meaning.startswith(
        "One stream of a model of 100 M parameters generates at most 325 "
    )
    assert "too low" in findings["load"].meaning
    assert all(finding.meaning.endswith(".") for finding in findings.values())


def test_findings_about_a_processor_without_bf16(monkeypatch):
    monkeypatch.setattr(examination, "has_fast_bf16", lambda device: False)
    slow = Speed(device="cpu", gflops_fp32=100.0, gflops_bf16=20.0, gigabytes_per_second=20.0)
    findings = {finding.name: finding for finding in examination.describe(MACHINE, CPU, slow)}
    assert findings["matrix products"].meaning == "bf16 products run 5.0 times slower than fp32: training uses fp32."


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(examination, "measure_speed", lambda device, seconds: measure_speed(device, seconds=0.05))


def test_doctor_agrees_with_this_machine(quick, capsys):
    doctor(json=True)
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    machine = examine_machine()
    assert findings["processor"]["value"].startswith(machine.processor)
    assert findings["cores"]["value"].split()[0] == str(machine.cores)
    used = "bf16" if has_fast_bf16(pick_device()) else "fp32"
    assert findings["matrix products"]["meaning"].endswith(f"training uses {used}.")


def test_doctor_prints_a_line_for_each_finding(quick, capsys):
    doctor()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["system", "processor", "cores"]
    assert all(line.endswith(".") for line in lines)
