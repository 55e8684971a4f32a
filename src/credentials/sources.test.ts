import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, test } from 'node:test';
import { inspect } from 'node:util';
import { loadConfig } from '../config/load.ts';
import type { OwnedCredential } from './credential.ts';
import { ghCredential } from './gh.ts';

const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-credentials-'));
after(() => rmSync(directory, { recursive: true }));

const SECRET = 's3cret-that-nobody-may-see';

/** The credentials of `host` when the config says `credentials` for it, or nothing. */
function credentials(credentials?: unknown, env: NodeJS.ProcessEnv = {}, host = 'ghcr.io'): readonly OwnedCredential[] {
  const config = { upstreams: { [host]: credentials === undefined ? {} : { credentials } } };
  writeFileSync(join(directory, 'config.yaml'), JSON.stringify(config));
  const loaded = loadConfig({ file: 'config.yaml', env, cwd: directory });
  for (const shown of [inspect(loaded, { depth: 20, showHidden: true, getters: true }), JSON.stringify(loaded)]) {
    assert.doesNotMatch(shown, new RegExp(SECRET));
  }
  return loaded.upstreams.get(host)?.credentials ?? [];
}

function dockerConfig(config: unknown): NodeJS.ProcessEnv {
  writeFileSync(join(directory, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  return { DOCKER_CONFIG: directory, PATH: `${directory}${delimiter}${process.env.PATH}` };
}

/** A credential helper `name` that runs a line of shell. */
function dockerHelper(name: string, line: string): void {
  const file = join(directory, `docker-credential-${name}`);
  writeFileSync(file, `#!/bin/sh\n${line}\n`);
  chmodSync(file, 0o755);
}

const basic = (username: string, secret: string) => Buffer.from(`${username}:${secret}`).toString('base64');

test('the environment has a credential for ghcr.io, and for no other', async () => {
  const cases: [NodeJS.ProcessEnv, [name: string, username: string] | undefined][] = [
    [{}, undefined],
    [{ CR_PAT: '', GITHUB_TOKEN: '\n' }, undefined],
    [{ CR_PAT: SECRET, GITHUB_TOKEN: 'other', GHCR_USERNAME: 'me', GITHUB_ACTOR: 'ci' }, ['CR_PAT', 'me']],
    [{ CR_PAT: '', GITHUB_TOKEN: `${SECRET}\r\n`, GHCR_USERNAME: '', GITHUB_ACTOR: 'ci' }, ['GITHUB_TOKEN', 'ci']],
    [{ CR_PAT: SECRET }, ['CR_PAT', 'x-access-token']],
  ];
  for (const [env, expected] of cases) {
    const [credential] = credentials(undefined, env);
    const login = await credential?.read();
    assert.deepEqual(credential && [credential.name, login?.username], expected);
    if (credential) assert.deepEqual([credential.owner, login?.secret], ['*', SECRET]);
    assert.deepEqual(credentials([], env), []);
    assert.deepEqual(credentials(undefined, env, 'quay.io'), []);
  }
  assert.throws(() => credentials(undefined, { CR_PAT: `${SECRET}\nmore` }), {
    name: 'ConfigError',
    message: 'environment: CR_PAT: the value has a line break or another control character in it',
  });
});

test('what the config leaves out of a credential for ghcr.io is filled in', async () => {
  const [first, second] = credentials([
    { token: SECRET },
    { name: 'ci', owner: 'Acme*', username: 'me', token: SECRET },
  ]);
  const usernames = [await first?.read(), await second?.read()].map(login => login?.username);
  assert.deepEqual([first?.name, first?.owner, usernames[0]], ['credential 1', '*', 'x-access-token']);
  assert.deepEqual([second?.name, second?.owner, usernames[1]], ['ci', 'acme*', 'me']);
});

test('a token file is read again for each use', async () => {
  const file = join(directory, 'token');
  writeFileSync(file, `${SECRET}\r\n`);
  const [credential] = credentials([{ name: 'ci', tokenFile: 'token' }]);
  assert.equal((await credential?.read())?.secret, SECRET);
  writeFileSync(file, 'rotated');
  assert.equal((await credential?.read())?.secret, 'rotated');

  const place = 'config.yaml:1: upstreams.ghcr.io.credentials[0].tokenFile:';
  writeFileSync(file, '');
  await assert.rejects(async () => credential?.read(), { message: `${place} ${file} is empty` });
  rmSync(file);
  await assert.rejects(async () => credential?.read(), {
    message: `${place} ${file}: there is no such file`,
  });
});

test('what docker login stored is used, whatever way it is written', async () => {
  for (const server of ['ghcr.io', 'https://ghcr.io', 'https://ghcr.io/v2/']) {
    const env = dockerConfig({ auths: { [server]: { auth: basic('me', `a:${SECRET}`) } } });
    for (const written of ['docker', ['docker'], [{ owner: 'acme', token: 'x' }, 'docker']]) {
      const credential = credentials(written, env).at(-1);
      assert.deepEqual(
        [credential?.name, credential?.owner, await credential?.read()],
        ['docker', '*', { username: 'me', secret: `a:${SECRET}` }],
      );
    }
  }
  const env = dockerConfig({ auths: { 'https://index.docker.io/v1/': { auth: basic('me', SECRET) } } });
  assert.equal((await credentials('docker', env, 'docker.io')[0]?.read())?.secret, SECRET);
});

test('of several docker logins for a host, the one that docker itself would write wins, then the less exact', async () => {
  const spellings = ['ghcr.io', 'https://ghcr.io/v1/', 'ghcr.io/acme', 'https://ghcr.io/acme/app'];
  for (let worse = 1; worse < spellings.length; worse++) {
    for (let better = 0; better < Math.min(worse, 2); better++) {
      const [good = '', bad = ''] = [spellings[better], spellings[worse]];
      const entry = (username: string) => ({ auth: basic(username, SECRET) });
      const auths = { [bad]: entry('wrong'), [good]: entry('right') };
      for (const order of [auths, Object.fromEntries(Object.entries(auths).reverse())]) {
        const [credential] = credentials('docker', dockerConfig({ auths: order }));
        assert.equal((await credential?.read())?.username, 'right', `${good} before ${bad}`);
      }
    }
  }
  const hub = {
    'docker.io': { auth: basic('wrong', SECRET) },
    'https://index.docker.io/v1/': { auth: basic('hub', 'x') },
  };
  assert.equal((await credentials('docker', dockerConfig({ auths: hub }), 'docker.io')[0]?.read())?.username, 'hub');
});

test('a new docker login is noticed', async () => {
  const [credential] = credentials('docker', dockerConfig({ auths: { 'ghcr.io': { auth: basic('me', SECRET) } } }));
  dockerConfig({ auths: { 'ghcr.io': { auth: basic('you', 'new') } } });
  assert.deepEqual(await credential?.read(), { username: 'you', secret: 'new' });
});

test('docker credential helpers are asked when the secret is needed', async () => {
  dockerHelper('store', `read server; echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"${SECRET}\\"}"`);
  dockerHelper('own', `echo '{"Username":"own","Secret":"${SECRET}"}'`);
  const stored = { auths: { 'ghcr.io': {} }, credsStore: 'store' };
  for (const [config, username] of [
    [stored, 'ghcr.io'],
    [{ ...stored, credHelpers: { 'ghcr.io': 'own' } }, 'own'],
    [{ credHelpers: { 'ghcr.io': 'store' } }, 'ghcr.io'],
    [{ auths: { 'ghcr.io': { auth: basic('old', 'old') } }, credsStore: 'own' }, 'own'],
  ] as const) {
    const [credential] = credentials('docker', dockerConfig(config));
    assert.deepEqual(await credential?.read(), { username, secret: SECRET });
  }
});

test('a docker login that is of no use is rejected at start', () => {
  const file = join(directory, 'config.json');
  const cases: [unknown, string][] = [
    [{}, `docker has no login for ghcr.io in ${file}; run "docker login ghcr.io" as the user that runs this`],
    [
      { auths: { 'ghcr.io': {} } },
      `docker has no login for ghcr.io in ${file}; run "docker login ghcr.io" as the user that runs this`,
    ],
    [
      { auths: { 'ghcr.io': { auth: 'bm9uZQ==' } } },
      `the entry for ghcr.io in ${file} cannot be read; run "docker login ghcr.io" again`,
    ],
    [
      { auths: { 'ghcr.io': { identitytoken: SECRET } } },
      'docker has an identity token for ghcr.io, which only docker can use; write a token into this file instead',
    ],
    ['{', `${file} is not a docker config`],
    ['{"auths":[]}', `${file} is not a docker config`],
  ];
  const place = 'config.yaml:1: upstreams.ghcr.io.credentials[0]:';
  for (const [config, problem] of cases) {
    const env = dockerConfig(config);
    assert.throws(() => credentials('docker', env), { name: 'ConfigError', message: `${place} ${problem}` });
  }
  assert.throws(() => credentials('docker', { HOME: '/nowhere' }), {
    message: `${place} docker keeps its logins in /nowhere/.docker/config.json: there is no such file`,
  });
});

test('a docker credential helper that fails is named', async () => {
  const place = 'config.yaml:1: upstreams.ghcr.io.credentials[0]: docker-credential-';
  const cases: [name: string, line: string | undefined, problem: string][] = [
    ['none', undefined, 'none gives no credential for ghcr.io: it is not in PATH'],
    ['locked', 'echo credentials not found; exit 1', 'locked gives no credential for ghcr.io: credentials not found'],
    ['broken', 'exit 3', 'broken gives no credential for ghcr.io: it failed with 3'],
    ['odd', 'echo hello', 'odd prints something that is not a credential'],
  ];
  for (const [name, line, problem] of cases) {
    if (line !== undefined) dockerHelper(name, line);
    const [credential] = credentials('docker', dockerConfig({ credsStore: name }));
    await assert.rejects(async () => credential?.read(), {
      name: 'ConfigError',
      message: `${place}${problem}`,
    });
  }
  dockerHelper('identity', `echo '{"Username":"<token>","Secret":"${SECRET}"}'`);
  const [credential] = credentials('docker', dockerConfig({ credsStore: 'identity' }));
  await assert.rejects(async () => credential?.read(), /identity token/);
});

test('the login of gh is asked for at the GitHub that the API is of, each time', async () => {
  const env = { PATH: `${directory}${delimiter}${process.env.PATH}` };
  const gh = (line: string) => {
    writeFileSync(join(directory, 'gh'), `#!/bin/sh\n${line}\n`);
    chmodSync(join(directory, 'gh'), 0o755);
  };
  gh(`[ "$*" = "auth token --hostname github.com" ] && echo ${SECRET}`);
  for (const written of ['gh', ['gh']]) {
    const [credential] = credentials(written, env);
    assert.deepEqual([credential?.name, credential?.owner], ['gh', '*']);
    assert.deepEqual(await credential?.read(), { username: 'x-access-token', secret: SECRET });
  }
  const [credential] = credentials('gh', env);
  gh('echo rotated');
  assert.equal((await credential?.read())?.secret, 'rotated');
  const place = 'config.yaml:1: upstreams.ghcr.io.credentials[0]:';
  gh(`echo ${SECRET} >&2; exit 1`);
  await assert.rejects(async () => credential?.read(), {
    message: `${place} gh has no login for github.com; run "gh auth login -h github.com -s read:packages" as the user that runs this`,
  });
  gh('exit 0');
  await assert.rejects(async () => credential?.read(), { message: `${place} the token that gh prints is empty` });
  const [missing] = credentials('gh', { PATH: join(directory, 'none') });
  await assert.rejects(async () => missing?.read(), { message: `${place} gh is not in PATH` });
  for (const [api, host] of [
    ['https://github.corp.example/api/v3', 'github.corp.example'],
    ['https://api.octo.ghe.com', 'octo.ghe.com'],
  ]) {
    gh(`[ "$4" = ${host} ] && echo ${SECRET}`);
    assert.equal((await ghCredential(new URL(api ?? ''), env, Error).read()).secret, SECRET);
  }
});
