// The npm package librato-node, unchanged, against zibrato-local.
//
// ci/clients starts the receivers and sets the addresses. The package can only write, so what it wrote is read back
// over HTTP.
'use strict';

const assert = require('node:assert/strict');
const {once} = require('node:events');
const http = require('node:http');
const {beforeEach, test} = require('node:test');
const librato = require('librato-node');

const {ZIBRATO_OPEN: OPEN, ZIBRATO_GUARDED: GUARDED, ZIBRATO_TOKEN: TOKEN} = process.env;
const EMAIL = 'me@example.org';
const DEADLINE_MS = 10_000;

// The package writes to a fixed address unless its request options, which are public, name another.
function configure({address = OPEN, token = TOKEN, ...settings} = {}) {
  librato.configure({email: EMAIL, token, ...settings, requestOptions: {uri: `http://${address}/v1/metrics`}});
}

function flush() {
  return new Promise((resolve, reject) => librato.flush((error) => (error ? reject(error) : resolve())));
}

async function get(path, address = OPEN) {
  const authorization = 'Basic ' + Buffer.from(`${EMAIL}:${TOKEN}`).toString('base64');
  const response = await fetch(`http://${address}${path}`, {headers: {authorization}});
  return {status: response.status, body: await response.json()};
}

// What is known of a metric, with its latest points by source.
async function read(name, address) {
  const {status, body} = await get(`/v1/metrics/${name}?count=100&resolution=1`, address);
  assert.equal(status, 200, name);
  return body;
}

async function values(name, source = 'unassigned') {
  return (await read(name)).measurements[source].map((point) => point.value);
}

async function isAbsent(name, address) {
  return (await get(`/v1/metrics/${name}`, address)).status === 404;
}

beforeEach(() => configure());

test('increments arrive as a counter that goes up', async () => {
  librato.increment('node.count');
  librato.increment('node.count', 2);
  librato.increment('node.count', 5, {source: 'web1'});
  await flush();
  librato.increment('node.count', 4);
  await flush();
  const metric = await read('node.count');
  assert.equal(metric.type, 'counter');
  assert.match(metric.attributes.created_by_ua, /^librato-node\/\d/);
  assert.deepEqual(await values('node.count'), [3, 7]);
  // The package sends what it has counted so far with every flush.
  assert.deepEqual(await values('node.count', 'web1'), [5, 5]);
});

test('one measurement arrives as a value, several as a summary', async () => {
  librato.measure('node.one', 36.6);
  for (const value of [3, 1, 4, 1, 5]) librato.measure('node.several', value, {source: 'web1'});
  await flush();
  assert.deepEqual(await values('node.one'), [36.6]);
  const {type, measurements} = await read('node.several');
  assert.equal(type, 'gauge');
  assert.equal(measurements.web1.length, 1);
  const {value, count, sum, min, max, sum_squares} = measurements.web1[0];
  assert.deepEqual([value, count, sum, min, max, sum_squares], [2.8, 5, 14, 1, 5, 52]);
});

test('timings arrive in milliseconds, of functions that return and of functions that call back', async () => {
  const started = performance.now();
  const later = (done) => setTimeout(() => done(null, 'answer'), 20);
  assert.equal(librato.timing('node.timing.sync', () => 'returned'), 'returned');
  await new Promise((resolve) => librato.timing('node.timing.async', later, resolve));
  const answer = await new Promise((resolve) =>
    librato.timing('node.timing.source', later, {source: 'web1'}, (error, result) => resolve(result)));
  assert.equal(answer, 'answer');
  const elapsed = performance.now() - started;
  await flush();
  for (const [name, source, least] of [['sync', , 0], ['async', , 19], ['source', 'web1', 19]]) {
    const [value] = await values(`node.timing.${name}`, source);
    assert.ok(least <= value && value <= elapsed, `${name}: ${least} <= ${value} <= ${elapsed}`);
  }
});

test('prefix, source and cleaned names are taken', async () => {
  configure({prefix: 'node.', source: 'host1'});
  librato.measure('a name', 1);
  librato.measure('a name', 2, {source: 'host2'});
  await flush();
  assert.deepEqual(await values('node.a_name', 'host1'), [1]);
  assert.deepEqual(await values('node.a_name', 'host2'), [2]);
});

test('the middleware counts requests and times answers', async () => {
  const middleware = librato.middleware({
    requestCountKey: 'node.http.requests',
    responseTimeKey: 'node.http.time',
    statusCodeKey: 'node.http.status',
  });
  const server = http.createServer((request, response) => middleware(request, response, () => response.end('x')));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = `http://127.0.0.1:${server.address().port}/`;
  for (let i = 0; i < 3; i++) await (await fetch(address)).text();
  server.closeAllConnections();
  server.close();
  await flush();
  assert.deepEqual(await values('node.http.requests'), [3]);
  assert.deepEqual(await values('node.http.status.2xx'), [3]);
  assert.equal((await read('node.http.time')).measurements.unassigned[0].count, 3);
});

test('the worker flushes by itself and once more when it stops', async () => {
  configure({period: 100});
  librato.start();
  librato.measure('node.worker', 1);
  const deadline = Date.now() + DEADLINE_MS;
  while (await isAbsent('node.worker')) assert.ok(Date.now() < deadline, 'the worker never flushed');
  librato.measure('node.worker.last', 2);
  await new Promise((resolve, reject) => librato.stop((error) => (error ? reject(error) : resolve())));
  assert.deepEqual(await values('node.worker'), [1]);
  assert.deepEqual(await values('node.worker.last'), [2]);
});

test('a wrong token is told as an error event, the right one is none', async () => {
  configure({address: GUARDED, token: 'wrong'});
  librato.measure('node.guarded', 1);
  const refused = once(librato, 'error');
  librato.flush();
  const [error] = await refused;
  assert.match(error.message, /Credentials are required to access this resource\..*\(statusCode: 401\)$/);
  assert.ok(await isAbsent('node.guarded', GUARDED));

  configure({address: GUARDED});
  librato.measure('node.guarded', 1);
  await flush();
  assert.equal((await read('node.guarded', GUARDED)).measurements.unassigned[0].value, 1);
});

test('a type clash is told as an error event that names the metric', async () => {
  librato.measure('node.clash', 1);
  await flush();
  librato.increment('node.clash');
  librato.measure('node.clash.beside', 1);
  const refused = once(librato, 'error');
  librato.flush();
  const [error] = await refused;
  assert.match(error.message, /'node\.clash' is a gauge, but was submitted as different type.*\(statusCode: 400\)$/s);
  assert.ok(await isAbsent('node.clash.beside'));
});
