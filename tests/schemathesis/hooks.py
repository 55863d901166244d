"""What Schemathesis cannot know from the document."""

import json

import schemathesis
from hypothesis import strategies as st

NDJSON = "application/x-ndjson"

# NDJSON is text to Schemathesis.
schemathesis.serializer.alias(NDJSON, "text/plain")


def lines():
    """Batches of heartbeats, right ones and wrong ones: a string says too little to find them."""
    number = st.none() | st.floats(min_value=-1, max_value=101)
    beat = st.fixed_dictionaries(
        {"id": st.from_regex(r"\Aagent-[0-9a-f]{16}\Z") | st.text()},
        optional={"cpu": number, "memory": number, "uptime": number, "mode": st.text(max_size=70)},
    )
    line = beat.map(json.dumps) | st.text()
    return st.lists(line, max_size=20).map("\n".join)


@schemathesis.hook.apply_to(name="POST /api/heartbeats")
def flatmap_body(ctx, body):
    return lines() if isinstance(body, str) else st.just(body)


@schemathesis.check
class EveryOperationSucceeds:
    """A run in which an operation only ever refused would have tested little of it."""

    def __init__(self):
        self.tested, self.succeeded = set(), set()

    def after_response(self, ctx, response, case):
        self.tested.add(case.operation.label)
        if 200 <= response.status_code < 300:
            self.succeeded.add(case.operation.label)

    def after_run(self, ctx):
        never = sorted(self.tested - self.succeeded)
        assert not never, "never answered with 2xx: " + ", ".join(never)
