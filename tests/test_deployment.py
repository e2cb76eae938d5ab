"""What the deployment files promise: a container without root, a health check, nothing open by accident."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from server.config import Settings

ROOT = Path(__file__).parents[1]
INSTRUCTION = re.compile(r"^([A-Z]+)\s+(.*)$")


@cache
def dockerfile() -> tuple[tuple[str, str], ...]:
    """The instructions of the Dockerfile, continuation lines joined and comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return tuple((found[1], found[2]) for line in joined.splitlines() if (found := INSTRUCTION.match(line)))


def last_stage() -> list[tuple[str, str]]:
    instructions = dockerfile()
    start = max(index for index, (word, _) in enumerate(instructions) if word == "FROM")
    return list(instructions[start:])


def arguments(word: str) -> list[str]:
    """What stands behind every `word` of the stage that becomes the image."""
    return [rest for instruction, rest in last_stage() if instruction == word]


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in arguments("ENV") for pair in rest.split())


def load_yaml(path: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / path).read_text())
    assert isinstance(document, dict)
    return document


def compose() -> dict[str, Any]:
    return load_yaml("docker-compose.yml")


def test_the_image_does_not_run_as_root() -> None:
    users = arguments("USER")
    assert users == ["10001:10001"]
    entry = [word for word, _ in last_stage()].index("ENTRYPOINT")
    assert [word for word, _ in last_stage()].index("USER") < entry


def test_the_image_reports_its_health_from_ready() -> None:
    (check,) = arguments("HEALTHCHECK")
    assert "/ready" in check
    assert "--start-period=" in check


def test_the_image_keeps_store_and_cache_in_volumes() -> None:
    environment = image_environment()
    (volumes,) = arguments("VOLUME")
    for path in (environment["SWITCHYARD_STORE"], environment["SWITCHYARD_CACHE_DIR"], environment["HF_HOME"]):
        assert any(f'"{parent}"' in volumes for parent in (path, *map(str, Path(path).parents)))


def test_every_setting_in_the_image_is_a_setting_of_the_server() -> None:
    known = {f"SWITCHYARD_{name.upper()}" for name in Settings.model_fields}
    named = {name for name in image_environment() if name.startswith("SWITCHYARD_")}
    composed = {name for name in compose()["services"]["server"]["environment"] if name.startswith("SWITCHYARD_")}
    assert named | composed <= known
    assert named


def test_the_image_holds_no_key() -> None:
    assert not any("API_KEY" in rest for word, rest in dockerfile() if word in {"ENV", "ARG"})


def test_the_torch_build_is_chosen_by_argument() -> None:
    names = {rest.split("=")[0] for word, rest in dockerfile() if word == "ARG"}
    assert {"VARIANT", "TORCH_INDEX"} <= names


def test_the_image_installs_the_tested_versions() -> None:
    installs = [rest for word, rest in dockerfile() if word == "RUN" and "pip install" in rest]
    assert installs
    assert all("constraints.txt" in rest for rest in installs)


@pytest.mark.parametrize(
    "path", [rest.split()[0] for word, rest in dockerfile() if word == "COPY" and "--from" not in rest]
)
def test_what_the_image_copies_is_let_through(path: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert path in allowed
    assert (ROOT / path).exists()


def test_compose_publishes_ports_on_loopback_only() -> None:
    services = compose()["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert len(ports) >= len(services)
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_requires_a_key() -> None:
    assert compose()["services"]["server"]["environment"]["SWITCHYARD_API_KEY"].startswith("${SWITCHYARD_API_KEY:?")


def test_compose_keeps_the_store_in_a_named_volume() -> None:
    document = compose()
    mounts = dict(mount.split(":")[:2] for mount in document["services"]["server"]["volumes"])
    environment = image_environment()
    for name, target in mounts.items():
        assert name in document["volumes"]
        assert any(Path(path).is_relative_to(target) for path in environment.values() if path.startswith("/"))
    assert any(Path(environment["SWITCHYARD_STORE"]).is_relative_to(target) for target in mounts.values())


def test_compose_drops_privileges() -> None:
    for service in compose()["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    assert compose()["services"]["server"]["read_only"] is True


def test_no_service_with_a_secret_is_read_only() -> None:
    """Compose copies a secret of the environment into the container, and a read-only one refuses it."""
    services = compose()["services"]
    with_secrets = {name for name, service in services.items() if "secrets" in service}
    assert with_secrets == {"prometheus", "grafana"}
    assert not any(services[name].get("read_only") for name in with_secrets)


def test_the_readme_names_all_that_compose_needs() -> None:
    steps = (ROOT / "README.md").read_text().partition("## In a container")[2].partition("\n## ")[0]
    for secret in compose()["secrets"].values():
        assert f"export {secret['environment']}=" in steps
    for service in compose()["services"].values():
        for port in service["ports"]:
            assert f"127.0.0.1:{port.rpartition(':')[2]}" in steps


def test_images_of_others_are_pinned_to_a_version() -> None:
    for service in compose()["services"].values():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_prometheus_scrapes_the_server_with_its_key_from_a_file() -> None:
    (job,) = load_yaml("deploy/prometheus.yml")["scrape_configs"]
    (static,) = job["static_configs"]
    assert static["targets"] == [f"server:{image_environment()['SWITCHYARD_PORT']}"]
    assert job["metrics_path"] == "/metrics"
    (secret,) = compose()["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"
    assert compose()["secrets"][secret] == {"environment": "SWITCHYARD_API_KEY"}


def test_grafana_has_no_password_of_its_own_and_keeps_its_data_in_a_volume() -> None:
    service = compose()["services"]["grafana"]
    (secret,) = service["secrets"]
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret}"
    assert compose()["secrets"][secret] == {"environment": "GRAFANA_ADMIN_PASSWORD"}
    writable = [mount for mount in service["volumes"] if not mount.endswith(":ro")]
    assert writable == ["dashboards:/var/lib/grafana"]


def test_grafana_is_provisioned_with_what_is_mounted() -> None:
    services = compose()["services"]
    mounts = dict(mount.split(":")[:2] for mount in services["grafana"]["volumes"])
    (source,) = load_yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = load_yaml("deploy/grafana/provisioning/dashboards/switchyard.yml")["providers"]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/switchyard.json"
    assert (ROOT / "deploy/grafana/dashboards/switchyard.json").is_file()


def test_prometheus_reads_the_rules_that_are_mounted() -> None:
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["prometheus"]["volumes"])
    (pattern,) = load_yaml("deploy/prometheus.yml")["rule_files"]
    assert pattern == f"{mounts['./deploy/prometheus/rules']}/*.yml"
    assert list((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def compose_command() -> list[str]:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("the docker command is not installed")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker has no compose plugin")
    return [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]


def run_compose(key: str | None, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    if key is not None:
        environment |= {"SWITCHYARD_API_KEY": key, "GRAFANA_ADMIN_PASSWORD": "a-password"}
    empty = tmp_path / "empty.env"
    empty.touch()
    command = compose_command()
    command[2:2] = ["--env-file", str(empty)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_docker_accepts_the_compose_file(tmp_path: Path) -> None:
    finished = run_compose("a-key", tmp_path)
    assert finished.returncode == 0, finished.stderr


def test_docker_refuses_the_compose_file_without_a_key(tmp_path: Path) -> None:
    finished = run_compose(None, tmp_path)
    assert finished.returncode != 0
    assert "SWITCHYARD_API_KEY" in finished.stderr
