"""Kubernetes manifests of a pipeline: plain data in, YAML files out.

Manifests are dictionaries, written by PyYAML, and held against the published schemas of Kubernetes,
KEDA, the Prometheus operator and Strimzi by the tests. Typed models would be a further dependency
of those who deploy: `kubernetes` and lightkube know no custom resources, cloudcoil has none of
Strimzi's and takes seconds to import, cdk8s brings Node.
"""
