"""`siglip-search devices`, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from npu_emulator import HAS_EMULATOR

_COMMAND = "from siglip_search.cli.devices_cmd import devices; devices()"


def printed(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout


def test_json_is_one_object_and_nothing_else() -> None:
    found = json.loads(printed("--json"))
    assert set(found) == {"devices", "auto", "runtime"}
    assert set(found["runtime"]) == {"onnxruntime", "onnxruntime-qnn", "qairt"}
    states = {device["name"]: device for device in found["devices"]}
    assert set(states) == {"npu", "cpu", "npu-emulator"}
    assert states["cpu"]["usable"] is True
    assert states["npu-emulator"]["usable"] is HAS_EMULATOR
    assert set(states["npu"]) == {
        "name", "usable", "reason", "hint", "notice", "chip", "target", "threads", "features",
        "hardware",
    }  # fmt: skip
    assert found["auto"] in states


def test_people_see_each_device_with_its_state_and_what_can_be_done() -> None:
    lines = printed().splitlines()
    for device in json.loads(printed("--json"))["devices"]:
        if not device["usable"]:  # why not, before anything else
            assert f"{device['name']:12}  not usable  {device['reason']}" in "\n".join(lines)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "npu", "cpu", "npu-emulator", "auto", "runtime",
    ]  # fmt: skip
    assert any("says nothing about an NPU's" in line for line in lines)
    assert all("LIBNATIVE" not in line for line in lines)
