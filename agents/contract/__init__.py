"""What stands on a pipeline's topics, for programs that are not ours: JSON Schema and AsyncAPI.

`json_schemas` makes the schemas of values, from the pydantic models of records and from the
pipeline file's event: they are the OpenAPI document's too. `channels` says which of them, with
which headers and keys, stand on which topic; `asyncapi` makes the document of all that.
"""

from agents.contract.asyncapi import asyncapi_document
from agents.contract.channels import value_schema
from agents.contract.json_schemas import json_schemas

__all__ = ["asyncapi_document", "json_schemas", "value_schema"]
