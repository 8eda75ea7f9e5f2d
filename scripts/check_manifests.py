#!/usr/bin/env python3
"""Checks the Kubernetes manifests of deploy/recipes: against the schemas of several releases, and that they fit each other and the
configuration beside them (names, ports, labels, files, grace periods). Needs kubernetes-validate with PyYAML on PYTHONPATH. Usage:

  check_manifests.py        prints what is wrong, and exits 1 if anything is
"""

import re
import sys
import tomllib
from pathlib import Path

import kubernetes_validate
import yaml

FOLDER = Path(__file__).resolve().parent.parent / "deploy/recipes/stateful-cluster/kubernetes"

# The oldest release that a file is for, as it says itself, and the newest that there are schemas of.
RELEASES = {
    "valkey.yaml": ["1.27", "1.37"],
    "slotway.yaml": ["1.30", "1.37"],
    "sidecar.yaml": ["1.29", "1.37"],
    "plain-sidecar.yaml": ["1.27", "1.37"],
}
# Files that are of no kind the schemas know.
OTHERS = {"pod-monitor.yaml", "kustomization.yaml"}


def read(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def check_schemas():
    for name, releases in RELEASES.items():
        for document in read(name):
            for release in releases:
                try:
                    kubernetes_validate.validate(document, release, strict=True)
                except Exception as error:
                    yield f"{name}: {document['kind']} with {release}: {str(error).splitlines()[0]}"
    unknown = {path.name for path in FOLDER.glob("*.yaml")} - set(RELEASES) - OTHERS
    if unknown:
        yield f"not checked: {sorted(unknown)}"


def workloads():
    """File name, and pod template, of everything that runs pods."""
    for name in RELEASES:
        for document in read(name):
            if "template" in document.get("spec", {}):
                yield name, document["spec"]["template"]


def containers(template):
    spec = template["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def ports(template):
    return {port["name"]: port["containerPort"] for one in containers(template) for port in one.get("ports", [])}


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def check_kustomization():
    """All that is deployed is there, and the volumes are of the ConfigMaps that it makes."""
    (kustomization,) = read("kustomization.yaml")
    maps = {one["name"]: one["files"] for one in kustomization["configMapGenerator"]}
    wanted = kustomization["resources"] + [file for files in maps.values() for file in files]
    for file in wanted:
        if not (FOLDER / file).is_file():
            yield f"kustomization.yaml: there is no {file}"
    for name, template in workloads():
        for volume in template["spec"].get("volumes", []):
            if "configMap" in volume and volume["configMap"]["name"] not in maps:
                yield f"{name}: no ConfigMap {volume['configMap']['name']}"
        files = {file for one in template["spec"].get("volumes", []) for file in maps.get(one["configMap"]["name"], [])}
        for mentioned in re.findall(r"/etc/\w+/([\w.-]+)", str(template)):
            if mentioned not in files:
                yield f"{name}: {mentioned} is in none of its ConfigMaps"


def check_services():
    """Every Service leads to ports of pods, and every budget counts pods."""
    templates = [template for _, template in workloads()]
    for name in RELEASES:
        for document in read(name):
            spec = document["spec"]
            if document["kind"] == "Service":
                selector = spec["selector"]
            elif document["kind"] == "PodDisruptionBudget":
                selector = spec["selector"]["matchLabels"]
            else:
                continue
            chosen = [one for one in templates if selector.items() <= one["metadata"]["labels"].items()]
            if len(chosen) != 1:
                yield f"{name}: {document['kind']} {document['metadata']['name']} chooses {len(chosen)} workloads"
                continue
            known = ports(chosen[0])
            for port in spec.get("ports", []):
                target = port.get("targetPort", port["port"])
                if target not in known and target not in known.values():
                    yield f"{name}: Service {document['metadata']['name']}: no port {target}"


def check_pod_monitor():
    (monitor,) = read("pod-monitor.yaml")
    if (monitor["apiVersion"], monitor["kind"]) != ("monitoring.coreos.com/v1", "PodMonitor"):
        yield "pod-monitor.yaml: no PodMonitor"
    selector = monitor["spec"]["selector"]["matchLabels"]
    chosen = [template for _, template in workloads() if selector.items() <= template["metadata"]["labels"].items()]
    endpoints = monitor["spec"]["podMetricsEndpoints"]
    if len(chosen) != 1 or not endpoints:
        yield f"pod-monitor.yaml: chooses {len(chosen)} workloads, {len(endpoints)} endpoints"
        return
    for endpoint in endpoints:
        if endpoint["port"] not in ports(chosen[0]) or not endpoint["path"].startswith("/"):
            yield f"pod-monitor.yaml: no such port or path: {endpoint}"


def check_configuration():
    """Ports and times are those of slotway.toml, valkey.conf and pre-stop.sh."""
    config = tomllib.loads((FOLDER / "slotway.toml").read_text(encoding="utf-8"))
    admin = int(config["admin"]["listen"].rpartition(":")[2])
    drain = seconds(config["shutdown"]["drain"])
    services = {one["metadata"]["name"]: one for name in RELEASES for one in read(name) if one["kind"] == "Service"}
    for seed in config["upstream"]["cluster"]:
        host, _, port = seed.partition(":")
        if host not in services or int(port) not in {one["port"] for one in services[host]["spec"]["ports"]}:
            yield f"slotway.toml: no Service {seed}"
    for name, template in workloads():
        grace = template["spec"]["terminationGracePeriodSeconds"]
        for one in containers(template):
            hook = one.get("lifecycle", {}).get("preStop", {})
            if one["name"] == "slotway":
                command = hook.get("exec", {}).get("command", ["sleep", "0"])
                slept = hook.get("sleep", {}).get("seconds", int(command[1]))
                if slept + drain >= grace:
                    yield f"{name}: preStop {slept} s and shutdown.drain {drain} s leave nothing of {grace} s"
                if ports(template)["admin"] != admin:
                    yield f"{name}: the admin port is {admin} in slotway.toml"
            elif one["name"] == "valkey":
                script = (FOLDER / "pre-stop.sh").read_text(encoding="utf-8")
                patience = int(re.search(r"^PATIENCE=(\d+)$", script, re.MULTILINE).group(1))
                if patience + 5 >= grace:
                    yield f"{name}: pre-stop.sh takes up to {patience} s of {grace} s"


def main():
    checks = [check_schemas, check_kustomization, check_services, check_pod_monitor, check_configuration]
    faults = [fault for check in checks for fault in check()]
    for fault in faults:
        print(f"{FOLDER.name}: {fault}", file=sys.stderr)
    if faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
