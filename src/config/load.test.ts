// Whole files: defaults, syntax, keys, and the environment. Each section has tests of its own.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertRejected, directory, load, messageOf, upstreamOf } from '../../test/support/config.ts';
import { loadConfig } from './load.ts';

const GIB = 1024 ** 3;
const MINUTE_MS = 60_000;
const KEYS_OF_ROOT =
  'listen, data, cache, upstreams, default, tags, staleIfError, readAhead, writeGrace, push, access, pins, log';

test('without a file the defaults hold', () => {
  assert.deepEqual(loadConfig({ env: {}, cwd: '/somewhere' }), {
    listen: { host: '127.0.0.1', port: 5000, hosts: [] },
    data: '/somewhere/data',
    cache: { maxSizeBytes: 50 * GIB, minFreeBytes: 2 * GIB, verifyEveryMs: 7 * 24 * 3_600_000 },
    upstreams: new Map([
      [
        'ghcr.io',
        {
          url: new URL('https://ghcr.io'),
          api: new URL('https://api.github.com'),
          credentials: [],
          isUnwritten: true,
          offline: false,
          parallel: 4,
          realms: [],
          blobHosts: [],
          timeouts: { connectMs: 5_000, headersMs: MINUTE_MS, stallMs: MINUTE_MS / 2 },
          ca: undefined,
        },
      ],
    ]),
    default: 'ghcr.io',
    tags: [{ match: '*', freshMs: MINUTE_MS, keepDeleted: false, writeOnce: false }],
    staleIfErrorMs: 30 * 24 * 60 * MINUTE_MS,
    readAhead: true,
    writeGraceMs: 60_000,
    push: 'through',
    pins: [],
    log: { level: 'info', format: 'auto' },
  });
});

test('a file that says nothing is the defaults', () => {
  const defaults = loadConfig({ env: {}, cwd: directory });
  for (const text of [...['', '# nothing\n', '---\n', '{}'], 'cache:\n  # maxSize: 1GiB\nupstreams:\n  ghcr.io:\n']) {
    assert.deepEqual(load(text), defaults, text);
  }
});

test('values read the environment', async () => {
  const env = { DIR: '/srv', PORT: '8080', FLAG: 'true', SIZE: '1GiB', NESTED: `\${PORT}` };
  const config = load(
    `
# \${NOT_READ_HERE}
listen: { host: 0.0.0.0, port: "\${PORT}" }
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
  const [credential] = upstreamOf(config, 'ghcr.io').credentials;
  // The contents of a variable are not filled in again.
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
  assert.equal((await upstreamOf(config, 'quay.io').credentials[0]?.read())?.secret, 'abc');
});

test("paths are relative to the file's directory", () => {
  mkdirSync(join(directory, 'etc'), { recursive: true });
  writeFileSync(join(directory, 'etc/config.yaml'), 'data: ../data\n');
  const config = loadConfig({ file: 'etc/config.yaml', env: {}, cwd: directory });
  assert.equal(config.data, join(directory, 'data'));
});

test('bad syntax is rejected with its line', () => {
  assertRejected([
    [
      'a: [1\nb: 2',
      '2: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['log:\n\tlevel: info', '2: not valid YAML: Tabs are not allowed as indentation'],
    ['token: abc: def', '1: not valid YAML: Nested mappings are not allowed in compact mappings'],
    ['push: }s3cret', '1: not valid YAML: Unexpected flow-map-end token in YAML stream'],
    ['push: !s3cret x', '1: not valid YAML: Unresolved tag'],
    ['push: off\n---\npush: off', '2: not valid YAML: Source contains multiple documents'],
    ['log:\n  level: *s3cret', '2: log.level: no such anchor is defined above; text that begins with * needs quotes'],
    ['- push: off', `1: a list is not a map; it may have the keys ${KEYS_OF_ROOT}`],
    ['push', `1: "push" is not a map; it may have the keys ${KEYS_OF_ROOT}`],
  ]);
});

test('anchors that multiply are rejected', () => {
  const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i},`.repeat(9)}]`);
  assertRejected([[['l0: &l0 x', ...levels].join('\n'), ' not usable YAML: its aliases expand to too much']]);
});

test('an unknown key is rejected with the one that was meant, the known ones, or what is to come', () => {
  const planned = 'this version does not support it yet; remove the key';
  assertRejected([
    ['cache:\n  maxsize: 1GiB', '2: cache.maxsize: unknown key; did you mean maxSize?'],
    ['\n\nupstream: {}', '3: upstream: unknown key; did you mean upstreams?'],
    ['listen:\n  workers: 4', '2: listen.workers: unknown key; known here are host, port, hosts'],
    ['tags:\n  - match: v*\n    frsh: 5s', '3: tags[0].frsh: unknown key; did you mean fresh?'],
    ['5: x', `1: 5: unknown key; known here are ${KEYS_OF_ROOT}`],
    ['push: off\nlog: {}\npush: through', '3: push: duplicate key; the first is on line 1'],
    ['cache:\n  minFree: 1\n  minFree: 2', '3: cache.minFree: duplicate key; the first is on line 2'],
    ['pins: [x]\nbogus: 1\nlog:\n  level: loud', `2: bogus: unknown key; known here are ${KEYS_OF_ROOT}`],
    ['mirror: []', `1: mirror: ${planned}`],
    ['cache:\n  unusedFor: 30d', `2: cache.unusedFor: ${planned}`],
    ['upstreams:\n  ghcr.io:\n    users: []', `3: upstreams.ghcr.io.users: ${planned}`],
    ['access:\n  admin: [alice]', `2: access.admin: ${planned}`],
  ]);
});

test('a variable that is missing or malformed is rejected, and its contents are never quoted', () => {
  const reference = `"\${" needs the name of an environment variable and "}" after it; write "$\${" for a literal "\${"`;
  const credentials = 'upstreams:\n  ghcr.io:\n    credentials:\n      ';
  assertRejected(
    [
      [`data: \${NOPE}/x`, '1: data: the environment variable NOPE is not set'],
      [
        `${credentials}- token: "\${EMPTY}"`,
        '4: upstreams.ghcr.io.credentials[0].token: the environment variable EMPTY is empty',
      ],
      [`data: "\${NOPE"`, `1: data: ${reference}`],
      [`data: "\${NO-PE}"`, `1: data: ${reference}`],
      [`listen:\n  port: "\${SECRET}"`, `2: listen.port: "\${SECRET}" is not a whole number from 0 to 65535`],
      [
        `pins:\n  - "\${SECRET}:"`,
        `2: pins[0]: "\${SECRET}:" is not an image; write it like owner/image:tag or ghcr.io/owner/image:tag`,
      ],
    ],
    { EMPTY: '', SECRET: 's3cret' },
  );
});

test('long values are cut in messages', () => {
  assertRejected([[`data: "${'x'.repeat(200)}\\n"`, `1: data: "${'x'.repeat(78)}… is not a path`]]);
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
  const message = (file: string) => messageOf(() => loadConfig({ file, env: {}, cwd: directory }));
  assert.equal(message('none.yaml'), 'none.yaml: there is no such file');
  assert.equal(message('.'), '.: it is a directory, not a file');
  writeFileSync(join(directory, 'plain'), '');
  assert.equal(message('plain/config.yaml'), 'plain/config.yaml: there is no such file');
  if (process.getuid?.() === 0) return; // root may read everything
  writeFileSync(join(directory, 'locked.yaml'), '');
  chmodSync(join(directory, 'locked.yaml'), 0);
  assert.equal(message('locked.yaml'), 'locked.yaml: permission to read it is denied');
});

test('pushes go through, or are off', () => {
  assert.equal(load('push: through').push, 'through');
  assert.equal(load('push: off').push, 'off');
  assertRejected([['push: no', '1: push: "no" is not one of through, off']]);
});

test('the level is one of those that pino has', () => {
  assert.equal(load('log: { level: silent }').log.level, 'silent');
  assertRejected([
    ['log: { level: verbose }', '1: log.level: "verbose" is not one of trace, debug, info, warn, error, fatal, silent'],
  ]);
});
