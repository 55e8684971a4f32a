// What is logged of requests: one line each, with what was sent, at the level that it deserves, and nothing that a
// client meant for the upstream alone.
import assert from 'node:assert/strict';
import http from 'node:http';
import { type TestContext, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startBoth, type TestCache } from '../../support/cache.ts';
import { answers } from '../../support/ghcr/faults.ts';
import { makeImage } from '../../support/images.ts';
import { CI, startPushing } from '../../support/push-client.ts';
import { raw, lines as requestOf } from '../../support/raw.ts';

const MIB = 1024 * 1024;
const image = makeImage({ layers: [3 * MIB, 1000] });
const [large, small] = image.layers;

async function start(t: TestContext) {
  const both = await startBoth(t);
  both.ghcr.push('owner/app', image, 'v1');
  return both;
}

interface Line {
  readonly level: string;
  readonly message: string;
  readonly text: string;
  readonly field: (name: string) => string | undefined;
}

/** The lines of requests, once there are so many. */
async function requestLines(cache: TestCache, count: number): Promise<Line[]> {
  const all = () => cache.log().split(/\n(?=debug |info |warn |error )/);
  const requests = () => all().filter(text => /\bmethod: /.test(text));
  await until(() => requests().length >= count);
  return requests().map(text => ({
    level: text.split(' ', 1)[0] ?? '',
    message: text.slice(text.indexOf(' ') + 1, text.indexOf(' {')),
    text,
    field: name => new RegExp(`\\b${name}: '?([^\\n]*?)'?,?\\n`).exec(text)?.[1],
  }));
}

test('a line has kind, image, outcome, status, bytes, time, client and user agent', async t => {
  const { cache } = await start(t);
  await cache.get('/v2/owner/app/manifests/v1', { headers: { 'user-agent': 'docker/29.0.1' } });
  const [line] = await requestLines(cache, 1);
  const fields = ['method', 'kind', 'image', 'outcome', 'status', 'bytes', 'ms', 'client', 'agent'];
  assert.deepEqual(
    [line?.level, line?.message, ...fields.map(name => line?.field(name))],
    [
      ...[
        'info',
        'request',
        'GET',
        'manifest',
        'ghcr.io/owner/app:v1',
        'miss',
        '200',
        String(image.manifest.bytes.length),
      ],
      ...['0', '127.0.0.1', 'docker/29.0.1'],
    ],
  );
});

test('the bytes are those of the body, one response after the other on a connection, however they are sent', async t => {
  const { cache } = await start(t);
  const blob = (digest: string | undefined) => `/v2/owner/app/blobs/${digest}`;
  await cache.get(blob(large?.digest));
  await cache.get(blob(small?.digest));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ask = (path: string, headers = {}, method = 'GET') =>
    new Promise<number>((resolve, reject) => {
      const request = http.request(cache.url + path, { agent, method, headers }, response => {
        let length = 0;
        response.on('data', chunk => {
          length += chunk.length;
        });
        response.on('end', () => resolve(length));
      });
      request.on('error', reject).end();
    });
  const received = [
    await ask(blob(large?.digest)),
    await ask(blob(large?.digest), {}, 'HEAD'),
    await ask(blob(small?.digest)),
    await ask(blob(large?.digest), { range: 'bytes=1000-' }),
    await ask(blob(large?.digest), { range: 'bytes=0-0,500000-1500000' }),
    await ask(blob(large?.digest), { 'if-none-match': `"${large?.digest}"` }),
    await ask('/v2/owner/app/manifests/none'),
  ];
  assert.deepEqual(received.slice(0, 4), [3 * MIB, 0, 1000, 3 * MIB - 1000]);
  const lines = await requestLines(cache, 2 + received.length);
  assert.deepEqual(
    lines.slice(2).map(line => Number(line.field('bytes'))),
    received,
  );
});

test('of a body that a client leaves, those that it was sent are counted', async t => {
  const { ghcr, cache } = await startBoth(t);
  const huge = makeImage({ layers: [30 * MIB] });
  ghcr.push('owner/app', huge, 'v1');
  const path = `/v2/owner/app/blobs/${huge.layers[0]?.digest}`;
  await cache.get(path);
  await cache.get(path, { leaveAfter: MIB });
  const [, line] = await requestLines(cache, 2);
  assert.equal(line?.message, 'client disconnected');
  assert.equal(line.field('client'), '127.0.0.1');
  const bytes = Number(line?.field('bytes'));
  assert(bytes >= MIB && bytes < 30 * MIB, String(bytes));
});

test('4xx are info, 5xx warn, pings and health checks debug', async t => {
  const { ghcr, cache } = await start(t);
  ghcr.fault({ endpoint: 'manifest', reference: 'broken', answer: answers.serverError() });
  const expected: [path: string, status: number, level: string, kind: string][] = [
    ['/v2/', 200, 'debug', 'base'],
    ['/healthz', 200, 'debug', 'health'],
    ['/readyz', 200, 'debug', 'health'],
    ['/v2/owner/app/manifests/v1', 200, 'info', 'manifest'],
    ['/v2/owner/app/manifests/none', 404, 'info', 'manifest'],
    ['/v2/owner/app/manifests/broken', 502, 'warn', 'manifest'],
    ['/v2/OWNER/app/tags/list', 400, 'info', 'other'],
    ['/favicon.ico', 404, 'info', 'other'],
  ];
  const bytes: number[] = [];
  for (const [path, status] of expected) {
    const reply = await cache.get(path);
    assert.equal(reply.status, status, path);
    bytes.push(reply.body.length);
  }
  const lines = await requestLines(cache, expected.length);
  assert.deepEqual(
    lines.map(line => Number(line.field('bytes'))),
    bytes,
  );
  assert.deepEqual(
    lines.map(line => [Number(line.field('status')), line.level, line.field('kind')]),
    expected.map(([, status, level, kind]) => [status, level, kind]),
  );
});

test('no query of what is no endpoint, no Authorization and no user in a target is logged', async t => {
  const { cache } = await start(t);
  const secret = 's3cret-of-a-client';
  const { host } = new URL(cache.url);
  const headers = [`Host: ${host}`, `Authorization: Basic ${secret}`, `Cookie: ${secret}`];
  for (const target of [
    `/token?account=x&password=${secret}`,
    `/v2/auth?token=${secret}`,
    `/v2/OWNER/app/manifests/v1?token=${secret}`,
    `/v2/?token=${secret}`,
    `/v2/_catalog?token=${secret}`,
    `/healthz?token=${secret}`,
    `http://user:${secret}@${host}/v2/owner/app/manifests/v1?token=${secret}`,
    `http://user:${secret}@${host}/nothing#${secret}`,
    `http://user:${secret}@evil.example/nothing?${secret}`,
  ]) {
    await raw(cache.url, requestOf(`GET ${target} HTTP/1.1`, ...headers));
  }
  const all = await requestLines(cache, 9);
  assert.equal(all.length, 9);
  assert.doesNotMatch(cache.log(), /s3cret/);
});

test('a credential that is refused is one error when that happens, and one each hour', async t => {
  const { ghcr, cache, clock } = await startPushing(t, { user: { username: 'other', token: 'other', packages: [] } });
  for (const name of ['one', 'two']) ghcr.push(`owner/${name}`, image, 'v1');
  const errors = () => cache.log().match(/^error credential "ci" was denied/gm)?.length ?? 0;
  const pull = async () => {
    for (const name of ['one', 'two', 'one']) await cache.get(`/v2/owner/${name}/manifests/v1`);
  };
  await pull();
  assert.equal(errors(), 1);
  for (let minutes = 0; minutes < 55; minutes += 5) {
    clock.advance(5 * 60_000);
    await pull();
  }
  assert.equal(errors(), 1);
  clock.advance(6 * 60_000);
  await pull();
  await pull();
  assert.equal(errors(), 2);
  assert.doesNotMatch(cache.log(), new RegExp(CI.token));
});
