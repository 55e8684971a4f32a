import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { assertServable, ConfigError, loadConfig } from './load.ts';
import type { Config, UpstreamConfig } from './schema.ts';

const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-config-'));
after(() => rmSync(folder, { recursive: true }));

const GIB = 1024 ** 3;
const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** The config that `text` makes as a file. */
function load(text: string, env: NodeJS.ProcessEnv = {}): Config {
  writeFileSync(join(folder, 'config.yaml'), text);
  return loadConfig({ file: 'config.yaml', env, cwd: folder });
}

function upstream(config: Config, host: string): UpstreamConfig {
  const found = config.upstreams.get(host);
  assert.ok(found, host);
  return found;
}

/** The message of what `run` throws, with the test's folder written as FOLDER. */
function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    return error.message.replaceAll(folder, 'FOLDER');
  }
  assert.fail('it was accepted');
}

test('with no file the defaults hold', () => {
  assert.deepEqual(loadConfig({ env: {}, cwd: '/somewhere' }), {
    listen: { host: '127.0.0.1', port: 5000, workers: 1 },
    data: '/somewhere/data',
    cache: { maxSizeBytes: 50 * GIB, minFreeBytes: 2 * GIB },
    upstreams: new Map([
      [
        'ghcr.io',
        {
          host: 'ghcr.io',
          url: new URL('https://ghcr.io'),
          api: new URL('https://api.github.com'),
          credentials: [],
          offline: false,
          realms: [],
          parallel: 1,
        },
      ],
    ]),
    default: 'ghcr.io',
    tags: [{ match: '*', freshMs: MINUTE_MS, keepDeleted: false }],
    staleIfErrorMs: 30 * DAY_MS,
    push: 'through',
    access: { mode: 'open', network: false, rememberMs: 5 * MINUTE_MS },
    pins: [],
    mirror: [],
    log: { level: 'info' },
  });
});

test('a file that says nothing is the defaults', () => {
  const { file: _, ...defaults } = load('');
  assert.deepEqual(defaults, loadConfig({ env: {}, cwd: folder }));
  for (const text of ['# nothing\n', '---\n', '{}', 'cache:\n  # maxSize: 1GiB\nupstreams:\n  ghcr.io:\n']) {
    assert.deepEqual(load(text), load(''), text);
  }
});

test('the example holds the defaults', () => {
  const cwd = join(import.meta.dirname, '../..');
  const { file, ...example } = loadConfig({ file: 'config.example.yaml', env: {}, cwd });
  assert.equal(file, 'config.example.yaml');
  assert.deepEqual(example, loadConfig({ env: {}, cwd }));
});

test('every key is understood', async () => {
  for (const name of ['server.crt', 'server.key', 'ca.crt', 'htpasswd'])
    writeFileSync(join(folder, name), '');
  const ca = rootCertificates[0] ?? '';
  writeFileSync(join(folder, 'extra-ca.pem'), ca);
  const config = load(`
listen: { host: "::1", port: 0, workers: auto, tls: { cert: server.crt, key: server.key, clientCa: ca.crt } }
data: /srv/cache
cache: { maxSize: none, minFree: 0, unusedFor: 30d, verifyEvery: 1h30m }
upstreams:
  ghcr.io:
    url: http://127.0.0.1:8080
    api: https://github.example.com/api/v3
    credentials: [{ name: ci, owner: Octo*, username: octocat, token: abc }]
    offline: true
    realms: [auth.example.com, "auth.example.com:8443"]
    parallel: 4
    ca: extra-ca.pem
  quay.io: {}
  docker.io:
  registry:5000: { url: "http://registry:5000" }
default: quay.io
tags:
  - { match: v*, images: Team/*, fresh: immutable, keepDeleted: true }
  - { match: latest }
staleIfError: 0
push: off
access:
  mode: basic
  network: true
  htpasswd: htpasswd
  rules: [{ users: [alice], repositories: team/*, allow: [pull, push, delete] }]
  remember: 10s
  admin: [alice]
pins: [acme/app:stable, quay.io/acme/app, "acme/app@sha256:${'0'.repeat(64)}"]
mirror:
  - { image: acme/app, tags: v*, latest: 5, platforms: [linux/amd64], schedule: 0 3 * * * }
log: { level: debug }
`);
  const { credentials, ...ghcr } = upstream(config, 'ghcr.io');
  const { upstreams, ...rest } = config;
  assert.deepEqual(rest, {
    listen: {
      host: '::1',
      port: 0,
      workers: 'auto',
      tls: {
        cert: join(folder, 'server.crt'),
        key: join(folder, 'server.key'),
        clientCa: join(folder, 'ca.crt'),
      },
    },
    data: '/srv/cache',
    cache: {
      maxSizeBytes: Number.POSITIVE_INFINITY,
      minFreeBytes: 0,
      unusedForMs: 30 * DAY_MS,
      verifyEveryMs: 90 * MINUTE_MS,
    },
    default: 'quay.io',
    tags: [
      { match: 'v*', images: 'team/*', freshMs: Number.POSITIVE_INFINITY, keepDeleted: true },
      { match: 'latest', freshMs: MINUTE_MS, keepDeleted: false },
      { match: '*', freshMs: MINUTE_MS, keepDeleted: false },
    ],
    staleIfErrorMs: 0,
    push: 'off',
    access: {
      mode: 'basic',
      network: true,
      htpasswd: join(folder, 'htpasswd'),
      rules: [{ users: ['alice'], repositories: 'team/*', allow: ['pull', 'push', 'delete'] }],
      rememberMs: 10_000,
      admin: ['alice'],
    },
    pins: ['acme/app:stable', 'quay.io/acme/app', `acme/app@sha256:${'0'.repeat(64)}`],
    mirror: [{ image: 'acme/app', tags: 'v*', latest: 5, platforms: ['linux/amd64'], schedule: '0 3 * * *' }],
    log: { level: 'debug' },
    file: 'config.yaml',
  });
  assert.deepEqual(ghcr, {
    host: 'ghcr.io',
    url: new URL('http://127.0.0.1:8080'),
    api: new URL('https://github.example.com/api/v3'),
    offline: true,
    realms: ['auth.example.com', 'auth.example.com:8443'],
    parallel: 4,
    ca,
  });
  assert.deepEqual(
    credentials.map(({ name, owner }) => [name, owner]),
    [['ci', 'octo*']],
  );
  assert.deepEqual(await credentials[0]?.read(), { username: 'octocat', secret: 'abc' });
  assert.deepEqual([...upstreams.keys()], ['ghcr.io', 'quay.io', 'docker.io', 'registry:5000']);
});

test('what is written for an upstream goes over its defaults', () => {
  const { url, api } = upstream(load('upstreams: { ghcr.io: { url: "http://127.0.0.1:1" } }'), 'ghcr.io');
  assert.deepEqual([url.href, api?.href], ['http://127.0.0.1:1/', 'https://api.github.com/']);

  const config = load('upstreams: { quay.io: {}, docker.io: {} }');
  const quay = upstream(config, 'quay.io');
  assert.deepEqual([quay.url.href, quay.api, quay.realms], ['https://quay.io/', undefined, []]);
  const hub = upstream(config, 'docker.io');
  assert.deepEqual([hub.url.href, hub.realms], ['https://registry-1.docker.io/', ['auth.docker.io']]);
  assert.equal(upstream(config, config.default).url.href, 'https://ghcr.io/');
});

test('values read the environment', async () => {
  const env = { DIR: '/srv', PORT: '8080', FLAG: 'true', SIZE: '1GiB', NESTED: `\${PORT}` };
  const config = load(
    `
# \${NOT_READ_HERE}
listen: { port: "\${PORT}" }
data: \${DIR}/cache-\${PORT}
cache: { maxSize: "\${SIZE}" }
access: { network: "\${FLAG}" }
upstreams: { ghcr.io: { credentials: [{ username: "\${NESTED}", token: "a$\${PORT}b$c" }] } }
`,
    env,
  );
  assert.equal(config.listen.port, 8080);
  assert.equal(config.data, '/srv/cache-8080');
  assert.equal(config.cache.maxSizeBytes, GIB);
  assert.equal(config.access.network, true);
  const [credential] = upstream(config, 'ghcr.io').credentials;
  // What a variable holds is not filled in again.
  assert.deepEqual(await credential?.read(), { username: `\${PORT}`, secret: `a\${PORT}b$c` });
});

test('an anchor can be used again', async () => {
  const config = load(
    `
upstreams:
  ghcr.io: { credentials: &ours [{ name: ci, username: me, token: "\${PAT}" }] }
  quay.io: { credentials: *ours }
`,
    { PAT: 'abc' },
  );
  assert.equal((await upstream(config, 'quay.io').credentials[0]?.read())?.secret, 'abc');
});

test('paths are relative to the folder of the file', () => {
  mkdirSync(join(folder, 'etc'), { recursive: true });
  writeFileSync(join(folder, 'etc/config.yaml'), 'data: ../data\n');
  const config = loadConfig({ file: 'etc/config.yaml', env: {}, cwd: folder });
  assert.equal(config.data, join(folder, 'data'));
  assert.equal(config.file, 'etc/config.yaml');
});

const CREDENTIALS = 'upstreams:\n  ghcr.io:\n    credentials:\n      ';
const KEYS_OF_ROOT =
  'listen, data, cache, upstreams, default, tags, staleIfError, push, access, pins, mirror, log';

/** What is wrong: the file, and all that is said about it. */
const WRONG: Record<string, [text: string, message: string][]> = {
  syntax: [
    [
      'a: [1\nb: 2',
      'config.yaml:2: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['log:\n\tlevel: info', 'config.yaml:2: not valid YAML: Tabs are not allowed as indentation'],
    ['token: abc: def', 'config.yaml:1: not valid YAML: Nested mappings are not allowed in compact mappings'],
    ['push: }s3cret', 'config.yaml:1: not valid YAML: Unexpected flow-map-end token in YAML stream'],
    ['push: !s3cret x', 'config.yaml:1: not valid YAML: Unresolved tag'],
    ['push: off\n---\npush: off', 'config.yaml:2: not valid YAML: Source contains multiple documents'],
    [
      'log:\n  level: *s3cret',
      'config.yaml:2: log.level: there is no such anchor above; text that begins with * needs quotes',
    ],
    ['- push: off', `config.yaml:1: a list is not a map; it may have the keys ${KEYS_OF_ROOT}`],
    ['push', `config.yaml:1: "push" is not a map; it may have the keys ${KEYS_OF_ROOT}`],
  ],
  keys: [
    ['cache:\n  maxsize: 1GiB', 'config.yaml:2: cache.maxsize: unknown key; did you mean maxSize?'],
    ['\n\nupstream: {}', 'config.yaml:3: upstream: unknown key; did you mean upstreams?'],
    [
      'listen:\n  address: x',
      'config.yaml:2: listen.address: unknown key; known here are host, port, tls, workers',
    ],
    ['tags:\n  - match: v*\n    frsh: 5s', 'config.yaml:3: tags[0].frsh: unknown key; did you mean fresh?'],
    [
      `${CREDENTIALS}- { user: me }`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].user: unknown key; known here are name, owner, username, token, tokenFile',
    ],
    ['5: x', `config.yaml:1: 5: unknown key; known here are ${KEYS_OF_ROOT}`],
    ['push: off\nlog: {}\npush: through', 'config.yaml:3: push: written twice; the first is on line 1'],
    [
      'cache:\n  minFree: 1\n  minFree: 2',
      'config.yaml:3: cache.minFree: written twice; the first is on line 2',
    ],
    [
      'pins: [x]\nbogus: 1\nlog:\n  level: loud',
      `config.yaml:2: bogus: unknown key; known here are ${KEYS_OF_ROOT}`,
    ],
  ],
  environment: [
    [`data: \${NOPE}/x`, 'config.yaml:1: data: the environment variable NOPE is not set'],
    [
      `${CREDENTIALS}- token: "\${EMPTY}"`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].token: the environment variable EMPTY is empty',
    ],
    [
      `data: "\${NOPE"`,
      'config.yaml:1: data: a "$" and "{" must begin the name of an environment variable; write "$$" for a "$" before "{"',
    ],
    [
      `data: "\${NO-PE}"`,
      'config.yaml:1: data: a "$" and "{" must begin the name of an environment variable; write "$$" for a "$" before "{"',
    ],
    [
      `listen:\n  port: "\${SECRET}"`,
      `config.yaml:2: listen.port: "\${SECRET}" is not a whole number from 0 to 65535`,
    ],
  ],
  values: [
    [
      'cache:\n  maxSize: 50 bananas',
      'config.yaml:2: cache.maxSize: "50 bananas" is not a size; write a number with a unit, such as 50GiB',
    ],
    [
      'cache:\n  maxSize: 512k',
      'config.yaml:2: cache.maxSize: "512k" is not a size; write a number with a unit, such as 50GiB',
    ],
    [
      'cache:\n  maxSize: -1',
      'config.yaml:2: cache.maxSize: -1 is not a size; write a number with a unit, such as 50GiB',
    ],
    ['cache:\n  maxSize: 0', 'config.yaml:2: cache.maxSize: 0 would keep nothing; write none for no cap'],
    [
      'cache:\n  minFree: none',
      'config.yaml:2: cache.minFree: "none" is not a size; write a number with a unit, such as 2GiB',
    ],
    [
      'cache:\n  minFree: [1]',
      'config.yaml:2: cache.minFree: a list is not a size; write a number with a unit, such as 2GiB',
    ],
    [
      'cache:\n  minFree:',
      'config.yaml:2: cache.minFree: an empty value is not a size; write a number with a unit, such as 2GiB',
    ],
    [
      'cache:\n  unusedFor: 0',
      'config.yaml:2: cache.unusedFor: 0 is no length of time; write none to do without',
    ],
    [
      'staleIfError: 30',
      'config.yaml:1: staleIfError: 30 is not a duration; write a number with a unit, such as 60s, 5m or 30d',
    ],
    [
      'tags: [{ fresh: always }]',
      'config.yaml:1: tags[0].fresh: "always" is not a duration; write a number with a unit, such as 60s, 5m or 30d, or immutable',
    ],
    [
      'cache: 50GiB',
      'config.yaml:1: cache: "50GiB" is not a map; it may have the keys maxSize, minFree, unusedFor, verifyEvery',
    ],
    ['listen:\n  port: 65536', 'config.yaml:2: listen.port: 65536 is not a whole number from 0 to 65535'],
    ['listen:\n  port: http', 'config.yaml:2: listen.port: "http" is not a whole number from 0 to 65535'],
    ['listen:\n  port: 50.5', 'config.yaml:2: listen.port: 50.5 is not a whole number from 0 to 65535'],
    [
      'listen:\n  host: localhost:5000',
      'config.yaml:2: listen.host: "localhost:5000" is not a host name or an IP address; the port has a key of its own',
    ],
    [
      'listen:\n  host: ""',
      'config.yaml:2: listen.host: "" is not a host name or an IP address; the port has a key of its own',
    ],
    [
      'listen: { workers: 0 }',
      'config.yaml:1: listen.workers: 0 is not a whole number from 1 to 1024, nor auto',
    ],
    ['data: ~/cache', `config.yaml:1: data: "~/cache" is not a path: write \${HOME} instead of ~`],
    ['data: 7', 'config.yaml:1: data: 7 is not a path'],
    ['push: no', 'config.yaml:1: push: "no" is not one of through, off'],
    [
      'log: { level: verbose }',
      'config.yaml:1: log.level: "verbose" is not one of trace, debug, info, warn, error, fatal, silent',
    ],
    ['access: { mode: closed }', 'config.yaml:1: access.mode: "closed" is not one of open, basic, upstream'],
    ['access: { network: yes }', 'config.yaml:1: access.network: "yes" is not true or false'],
    ['pins: acme/app', 'config.yaml:1: pins: "acme/app" is not a list'],
    [
      'pins:\n  - acme/app\n  - Acme/App',
      'config.yaml:3: pins[1]: "Acme/App" is not an image; write it like owner/image:tag or ghcr.io/owner/image',
    ],
    [
      'pins: [quay.io/acme/app]',
      'config.yaml:1: pins[0]: "quay.io/acme/app" is of quay.io, which is not one of the upstreams',
    ],
    ['mirror: [{ tags: v* }]', 'config.yaml:1: mirror[0].image: missing'],
    [`data: "${'x'.repeat(200)}\\n"`, `config.yaml:1: data: "${'x'.repeat(78)}… is not a path`],
  ],
  tags: [
    [
      'tags: []',
      'config.yaml:1: tags: an empty list says nothing about any tag; take the key out for the default',
    ],
    [
      'tags:\n  - match: v?',
      'config.yaml:2: tags[0].match: "v?" is not a glob over tags; only * is special in one, and stands for anything',
    ],
    [
      'tags:\n  - match: a/b',
      'config.yaml:2: tags[0].match: "a/b" is not a glob over tags; only * is special in one, and stands for anything',
    ],
    [
      'tags:\n  - images: "{a,b}"',
      'config.yaml:2: tags[0].images: "{a,b}" is not a glob over repository names; only * is special in one, and stands for anything, also across /',
    ],
  ],
  upstreams: [
    ['upstreams: [quay.io]', 'config.yaml:1: upstreams: a list is not a map of upstreams'],
    [
      'upstreams:\n  https://quay.io: {}',
      'config.yaml:2: upstreams.https://quay.io: not a host; write it in lower case and with a dot or a port, as in ghcr.io or registry:5000',
    ],
    [
      'upstreams:\n  octocat: {}',
      'config.yaml:2: upstreams.octocat: not a host; write it in lower case and with a dot or a port, as in ghcr.io or registry:5000',
    ],
    [
      'upstreams:\n  quay.io: https://quay.io',
      'config.yaml:2: upstreams.quay.io: "https://quay.io" is not a map; it may have the keys url, api, credentials, offline, realms, parallel, ca',
    ],
    [
      'upstreams:\n  quay.io:\n    url: quay.io',
      'config.yaml:3: upstreams.quay.io.url: "quay.io" is not the address of a registry; write it without a path or a user, such as https://ghcr.io',
    ],
    [
      'upstreams:\n  quay.io:\n    url: https://me:@s3cret/@quay.io',
      'config.yaml:3: upstreams.quay.io.url: "https://…@quay.io" is not the address of a registry; write it without a path or a user, such as https://ghcr.io',
    ],
    [
      'upstreams:\n  quay.io:\n    url: https://quay.io/v2',
      'config.yaml:3: upstreams.quay.io.url: "https://quay.io/v2" is not the address of a registry; write it without a path or a user, such as https://ghcr.io',
    ],
    [
      'upstreams:\n  ghcr.io:\n    api: ftp://api',
      'config.yaml:3: upstreams.ghcr.io.api: "ftp://api" is not the address of an API; write it without a user, such as https://api.github.com',
    ],
    [
      'upstreams:\n  quay.io:\n    realms: [https://auth.quay.io]',
      'config.yaml:3: upstreams.quay.io.realms[0]: "https://auth.quay.io" is not a host; write host or host:port in lower case, without https://',
    ],
    [
      'upstreams:\n  quay.io:\n    parallel: 17',
      'config.yaml:3: upstreams.quay.io.parallel: 17 is not a whole number from 1 to 16',
    ],
    [
      'upstreams:\n  quay.io:\n    ca: none.pem',
      'config.yaml:3: upstreams.quay.io.ca: FOLDER/none.pem: there is no such file',
    ],
    [
      'upstreams:\n  quay.io:\n    ca: config.yaml',
      'config.yaml:3: upstreams.quay.io.ca: FOLDER/config.yaml holds no certificate in PEM format',
    ],
    [
      'log: {}\ndefault: quay.io',
      'config.yaml:2: default: "quay.io" is not one of the upstreams, which are ghcr.io',
    ],
  ],
  credentials: [
    [
      `${CREDENTIALS}s3cret`,
      'config.yaml:3: upstreams.ghcr.io.credentials: the value is not a list of credentials, nor the word docker',
    ],
    [
      `${CREDENTIALS}- ghp_s3cret`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0]: the value is not a map; it may have the keys name, owner, username, token, tokenFile',
    ],
    [
      `${CREDENTIALS}- name: ci`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0]: a credential needs a token or a tokenFile',
    ],
    [
      `${CREDENTIALS}- { token: a, tokenFile: b }`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0]: token and tokenFile exclude each other',
    ],
    [
      `${CREDENTIALS}- token: ""`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].token: the value is empty',
    ],
    [
      `${CREDENTIALS}- token: "s3\\ncret"`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].token: the value has a line break or another control character in it',
    ],
    [
      `${CREDENTIALS}- name: ci\n        token: 12345`,
      'config.yaml:5: upstreams.ghcr.io.credentials[0].token: the value is not text; put it in quotes',
    ],
    [
      `${CREDENTIALS}- token: [s3cret]`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].token: the value is not text',
    ],
    [
      `${CREDENTIALS}- { owner: a/b, token: x }`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].owner: "a/b" is not a glob over owners; only * is special in one, and stands for anything',
    ],
    [
      `${CREDENTIALS}- { username: "a:b", token: x }`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].username: "a:b" is not a user name',
    ],
    [
      `${CREDENTIALS}- { username: 12345, token: x }`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].username: 12345 is not text; put it in quotes',
    ],
    [
      `${CREDENTIALS}- { name: a, token: x }\n      - { name: a, token: y }`,
      'config.yaml:5: upstreams.ghcr.io.credentials[1]: two credentials are called a; logs could not tell them apart',
    ],
    [
      `${CREDENTIALS}- tokenFile: none`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].tokenFile: FOLDER/none: there is no such file',
    ],
    [
      `${CREDENTIALS}- tokenFile: .`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].tokenFile: FOLDER: it is a directory, not a file',
    ],
    [
      `${CREDENTIALS}- tokenFile: ghp_s3cret`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].tokenFile: FOLDER/ghp_…: there is no such file',
    ],
    [
      `${CREDENTIALS}- tokenFile: empty-token`,
      'config.yaml:4: upstreams.ghcr.io.credentials[0].tokenFile: FOLDER/empty-token is empty',
    ],
    [
      'upstreams:\n  quay.io:\n    credentials:\n      - token: x',
      'config.yaml:4: upstreams.quay.io.credentials[0].username: missing',
    ],
    [
      'upstreams:\n  quay.io:\n    url: http://quay.io\n    credentials: [{ name: ci, username: me, token: x }]',
      'config.yaml:3: upstreams.quay.io.url: plain http would send the credential ci readable to quay.io; write https, or "credentials: []" to go without',
    ],
    [
      'upstreams:\n  ghcr.io:\n    api: http://10.0.0.1\n    credentials: [{ token: x }]',
      'config.yaml:3: upstreams.ghcr.io.api: plain http would send the credential credential 1 readable to 10.0.0.1; write https, or "credentials: []" to go without',
    ],
  ],
  access: [
    [
      'listen:\n  host: 0.0.0.0',
      'config.yaml:2: listen.host: 0.0.0.0 is not loopback, and in open mode everybody who reaches it can use your credentials; write "access: { network: true }" if they all may',
    ],
    ['access:\n  mode: basic', 'config.yaml:2: access.mode: basic needs a file of users in access.htpasswd'],
    [
      'access:\n  htpasswd: ./users',
      'config.yaml:2: access.htpasswd: keeps nobody out in mode open; write "mode: basic", or take it out',
    ],
    [
      'access:\n  rules: []',
      'config.yaml:2: access.rules: keeps nobody out in mode open; write "mode: basic", or take it out',
    ],
    [
      'access: { mode: basic, htpasswd: none }',
      'config.yaml:1: access.htpasswd: FOLDER/none: there is no such file',
    ],
    [
      'access: { mode: basic, rules: [{ users: [a], repositories: x, allow: [read] }] }',
      'config.yaml:1: access.rules[0].allow[0]: "read" is not one of pull, push, delete',
    ],
    [
      'access: { mode: basic, rules: [{ users: [a], allow: [pull] }] }',
      'config.yaml:1: access.rules[0].repositories: missing',
    ],
    ['listen:\n  tls: { cert: config.yaml }', 'config.yaml:2: listen.tls.key: missing'],
    [
      'listen:\n  tls: { cert: config.yaml, key: none }',
      'config.yaml:2: listen.tls.key: FOLDER/none: there is no such file',
    ],
  ],
};

for (const [what, cases] of Object.entries(WRONG)) {
  test(`what is wrong is named with file, line and key: ${what}`, () => {
    writeFileSync(join(folder, 'empty-token'), '\n');
    const env = { EMPTY: '', SECRET: 's3cret' };
    for (const [text, message] of cases) {
      const actual = messageOf(() => load(text, env));
      assert.equal(actual, message, text);
      assert.doesNotMatch(actual, /s3cret/);
    }
  });
}

test('anchors that multiply are refused', () => {
  const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i},`.repeat(9)}]`);
  assert.equal(
    messageOf(() => load(['l0: &l0 x', ...levels].join('\n'))),
    'config.yaml: not usable YAML: its anchors stand for too much',
  );
});

test('the error has its particulars apart too', () => {
  assert.throws(() => load('log:\n  level: 1'), {
    name: 'ConfigError',
    file: 'config.yaml',
    line: 2,
    key: 'log.level',
  });
});

test('a file that cannot be read is named', () => {
  const message = (file: string) => messageOf(() => loadConfig({ file, env: {}, cwd: folder }));
  assert.equal(message('none.yaml'), 'none.yaml: there is no such file');
  assert.equal(message('.'), '.: it is a directory, not a file');
  writeFileSync(join(folder, 'plain'), '');
  assert.equal(message('plain/config.yaml'), 'plain/config.yaml: there is no such file');
  if (process.getuid?.() === 0) return; // root may read everything
  writeFileSync(join(folder, 'locked.yaml'), '');
  chmodSync(join(folder, 'locked.yaml'), 0);
  assert.equal(message('locked.yaml'), 'locked.yaml: permission to read it is denied');
});

test('open mode on the network must be wanted', () => {
  for (const host of ['0.0.0.0', '"::"', '192.168.1.2', 'cache.lan']) {
    assert.throws(() => load(`listen: { host: ${host} }`), ConfigError, host);
    assert.doesNotThrow(() => load(`{ listen: { host: ${host} }, access: { network: true } }`), host);
    assert.doesNotThrow(() => load(`{ listen: { host: ${host} }, access: { mode: upstream } }`), host);
  }
  for (const host of ['localhost', '127.0.0.2', '"::1"', '"[::1]"']) {
    assert.doesNotThrow(() => load(`listen: { host: ${host} }`), host);
  }
});

test('a credential goes in clear text to loopback only', () => {
  const withUrl = (url: string, credentials: string) =>
    load(`upstreams: { quay.io: { url: "${url}", credentials: ${credentials} } }`);
  const ours = '[{ username: me, token: x }]';
  for (const url of ['http://127.0.0.1:80', 'http://localhost:5000', 'http://[::1]:5000']) withUrl(url, ours);
  for (const url of ['http://10.0.0.1', 'http://localhost.example.com', 'http://0.0.0.0:80']) {
    assert.throws(() => withUrl(url, ours), ConfigError, url);
    withUrl(url, '[]');
  }
  const text = 'upstreams:\n  ghcr.io: { url: "http://ghcr.lan" }';
  assert.equal(
    messageOf(() => load(text, { CR_PAT: 's3cret' })),
    'config.yaml:2: upstreams.ghcr.io.url: plain http would send the credential CR_PAT readable to ghcr.lan; ' +
      'write https, or "credentials: []" to go without',
  );
  load(text);
});

test('what this version cannot serve is refused, and what is harmless is not', () => {
  for (const name of ['server.crt', 'server.key', 'htpasswd']) writeFileSync(join(folder, name), '');
  const end = 'yet; take the key out if it may go without';
  const refused: [string, string][] = [
    [
      'access:\n  mode: upstream',
      `config.yaml:2: access.mode: this version cannot serve with access mode upstream ${end}`,
    ],
    [
      'access:\n  mode: basic\n  htpasswd: htpasswd',
      `config.yaml:2: access.mode: this version cannot serve with access mode basic ${end}`,
    ],
    [
      'access:\n  admin: []',
      `config.yaml:2: access.admin: this version cannot serve with a list of administrators ${end}`,
    ],
    [
      'listen:\n  tls: { cert: server.crt, key: server.key }',
      `config.yaml:2: listen.tls: this version cannot serve with TLS ${end}`,
    ],
    [
      'listen:\n  workers: auto',
      `config.yaml:2: listen.workers: this version cannot serve with more than one process ${end}`,
    ],
    [
      'listen:\n  workers: 2',
      `config.yaml:2: listen.workers: this version cannot serve with more than one process ${end}`,
    ],
    [
      'mirror: [{ image: acme/app }]',
      `config.yaml:1: mirror: this version cannot serve with mirroring ${end}`,
    ],
  ];
  for (const [text, message] of refused) {
    const config = load(text);
    assert.equal(
      messageOf(() => assertServable(config)),
      message,
    );
  }
  assertServable(loadConfig({ env: {}, cwd: folder }));
  assertServable(
    load(`
cache: { unusedFor: 30d, verifyEvery: 30d }
upstreams: { ghcr.io: { parallel: 4 } }
push: off
pins: [acme/app]
`),
  );
});
