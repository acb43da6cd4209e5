"""docker-compose.yml, as far as it can be checked without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from frontend.settings import Settings
from tests.conftest import ROOT

FILE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text())


def test_the_file_is_valid_by_the_compose_specification():
    # the parser does not interpolate: give it what `docker compose` would read
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", FILE.read_text())
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "key", text)
    assert set(PyCompose.from_yaml(text).service_names()) == {"triton", "frontend"}


def test_a_setting_the_specification_does_not_know_is_noticed():
    with pytest.raises(Exception, match="nonsense"):
        PyCompose.from_yaml("services: {a: {image: x, nonsense: 1}}")


def test_what_is_built_and_mounted_is_there(compose: dict[str, Any]):
    for service in compose["services"].values():
        dockerfile = ROOT / service["build"]["dockerfile"]
        assert dockerfile.exists()
        for line in dockerfile.read_text().splitlines():
            if line.startswith("COPY "):
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists(), line


def test_the_triton_image_has_the_fixes_of_2026(compose: dict[str, Any]):
    image = compose["services"]["triton"]["build"]["args"]["TRITON_IMAGE"]
    year, month = re.search(r"tritonserver:(\d+)\.(\d+)-py3", image).groups()
    assert (int(year), int(month)) >= (26, 7)
    assert image.split(":-")[1].rstrip("}") in (ROOT / "deploy/triton.Dockerfile").read_text()


def test_triton_is_reached_by_the_front_end_only(compose: dict[str, Any]):
    triton, frontend = compose["services"]["triton"], compose["services"]["frontend"]
    assert "ports" not in triton
    assert triton["networks"] == ["engine"]
    assert compose["networks"]["engine"]["internal"] is True
    assert "engine" in frontend["networks"]
    assert "--allow-http=false" in triton["command"]
    assert "--model-control-mode=none" in triton["command"]
    assert any(c.startswith("--grpc-restricted-protocol=shared-memory,") for c in triton["command"])


def test_the_front_end_is_given_settings_that_exist_and_cannot_run_without_keys(compose: dict[str, Any]):
    environment = compose["services"]["frontend"]["environment"]
    for name in environment:
        assert name.removeprefix("VOICEFORGE_").lower() in Settings.model_fields, name
    assert ":?" in environment["VOICEFORGE_API_KEYS"]
    host, _, port = environment["VOICEFORGE_TRITON"].partition(":")
    assert host in compose["services"]
    assert f"--grpc-port={port}" in compose["services"]["triton"]["command"]


def test_both_have_health_checks_and_the_front_end_time_to_drain(compose: dict[str, Any]):
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][0] == "CMD"
    grace = int(compose["services"]["frontend"]["stop_grace_period"].rstrip("s"))
    assert grace > Settings.model_fields["drain_s"].default


def test_the_packages_without_docker_are_those_in_the_image():
    serve = (ROOT / "requirements" / "serve.txt").read_text()
    assert re.search(r"^nvidia-pytriton==", serve, re.MULTILINE)
    assert Path(ROOT / "deploy" / "frontend.Dockerfile").read_text().count("nvidia-pytriton") == 1
