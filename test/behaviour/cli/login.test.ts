// `login` and `logout`: what they say, and that a running server takes up what they change.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { login } from '../../../src/cli/login.ts';
import { logout } from '../../../src/cli/logout.ts';
import { UsageError } from '../../../src/cli/options.ts';
import { until } from '../../support/async.ts';
import { startBoth } from '../../support/cache.ts';
import { makeImage } from '../../support/images.ts';
import { temporaryDirectory } from '../../support/local-stores.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/ghcr-cache.js', import.meta.url));
const SECRET = 'ghp_0123456789secret';
const AS_OCTOCAT = ['-u', 'octocat', '--password-stdin'];
const COMMANDS = { login, logout };
const LINK = 'https://github.com/settings/tokens/new?scopes=write:packages';

/** A fake ghcr.io with a private package, a cache in front of it, and commands for the cache's data directory. */
async function setUp(t: TestContext, upstream: object = {}) {
  const data = join(await temporaryDirectory(t), 'data');
  const { ghcr, cache, clock } = await startBoth(t, { data, upstream: { credentials: undefined } });
  ghcr.addUser({ username: 'octocat', token: SECRET, packages: ['owner/*'], scopes: ['write:packages'] });
  ghcr.push('owner/app', makeImage({ layers: [1000] }), 'v1', 'v2');
  ghcr.addPackage('owner/app', { visibility: 'private' });
  const config = join(data, '..', 'config.yaml');
  const upstreams = { 'ghcr.io': { url: ghcr.url, api: ghcr.apiUrl, ...upstream }, 'quay.io:5000': {} };
  writeFileSync(config, JSON.stringify({ data, upstreams }));
  /** A command of this process. */
  const run = async (input: string, name: 'login' | 'logout', ...args: string[]) => {
    const out: string[] = [];
    const terminal = { input: Readable.from([input]), print: (text: string) => void out.push(...text.split('\n')) };
    const error: unknown = await COMMANDS[name].run([...args, '--config', config], terminal).catch(error => error);
    const err = error instanceof Error ? error.message : '';
    for (const said of [...out, err]) assert.ok(!said.includes(SECRET), said);
    return { out, err, isUsage: error instanceof UsageError };
  };
  /** The program. */
  const start = async (input: string, ...args: string[]) => {
    const child = spawn(process.execPath, [PROGRAM, ...args, '--config', config], { env: { PATH: '/bin' } });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    return { status: child.exitCode, out: out.trimEnd(), err: err.trimEnd() };
  };
  const logIn = (...args: string[]) => run(`${SECRET}\n`, 'login', ...AS_OCTOCAT, ...args);
  return { ghcr, cache, clock, data, run, start, logIn };
}

test('a login is checked, kept, and taken up by a running server, as is a logout', async t => {
  const { cache, clock, data, run, logIn } = await setUp(t);
  const pull = async (tag: string) => (await cache.get(`/v2/owner/app/manifests/${tag}`)).status;
  assert.equal(await pull('v1'), 403);
  assert.deepEqual(await logIn(), {
    ...{ err: '', isUsage: false },
    out: [
      'ghcr.io accepts octocat: a classic personal access token that may pull and push packages.',
      `It is kept as "octocat", in ${data}.`,
    ],
  });
  await until(async () => {
    clock.advance(1_000);
    return (await pull('v1')) === 200;
  });
  assert.match(cache.log(), /the logins were changed: "octocat" for ghcr\.io/);

  assert.deepEqual((await run('', 'login', '--list')).out.slice(1), [
    `ghcr.io   octocat  *      octocat  classic personal access token  -        ${new Date().toISOString().slice(0, 10)}`,
  ]);
  assert.deepEqual((await run('', 'logout')).out, ['Forgotten: "octocat" of ghcr.io.']);
  await until(() => {
    clock.advance(1_000);
    return cache.log().includes('the logins were changed: there is none now');
  });
  assert.equal(await pull('v2'), 403);
  assert.deepEqual((await run('', 'login', '--list')).out, ['No login is kept.']);
  assert.equal((await run('', 'logout')).err, `no login to ghcr.io is kept in ${data}`);
  assert.equal((await run('', 'logout', '--name', 'ci')).err, `no login "ci" to ghcr.io is kept in ${data}`);
});

test('what a token may do and when it ends is said, and --test keeps nothing', async t => {
  const { ghcr, data, logIn } = await setUp(t);
  const expiration = '2027-10-12 09:00:00 UTC';
  ghcr.addUser({ username: 'octocat', token: SECRET, scopes: ['read:packages', 'repo'], expiration });
  const { out } = await logIn('--test', '--owner', 'My-Org');
  assert.equal(out[0], 'ghcr.io accepts octocat: a classic personal access token that may pull packages.');
  assert.match(out[1] ?? '', /^Note: Its scope repo lets it change code too/);
  assert.deepEqual(out.slice(2), ['It expires on 2027-10-12.']);
  assert.ok(!existsSync(join(data, 'credentials.json')));
  assert.match(
    (await logIn('--owner', 'My-Org', '--name', 'ci')).out.at(-1) ?? '',
    /^It is kept as "ci" for the repos.* of my-org, in /,
  );
  assert.match(
    readFileSync(join(data, 'credentials.json'), 'utf8'),
    /"owner": "my-org".*"expiresAt": "2027-10-12T09:00:00.000Z"/s,
  );
});

test('a login that is of no use is one line, and is not kept', async t => {
  const { ghcr, data, run, logIn } = await setUp(t);
  const how = 'write: echo $CR_PAT | ghcr-cache login -u USERNAME --password-stdin';
  const cases: [input: string, args: string[], isUsage: boolean, err: string | RegExp][] = [
    ['ghp_wrong', AS_OCTOCAT, false, /does not know that token: it is mistyped, has expired, or was revoked$/],
    [
      'github_pat_x',
      AS_OCTOCAT,
      false,
      /GitHub Packages takes no fine-grained token; make a classic one: https:\S+write:packages$/,
    ],
    ['', AS_OCTOCAT, true, `stdin is empty; ${how}`],
    ['a\nb', AS_OCTOCAT, true, `stdin has a line break or another control character in it; ${how}`],
    ['x', ['-u', 'octocat'], true, `a user and a token are needed; ${how}`],
    ['x', ['--password-stdin'], true, `a user and a token are needed; ${how}`],
    [
      'x',
      [...AS_OCTOCAT, 'gcr.io'],
      true,
      /^"gcr\.io" is not one of the upstreams of the configuration, which are ghcr\.io, quay/,
    ],
    ['x', [...AS_OCTOCAT, 'ghcr.io', 'more'], true, /^"more" is one word too many; see ghcr-cache --help$/],
    ['x', [...AS_OCTOCAT, '--owner', '[a-z]'], true, /^--owner "\[a-z\]" is not a glob over owners/],
    ['x', ['-u', 'a:b', '--password-stdin'], true, /^--username "a:b" is not a user name/],
  ];
  for (const [input, args, isUsage, err] of cases) {
    const ran = await run(input, 'login', ...args);
    assert.deepEqual([ran.isUsage, ran.out], [isUsage, []], ran.err);
    if (typeof err === 'string') assert.equal(ran.err, err);
    else assert.match(ran.err, err);
  }
  ghcr.addUser({ username: 'octocat', token: SECRET, scopes: [] });
  const { out } = await logIn('--test');
  assert.equal(out[1], `Note: It has not the scope read:packages; make one that has: ${LINK}.`);
  ghcr.fault({ endpoint: 'token', answer: { status: 403, body: { errors: [{ code: 'DENIED', message: 'no' }] } } });
  assert.equal((await logIn()).err, 'ghcr.io denies that login: 403 "DENIED: no"');
  await ghcr.stop();
  assert.match((await logIn()).err, /cannot be reached|refused/);
  assert.ok(!existsSync(join(data, 'credentials.json')));
});

test('one login does not hide another without a word', async t => {
  const { run, logIn } = await setUp(t, { credentials: [{ name: 'ci', owner: 'acme', token: 'x' }] });
  assert.equal((await logIn('--owner', 'a')).err, '');
  assert.equal(
    (await logIn('--owner', 'b')).err,
    'there is a login "octocat" for the owner a; give this one another --name',
  );
  const { out } = await logIn('--owner', 'acme', '--name', 'mine');
  const note = 'Note: The configuration has a credential "ci" for the repositories of acme, which is used before it.';
  assert.equal(out.at(-2), note);
  assert.deepEqual((await run('', 'logout')).out, ['Forgotten: "octocat", "mine" of ghcr.io.']);
});

test('a login that the configuration would not use is rejected', async t => {
  for (const [upstream, err] of [
    [{ offline: true }, /^the configuration has ghcr\.io offline, and a login has to be checked there$/],
    [{ api: 'http://api.lab' }, /^plain http would send the token unencrypted to api\.lab$/],
    [{ credentials: [] }, /^it would not be used: the configuration has "credentials: \[\]" for ghcr\.io/],
    [
      { credentials: [{ name: 'octocat', token: 'x' }] },
      /has a credential "octocat" for ghcr\.io; give this one another --name/,
    ],
  ] as const) {
    const { logIn } = await setUp(t, upstream);
    assert.match((await logIn()).err, err);
  }
});

test('logins that others can read are not taken up, and no server starts with them', async t => {
  const { cache, clock, data, start, logIn } = await setUp(t);
  await logIn();
  const file = join(data, 'credentials.json');
  chmodSync(file, 0o644);
  const problem = `${file} holds tokens, and others can read it (mode 0644); run: chmod 600 ${file}`;
  await until(() => {
    clock.advance(1_000);
    return cache.log().includes(`the logins stay as they were: ${problem}`);
  });
  clock.advance(5_000);
  assert.equal(cache.log().split('the logins stay as they were').length, 2, 'said once');
  await cache.stop();
  for (const args of [
    ['login', '--list'],
    ['serve', '--port', '0'],
  ]) {
    const { status, err } = await start('', ...args);
    assert.deepEqual([status, err], [1, `ghcr-cache: ${problem}`]);
  }
});
