#!/usr/bin/env python3
"""Holds recorded MQTT messages against docs/asyncapi.yaml.

    asyncapi.py asyncapi.yaml MESSAGES

MESSAGES has one JSON object a line: {"topic":..,"payload":..}; the base topic is "sterna". Every message that the agent sends must be one that is declared for its channel, every channel that it
sends to must have been seen, and the schemas must refuse a member that they do not declare: that is tried with every message. Prints what was seen.
"""
import collections
import json
import re
import sys

import jsonschema
import yaml


def resolve(document, node):
  while isinstance(node, dict) and "$ref" in node:
    path, node = node["$ref"], document
    for part in path.removeprefix("#/").split("/"):
      node = node[part]
  return node


def inline(document, node):
  """The schema without references, for a validator that need not follow them."""
  node = resolve(document, node)
  if isinstance(node, dict):
    return {key: inline(document, value) for key, value in node.items()}
  return [inline(document, value) for value in node] if isinstance(node, list) else node


def pattern(address):
  # The last parameter may span levels: a verb has two, a client's reply topic any number.
  parts = re.split(r"\{[^}]+\}", address)
  middle = "".join(re.escape(part) + "[^/]+" for part in parts[:-2])
  return re.compile("^" + middle + re.escape(parts[-2]) + (".+" if address.endswith("}") else "[^/]+") + re.escape(parts[-1]) + "$")


def closed(schema, place):
  """Every object says what it may have in it."""
  if not isinstance(schema, dict):
    return
  if schema.get("type") == "object" and "x-open" not in schema:
    assert "additionalProperties" in schema and schema["additionalProperties"] is not True, f"{place}: an object without additionalProperties"
  for key in ("properties",):
    for name, member in schema.get(key, {}).items():
      closed(member, f"{place}.{name}")
  for key in ("items", "additionalProperties"):
    closed(schema.get(key), f"{place}[]")
  if "properties" not in schema:
    for part in schema.get("oneOf", []):
      closed(part, place)


def main():
  with open(sys.argv[1]) as file:
    document = yaml.safe_load(file)
  assert document["asyncapi"].startswith("3.0."), document["asyncapi"]
  inline(document, {key: document[key] for key in ("channels", "operations", "components")})  # every reference leads somewhere
  channels = {}
  for name, operation in document["operations"].items():
    channel = operation["channel"]["$ref"].removeprefix("#/channels/")
    assert channel in document["channels"], f"{name}: no channel {channel}"
    # What goes to a pool are jobs, which an agent sends as any client does.
    if operation["action"] == "send" and channel != "pool":
      channels[channel] = document["channels"][channel]
  schemas = {name: {key: inline(document, resolve(document, message)["payload"]) for key, message in channel["messages"].items()} for name, channel in channels.items()}
  for name, messages in schemas.items():
    for key, schema in messages.items():
      jsonschema.Draft7Validator.check_schema(schema)
      closed(schema, f"{name}.{key}")
  addresses = {name: pattern(channel["address"]) for name, channel in channels.items() if channel["address"]}
  unnamed = next(name for name, channel in channels.items() if channel["address"] is None)
  received = [pattern(document["channels"][o["channel"]["$ref"].removeprefix("#/channels/")]["address"]) for o in document["operations"].values() if o["action"] == "receive"]

  seen = collections.Counter()
  failures = 0
  with open(sys.argv[2]) as file:
    for line in file:
      message = json.loads(line)
      topic, payload = message["topic"], message["payload"]
      if any(address.match(topic) for address in received):
        continue  # what clients sent, right or wrong
      name = next((name for name, address in addresses.items() if address.match(topic)), unnamed if not topic.startswith("sterna/") else None)
      if name is None:
        print(f"{topic}: no channel of the document has such an address")
        failures += 1
        continue
      value = json.loads(payload)
      errors = {key: [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(value)] for key, schema in schemas[name].items()}
      right = [key for key, found in errors.items() if not found]
      if len(right) != 1:
        print(f"{topic}: {'no message' if not right else right} of channel {name}: {payload[:400]}\n  {errors}")
        failures += 1
        continue
      seen[f"{name}.{right[0]}"] += 1
      more = dict(value, undeclared=1)
      assert all(list(jsonschema.Draft7Validator(schema).iter_errors(more)) for schema in schemas[name].values()), f"{name}: a member that is not declared is let through"
  missing = {name for name in channels} - {key.split(".")[0] for key in seen}
  if missing:
    print(f"nothing was seen on {sorted(missing)}")
  print(json.dumps(dict(seen)))
  sys.exit(1 if failures or missing else 0)


main()
