import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { assertRejected, directory, load, messageOf, upstreamOf } from '../../../test/support/config.ts';

test('every key is understood', () => {
  const ca = rootCertificates[0] ?? '';
  writeFileSync(join(directory, 'extra-ca.pem'), ca);
  const config = load(`
upstreams:
  ghcr.io:
    url: http://127.0.0.1:8080
    api: https://github.example.com/api/v3
    credentials: []
    offline: true
    realms: [auth.example.com, "auth.example.com:8443"]
    blobHosts: [cdn.example.com, "cdn.example.com:8443", "*.s3.example.com"]
    parallel: 2
    timeouts: { connect: 1s, headers: 2m, stall: 500ms }
    ca: extra-ca.pem
  quay.io: {}
  docker.io:
  registry:5000: { url: "http://registry:5000" }
default: quay.io
`);
  assert.deepEqual(upstreamOf(config, 'ghcr.io'), {
    url: new URL('http://127.0.0.1:8080'),
    api: new URL('https://github.example.com/api/v3'),
    credentials: [],
    isUnwritten: false,
    offline: true,
    realms: ['auth.example.com', 'auth.example.com:8443'],
    blobHosts: ['cdn.example.com', 'cdn.example.com:8443', '*.s3.example.com'],
    parallel: 2,
    timeouts: { connectMs: 1_000, headersMs: 120_000, stallMs: 500 },
    ca,
  });
  assert.equal(config.default, 'quay.io');
  assert.deepEqual([...config.upstreams.keys()], ['ghcr.io', 'quay.io', 'docker.io', 'registry:5000']);
});

test('the registry and the API of an enterprise GitHub follow from each other', () => {
  const cases: [name: string, written: string, url: string, api: string | undefined][] = [
    ['containers.octo.ghe.com', '{}', 'https://containers.octo.ghe.com/', 'https://api.octo.ghe.com/'],
    [
      'octo.lab',
      '{ url: "https://containers.octo.ghe.com" }',
      'https://containers.octo.ghe.com/',
      'https://api.octo.ghe.com/',
    ],
    [
      'octo.lab',
      '{ api: "https://api.octo.ghe.com" }',
      'https://containers.octo.ghe.com/',
      'https://api.octo.ghe.com/',
    ],
    ['octo.lab', '{ api: "https://github.lab/api/v3" }', 'https://containers.github.lab/', 'https://github.lab/api/v3'],
    [
      'ghcr.io',
      '{ api: "https://github.lab:8443/api/v3/" }',
      'https://containers.github.lab:8443/',
      'https://github.lab:8443/api/v3/',
    ],
    ['ghcr.io', '{ api: "https://api.elsewhere.example" }', 'https://ghcr.io/', 'https://api.elsewhere.example/'],
    ['containers.corp.example', '{}', 'https://containers.corp.example/', undefined],
    [
      'octo.lab',
      '{ url: "https://r.lab", api: "https://github.lab/api/v3" }',
      'https://r.lab/',
      'https://github.lab/api/v3',
    ],
    ['containers.a.b.ghe.com', '{}', 'https://containers.a.b.ghe.com/', undefined],
  ];
  for (const [name, written, url, api] of cases) {
    const upstream = upstreamOf(load(`upstreams: { "${name}": ${written} }`), name);
    assert.deepEqual([upstream.url.href, upstream.api?.href], [url, api], `${name} ${written}`);
  }
});

test('what is written for an upstream overrides its defaults', () => {
  const { url, api, parallel } = upstreamOf(load('upstreams: { ghcr.io: { url: "http://127.0.0.1:1" } }'), 'ghcr.io');
  assert.deepEqual([url.href, api?.href, parallel], ['http://127.0.0.1:1/', 'https://api.github.com/', 4]);

  const config = load('upstreams: { quay.io: {}, docker.io: {} }');
  const quay = upstreamOf(config, 'quay.io');
  assert.deepEqual([quay.url.href, quay.api, quay.realms, quay.parallel], ['https://quay.io/', undefined, [], 1]);
  const hub = upstreamOf(config, 'docker.io');
  assert.deepEqual([hub.url.href, hub.realms], ['https://registry-1.docker.io/', ['auth.docker.io']]);
  assert.equal(upstreamOf(config, config.default).url.href, 'https://ghcr.io/');
});

test('a time to wait has an end, and a blob host is one', () => {
  const of = (key: string) => `upstreams:\n  quay.io:\n    ${key}`;
  const wait = 'is not a time to wait; write a number with a unit, up to 1h, such as 500ms or 60s';
  const host = 'is not a host; write host, host:port or *.suffix in lower case, without https://';
  assertRejected([
    [of('timeouts: { headers: 0 }'), `3: upstreams.quay.io.timeouts.headers: 0 ${wait}`],
    [of('timeouts: { connect: 2h }'), `3: upstreams.quay.io.timeouts.connect: "2h" ${wait}`],
    [of('parallel: 0'), '3: upstreams.quay.io.parallel: 0 is not a whole number from 1 to 16'],
    [of('timeouts: { stall: soon }'), `3: upstreams.quay.io.timeouts.stall: "soon" ${wait}`],
    [of('blobHosts: ["https://cdn.example"]'), `3: upstreams.quay.io.blobHosts[0]: "https://cdn.example" ${host}`],
    [of('blobHosts: ["*"]'), `3: upstreams.quay.io.blobHosts[0]: "*" ${host}`],
    [of('blobHosts: ["cdn-*.example"]'), `3: upstreams.quay.io.blobHosts[0]: "cdn-*.example" ${host}`],
  ]);
});

test('a host, address, realm or certificate that is none is rejected', () => {
  const host = 'not a host; write it in lower case and with a dot or a port, as in ghcr.io or registry:5000';
  const url = 'is not the address of a registry; write it without a path or a user, such as https://ghcr.io';
  const of = (key: string) => `upstreams:\n  quay.io:\n    ${key}`;
  assertRejected([
    ['upstreams: [quay.io]', '1: upstreams: a list is not a map of upstreams'],
    ['upstreams:\n  https://quay.io: {}', `2: upstreams.https://quay.io: ${host}`],
    ['upstreams:\n  octocat: {}', `2: upstreams.octocat: ${host}`],
    [
      'upstreams:\n  quay.io: https://quay.io',
      '2: upstreams.quay.io: "https://quay.io" is not a map; it may have the keys url, api, credentials, parallel, offline, realms, blobHosts, timeouts, ca',
    ],
    [of('url: quay.io'), `3: upstreams.quay.io.url: "quay.io" ${url}`],
    [of('url: https://me:@s3cret/@quay.io'), `3: upstreams.quay.io.url: "https://…@quay.io" ${url}`],
    [of('url: https://quay.io/v2'), `3: upstreams.quay.io.url: "https://quay.io/v2" ${url}`],
    [
      of('api: ftp://api'),
      '3: upstreams.quay.io.api: "ftp://api" is not the address of an API; write it without a user, such as https://api.github.com',
    ],
    [
      of('realms: [https://auth.quay.io]'),
      '3: upstreams.quay.io.realms[0]: "https://auth.quay.io" is not a host; write host or host:port in lower case, without https://',
    ],
    [of('ca: none.pem'), '3: upstreams.quay.io.ca: DIRECTORY/none.pem: there is no such file'],
    [of('ca: config.yaml'), '3: upstreams.quay.io.ca: DIRECTORY/config.yaml holds no certificate in PEM format'],
    ['log: {}\ndefault: quay.io', '2: default: "quay.io" is not one of the upstreams, which are ghcr.io'],
  ]);
});

test('a credential goes over plain http to loopback only', () => {
  const withUrl = (url: string, credentials: string) =>
    load(`upstreams: { quay.io: { url: "${url}", credentials: ${credentials} } }`);
  const ours = '[{ username: me, token: x }]';
  for (const url of ['http://127.0.0.1:80', 'http://localhost:5000', 'http://[::1]:5000']) withUrl(url, ours);
  for (const url of ['http://10.0.0.1', 'http://localhost.example.com', 'http://0.0.0.0:80']) {
    assert.throws(() => withUrl(url, ours), { key: 'upstreams.quay.io.url' }, url);
    withUrl(url, '[]');
  }
  const remedy = 'write https, or "credentials: []" to send none';
  assertRejected([
    [
      'upstreams:\n  quay.io:\n    url: http://quay.io\n    credentials: [{ name: ci, username: me, token: x }]',
      `3: upstreams.quay.io.url: plain http would send the credential ci unencrypted to quay.io; ${remedy}`,
    ],
    [
      'upstreams:\n  ghcr.io:\n    api: http://10.0.0.1\n    credentials: [{ token: x }]',
      `3: upstreams.ghcr.io.api: plain http would send the credential credential 1 unencrypted to 10.0.0.1; ${remedy}`,
    ],
  ]);
  const text = 'upstreams:\n  ghcr.io: { url: "http://ghcr.lan" }';
  assert.equal(
    messageOf(() => load(text, { CR_PAT: 's3cret' })),
    `config.yaml:2: upstreams.ghcr.io.url: plain http would send the credential CR_PAT unencrypted to ghcr.lan; ${remedy}`,
  );
  load(text);
});

test('the look-alike of ghcr.io is rejected, wherever it is written', () => {
  const problem = 'is not GitHub, and asks for logins that are meant for it; write ghcr.io';
  assertRejected([
    ['upstreams:\n  ghrc.io: {}', `2: upstreams.ghrc.io: ghrc.io ${problem}`],
    ['upstreams:\n  ghrc.io:443: {}', `2: upstreams.ghrc.io:443: ghrc.io:443 ${problem}`],
    ['upstreams:\n  ghcr.io:\n    url: https://GHRC.io', `3: upstreams.ghcr.io.url: ghrc.io ${problem}`],
    [
      'upstreams:\n  ghcr.io:\n    realms: [x.io, auth.ghrc.io]',
      `3: upstreams.ghcr.io.realms[1]: auth.ghrc.io ${problem}`,
    ],
  ]);
  load('upstreams: { "notghrc.io": {}, ghrc.io.example.com: {} }');
});
