#!/usr/bin/env python3
"""Sends texts to a Sterna agent and prints the answers: paho-mqtt (Debian: python3-paho-mqtt), MQTT 5.

    paho_client.py --labels leak,fire,vibration "water under pump 7" "smoke at the press"

A job is sent again, with the same id, until its answer is there: the agent answers a repeat with the same bytes, and the broker's acknowledgement proves nothing.
"""
import argparse
import json
import sys
import time
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

parser = argparse.ArgumentParser()
parser.add_argument("texts", nargs="+")
parser.add_argument("--labels", required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=1883)
parser.add_argument("--base", default="sterna")
parser.add_argument("--agent", default="gateway")
parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for all answers")
options = parser.parse_args()

name = "paho-" + uuid.uuid4().hex[:8]
replies = f"{options.base}/clients/{name}/replies"
jobs = {uuid.uuid4().hex: text for text in options.texts}
waiting = dict(jobs)


def send(client, id):
  properties = Properties(PacketTypes.PUBLISH)
  properties.ResponseTopic = replies
  properties.CorrelationData = id.encode()
  payload = {"id": id, "input": jobs[id], "labels": options.labels.split(",")}
  client.publish(f"{options.base}/{options.agent}/jobs/classify", json.dumps(payload), qos=1, properties=properties)


def connected(client, userdata, flags, reason, properties=None):
  client.subscribe(replies, qos=1)


def subscribed(client, userdata, number, reasons, properties=None):
  for id in waiting:
    send(client, id)


def received(client, userdata, message):
  answer = json.loads(message.payload)
  # `accepted` says that the job is safe, a provisional answer that a better one may follow; neither is the last word.
  if answer["status"] == "accepted" or answer.get("provisional"):
    return
  if waiting.pop(answer["id"], None) is not None:
    print(json.dumps({"text": jobs[answer["id"]], "answer": answer.get("result") or answer["error"]}), flush=True)


client = mqtt.Client(client_id=name, protocol=mqtt.MQTTv5)
client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, received
client.connect(options.host, options.port)
client.loop_start()
end = time.monotonic() + options.timeout
again = time.monotonic() + 10
while waiting and time.monotonic() < end:
  time.sleep(0.05)
  if time.monotonic() > again:
    again = time.monotonic() + 10
    for id in list(waiting):
      send(client, id)
client.disconnect()
client.loop_stop()
sys.exit(1 if waiting else 0)
