// Requests that a web page made a browser send: under a name that its owner lets mean this machine, or from a page of
// another site. They get no answer of the cache, whatever they ask for, and reach nothing.
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { errorOf } from '../../support/http-client.ts';
import { makeImage } from '../../support/images.ts';
import { lines, raw } from '../../support/raw.ts';
import { REGISTRY_CLIENTS } from '../../support/registry-clients.ts';

const image = makeImage({ layers: [1000] });
const [layer] = image.layers;
/** Everything that a page would be after, and what looks harmless. */
const REQUESTS: [method: string, path: string][] = [
  ['GET', '/v2/'],
  ['GET', '/v2/_catalog'],
  ['GET', '/v2/owner/app/manifests/v1'],
  ['HEAD', `/v2/owner/app/blobs/${layer?.digest}`],
  ['POST', '/v2/owner/app/blobs/uploads/'],
  ['POST', `/v2/owner/page/blobs/uploads/?mount=${layer?.digest}&from=owner/app`],
  ['PUT', '/v2/owner/app/manifests/v1'],
  ['DELETE', '/v2/owner/app/manifests/v1'],
  ['OPTIONS', '/v2/owner/app/manifests/v1'],
  ['GET', '/healthz'],
  ['GET', '/readyz'],
  ['GET', '/'],
  ['GET', '/api/v1/status'],
];

async function start(t: Parameters<typeof startBoth>[0], config = {}) {
  const both = await startBoth(t, { config });
  both.ghcr.push('owner/app', image, 'v1');
  return both;
}

test('a name that is not one of this cache gets a 421 that says what to do, on every path', async t => {
  const { ghcr, cache } = await start(t);
  for (const [method, path] of REQUESTS) {
    const reply = await cache.get(path, { method, headers: { host: 'rebind.evil.example:5000' } });
    assert.equal(reply.status, 421, `${method} ${path}`);
    if (method === 'HEAD') continue;
    const message = path.startsWith('/v2') ? errorOf(reply).message : reply.body.toString();
    assert.match(message, /^"rebind\.evil\.example:5000" is not a name of this cache: .* listen\.hosts\n?$/);
  }
  assert.equal(ghcr.requests.length, 0);
  assert.match(cache.log(), /info request .*status: 421.*reason: '"rebind/s);
});

test('addresses, names that nobody can register, those of the machine and those of listen.hosts are answered', async t => {
  const { cache } = await start(t, { listen: { port: 0, hosts: ['cache.lab.example'] } });
  for (const host of ['[::1]:5000', 'registry:5000', 'a.local', hostname(), 'CACHE.lab.example.:443', '10.1.2.3']) {
    for (const [path, status] of [
      ['/v2/', 200],
      ['/healthz', 200],
      ['/v2/owner/app/manifests/v1', 200],
      ['/no', 404],
    ] as const) {
      const reply = await cache.get(path, { headers: { host } });
      assert.equal(reply.status, status, `${host} ${path}: ${reply.body}`);
    }
  }
});

test('a page of another site is refused on every path, and so are its preflights', async t => {
  const { ghcr, cache } = await start(t);
  const { host } = new URL(cache.url);
  for (const headers of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: `https://${host}` },
    { origin: 'http://127.0.0.1:1' },
    { origin: 'http://localhost' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: `http://${host}`, 'sec-fetch-site': 'cross-site' },
    { origin: 'https://evil.example', 'access-control-request-method': 'PUT' },
  ]) {
    for (const [method, path] of REQUESTS) {
      const reply = await cache.get(path, { method, headers });
      assert.equal(reply.status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
      if (method === 'HEAD') continue;
      const message = path.startsWith('/v2') ? errorOf(reply).message : reply.body.toString();
      assert.match(
        message,
        /^the request comes from a web page of another site \((Origin|Sec-Fetch-Site): .*listen\.hosts/,
      );
      for (const name of Object.keys(reply.headers)) assert.doesNotMatch(name, /^access-control/);
    }
  }
  assert.equal(ghcr.requests.length, 0);
});

test('its own pages and the address bar are answered', async t => {
  const { cache } = await start(t);
  const { host } = new URL(cache.url);
  for (const headers of [
    { origin: `http://${host}`, 'sec-fetch-site': 'same-origin' },
    { origin: `http://${host}` },
    { 'sec-fetch-site': 'none', 'sec-fetch-mode': 'navigate' },
    { host: 'LOCALHOST:5000', origin: 'http://localhost:5000' },
    { host: 'localhost:80', origin: 'http://localhost' },
  ]) {
    const reply = await cache.get('/v2/owner/app/manifests/v1', { headers });
    assert.equal(reply.status, 200, JSON.stringify(headers));
  }
});

test('no registry client sends what is refused', async t => {
  const { cache } = await start(t);
  for (const [client, headers] of Object.entries(REGISTRY_CLIENTS)) {
    for (const host of [new URL(cache.url).host, 'localhost:5000', 'ghcr-cache:5000']) {
      const head = ['GET /v2/owner/app/manifests/v1 HTTP/1.1', `Host: ${host}`, ...headers];
      assert.match(await raw(cache.url, lines(...head)), /^HTTP\/1\.1 200 /, `${client} at ${host}`);
    }
  }
});

test('who asks before sending a body is told to go on only when the request is answered', async t => {
  const { ghcr, cache } = await start(t);
  const put = (host: string) => {
    const length = ['Content-Length: 2', 'Expect: 100-continue'];
    const head = lines('PUT /v2/owner/app/manifests/v1 HTTP/1.1', `Host: ${host}`, ...length);
    return raw(cache.url, `${head}{}`);
  };
  assert.match(await put('localhost'), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 400 /);
  assert.match(await put('evil.example'), /^HTTP\/1\.1 421 /);
  assert.equal(ghcr.requests.length, 0);
});

test('two Hosts, or an empty one, are a bad request', async t => {
  const { cache } = await start(t);
  for (const hosts of [['Host: localhost', 'Host: localhost'], ['Host: localhost', 'host: evil.example'], ['Host:']]) {
    for (const path of ['/v2/', '/healthz', '/']) {
      assert.match(await raw(cache.url, lines(`GET ${path} HTTP/1.1`, ...hosts)), /^HTTP\/1\.1 400 /, hosts.join());
    }
  }
});

test('the authority of an absolute target is its Host', async t => {
  const { cache } = await start(t);
  for (const [target, host, status] of [
    ['http://localhost:5000/v2/owner/app/manifests/v1', 'evil.example', 200],
    ['http://evil.example/v2/owner/app/manifests/v1', 'localhost', 421],
    ['http://localhost@evil.example/v2/', 'localhost', 421],
    ['http://evil.example?localhost/v2/', 'localhost', 421],
    ['http://evil.example?@localhost/v2/', 'localhost', 421],
    ['http://evil.example#@localhost/v2/', 'localhost', 400],
    ['http://evil.example\\@localhost/v2/', 'localhost', 400],
  ] as const) {
    const reply = await raw(cache.url, lines(`GET ${target} HTTP/1.1`, `Host: ${host}`));
    assert.match(reply, new RegExp(`^HTTP/1\\.1 ${status} `), target);
  }
});
