"""What others' platforms send: CloudEvents, and SageMaker's container contract.

`contract_routes` has their paths; `cloud_events` and `sagemaker` read what comes there. Its modules
are imported one by one.
"""
