"""Renders the Helm chart with Helm's own engine and holds manifests against Kubernetes' own schemas.

Standard input: {"chart": path, "refused": {name: values}, "yaml": {name: text}, "json": {name: object}}; the chart is
rendered with each file of its `ci` folder. Standard output: {"versions": [...], "defaults": values,
"objects": {name: [object, ...]}, "notes": {name: text}, "refused": {name: message}, "faults": [text, ...]}. One process
does it all, because loading Helm and the schemas is most of the work.
"""

import json
import pathlib
import re
import sys

import helm_python as helm
import jsonschema
import yaml
from kubernetes_validate import utils as schemas
from referencing import Registry, Resource

NEWEST = 3
# Of the Prometheus operator; its schema is not Kubernetes'.
FOREIGN = "monitoring.coreos.com/v1"

asked = json.load(sys.stdin)
versions = sorted(set(schemas.all_versions()), key=schemas.Version)[-NEWEST:]
answer = {
    "versions": versions,
    "objects": {},
    "notes": {},
    "refused": {},
    "faults": [],
}
validators, judged = {}, {}


class UniqueKeys(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):
    """Refuses a key that stands twice, which the API server does and PyYAML does not."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{node.start_mark}: keys stand twice: {twice}")
        return super().construct_mapping(node, deep)


def documents(text):
    return [document for document in yaml.load_all(text, Loader=UniqueKeys) if document]


def validator(document, version):
    """The validator of a kind, made once: kubernetes_validate.validate reads all definitions for each object."""
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", document["apiVersion"])
    key = (version, f"{document['kind'].lower()}-{group}")
    if key not in validators:
        folder = f"kubernetes-json-schema/v{version}-local-strict"
        if version not in validators:
            definitions = schemas.schema_contents(f"{folder}/_definitions.json", version)
            validators[version] = Resource.from_contents(definitions) @ Registry()
        schema = schemas.schema_contents(f"{folder}/{key[1]}.json", version)
        registry = Resource.from_contents(schema) @ validators[version]
        validators[key] = jsonschema.validators.Draft202012Validator(schema, registry=registry)
    return validators[key]


def faults_of(document):
    if document["apiVersion"] == FOREIGN:
        return []
    found = []
    for version in versions:
        for error in validator(document, version).iter_errors(document):
            found.append(f"{version}: {error.json_path}: {error.message[:300]}")
    return found


def judge(name, objects):
    answer["objects"][name] = objects
    for document in objects:
        text = json.dumps(document, sort_keys=True)
        if text not in judged:
            judged[text] = faults_of(document)
        what = f"{name}: {document['kind']} {document['metadata']['name']}"
        answer["faults"] += [f"{what}: {fault}" for fault in judged[text]]


with helm.Chart.load(asked["chart"]) as chart:
    answer["defaults"] = chart.values
    for file in sorted(pathlib.Path(asked["chart"], "ci").glob("*-values.yaml")):
        name = file.name.removesuffix("-values.yaml")
        values = yaml.load(file.read_text(), Loader=UniqueKeys)
        chart.validate_schema(values)
        rendered = chart.render(values, name="tollgate", namespace="tollgate")
        notes = [path for path in rendered if path.endswith("NOTES.txt")]
        answer["notes"][name] = "".join(rendered.pop(path) for path in notes)
        judge(name, [each for path in sorted(rendered) for each in documents(rendered[path])])
        for said in helm.lint(asked["chart"], values, strict=True)["messages"]:
            if said["severity"] > 1:
                answer["faults"].append(f"{name}: lint: {said}")
    for name, values in asked["refused"].items():
        try:
            chart.validate_schema(values)
            chart.render(values, name="tollgate", namespace="tollgate")
            answer["faults"].append(f"{name}: was rendered")
        except helm.HelmError as error:
            answer["refused"][name] = str(error)
for name, text in asked["yaml"].items():
    judge(name, documents(text))
for name, whole in asked["json"].items():
    judge(name, whole["items"])
json.dump(answer, sys.stdout)
