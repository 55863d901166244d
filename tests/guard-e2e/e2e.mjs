// Drives the client class of the published Guard against a running server, and looks at what became of it through the
// administrator's eyes. run.sh starts the server and says where it is.
import assert from 'node:assert/strict';
import os from 'node:os';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

const { API_URL, ADMIN_TOKEN, CLIENT_FILE } = process.env;
const HEARTBEAT_MS = 200;
// Longest that anything may take: generous, for slow machines.
const SOON_MS = 20_000;

// The package does not export its client, so it is loaded from its file.
const { PanguardAgentClient } = await import(pathToFileURL(CLIENT_FILE));

const status = {
  mode: 'protection',
  eventsProcessed: 1200,
  threatsDetected: 3,
  actionsExecuted: 2,
  uptime: 86400,
  memoryUsageMB: 64.5,
};
const report = {
  event: {
    id: 'evt-e2e-1',
    timestamp: '2026-03-07T12:05:00.000Z',
    source: 'syslog',
    severity: 'high',
    category: 'brute_force',
    description: 'Repeated failed logins',
    raw: { attempts: 42 },
    host: os.hostname(),
    metadata: { sourceIP: '198.51.100.7' },
  },
  verdict: { conclusion: 'malicious', confidence: 93, action: 'block_ip' },
};

async function ask(method, path, body) {
  const response = await fetch(API_URL + path, {
    method,
    headers: { Authorization: `Bearer ${ADMIN_TOKEN}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer.data;
}

// Asks again until the answer is right.
async function eventually(what, holds) {
  const deadline = Date.now() + SOON_MS;
  for (;;) {
    const seen = await holds();
    if (seen) return seen;
    assert.ok(Date.now() < deadline, `in time: ${what}`);
    await sleep(50);
  }
}

const client = new PanguardAgentClient(API_URL, HEARTBEAT_MS);
const own = () => `/api/agents/${client.getAgentId()}`;
const hasStatus = (wanted) => async () => (await ask('GET', own())).status === wanted;

before(() => assert.ok(API_URL && ADMIN_TOKEN && CLIENT_FILE, 'run.sh sets these'));
after(() => client.stopHeartbeat());

test('it registers without a token and is in the list', async () => {
  const answer = await client.register('1.0.0');
  assert.match(answer.agentId, /^agent-[0-9a-f]{16}$/);
  assert.ok(client.isRegistered());
  const listed = (await ask('GET', '/api/agents')).find((agent) => agent.id === answer.agentId);
  assert.equal(listed.hostname, os.hostname());
  assert.equal(listed.os, `${os.type()} ${os.release()}`);
  assert.equal(listed.version, '1.0.0');
  assert.equal(listed.status, 'online');
});

test('its own timer beats, and the mode and counts it tells are shown', async () => {
  client.startHeartbeat(() => ({ ...status }));
  const shown = await eventually('its figures', async () => {
    const agent = await ask('GET', own());
    return agent.mode !== undefined && agent;
  });
  for (const [name, value] of Object.entries(status)) assert.equal(shown[name], value, name);
  const first = shown.lastHeartbeat;
  await eventually('another heartbeat', async () => (await ask('GET', own())).lastHeartbeat > first);
  assert.equal((await ask('GET', own())).status, 'online');
});

test('the event it reports is a threat', async () => {
  await client.reportEvent(report);
  const threats = await ask('GET', `/api/threats?agent_id=${client.getAgentId()}`);
  assert.equal(threats.length, 1);
  const [threat] = threats;
  assert.equal(threat.agentId, client.getAgentId());
  assert.equal(threat.hostname, os.hostname());
  assert.equal(threat.type, report.event.category);
  assert.equal(threat.severity, report.event.severity);
  assert.equal(threat.confidence, report.verdict.confidence / 100);
  assert.equal((await ask('GET', own())).recentThreats, 1);
});

test('it pulls the enabled rules of a published policy as strings', async () => {
  const block = { type: 'block_ip', config: { ip: '198.51.100.7', minutes: 60 } };
  const off = { type: 'custom', config: { note: 'not yet' }, enabled: false };
  const alert = { type: 'alert_threshold', config: { severity: 'high' }, enabled: true };
  const policy = await ask('POST', '/api/policy', { name: 'e2e', rules: [block, off, alert] });
  assert.equal((await ask('GET', own())).activePolicyVersion, policy.version);
  const rules = await client.pullRules();
  assert.ok(rules.every((rule) => typeof rule === 'string'), JSON.stringify(rules));
  const pulled = rules.map((rule) => JSON.parse(rule));
  assert.deepEqual(pulled.map(({ type, config }) => ({ type, config })), [
    { type: block.type, config: block.config },
    { type: alert.type, config: alert.config },
  ]);
});

test('it goes stale when it stops, and a heartbeat brings it back', async () => {
  client.stopHeartbeat();
  await eventually('stale', hasStatus('stale'));
  await client.heartbeat(status);
  await eventually('online', hasStatus('online'));
});
