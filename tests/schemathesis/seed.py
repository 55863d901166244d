"""Sends the document's own examples, so that there is something to list, to show and to sum up from the first request on.

seed.py DOCUMENT URL; the token of the administrator is in ADMIN_TOKEN.
"""

import json
import os
import sys
import urllib.request

DOCUMENT, URL = sys.argv[1:]
EXAMPLE_ID = "agent-00f3a1b2c3d4e5f6"

with open(DOCUMENT) as document:
    PATHS = json.load(document)["paths"]


def send(path, agent=EXAMPLE_ID):
    """Answers to the examples of `POST path`."""
    content = PATHS[path]["post"]["requestBody"]["content"]["application/json"]
    examples = [content["example"]] if "example" in content else [it["value"] for it in content["examples"].values()]
    for example in examples:
        headers = {"Authorization": f"Bearer {os.environ['ADMIN_TOKEN']}", "Content-Type": "application/json"}
        request = urllib.request.Request(URL + path.format(id=agent), json.dumps(example).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            yield json.load(answer)


for registered in list(send("/api/agents/register")) + list(send("/api/agents/register")):
    list(send("/api/agents/{id}/events", registered["agentId"]))
    list(send("/api/agents/{id}/heartbeat", registered["agentId"]))
list(send("/api/policy"))
