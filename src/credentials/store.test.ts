import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { temporaryDirectory } from '../../test/support/local-stores.ts';
import { CredentialStore, type Login } from './store.ts';

/** Nobody else is there. */
const openStore = (file: string) => CredentialStore.open(file, async () => ({ [Symbol.asyncDispose]: async () => {} }));

const SECRET = 'ghp_s3cret';
const loginOf = (name: string, host = 'ghcr.io'): Login => ({
  ...{ host, name, owner: 'acme*', username: 'octocat', token: SECRET, checkedAt: '2026-01-01T00:00:00.000Z' },
});

test('a login that is kept is found by its upstream, also by the next process, and shows its token to none but read()', async t => {
  const file = join(await temporaryDirectory(t), 'credentials.json');
  const store = await openStore(file);
  assert.deepEqual(store.of('ghcr.io'), []);
  await store.keep({ ...loginOf('ci'), expiresAt: '2027-10-12T09:00:00.000Z' });
  await store.keep(loginOf('other', 'quay.io'));
  assert.equal((statSync(file).mode & 0o777).toString(8), '600');
  for (const each of [store, await openStore(file)]) {
    const [credential, ...others] = each.of('ghcr.io');
    assert.deepEqual([others, credential?.name, credential?.owner], [[], 'ci', 'acme*']);
    assert.deepEqual(await credential?.read(), { username: 'octocat', secret: SECRET });
    assert.equal(each.logins[0]?.kind, 'classic personal access token');
    assert.equal(each.logins[0]?.expiresAt, '2027-10-12T09:00:00.000Z');
    for (const shown of [each, each.logins, credential]) {
      assert.doesNotMatch(inspect(shown, { depth: 20, showHidden: true }) + JSON.stringify(shown), /s3cret/);
    }
  }
});

test('a login replaces the one of the same name and upstream, and is forgotten by either', async t => {
  const store = await openStore(join(await temporaryDirectory(t), 'credentials.json'));
  for (const login of [loginOf('a'), loginOf('b'), loginOf('a', 'quay.io')]) await store.keep(login);
  await store.keep({ ...loginOf('a'), username: 'hubot' });
  assert.deepEqual(
    store.logins.map(({ host, name, username }) => `${host} ${name} ${username}`),
    ['ghcr.io a hubot', 'ghcr.io b octocat', 'quay.io a octocat'],
  );
  assert.deepEqual(await store.forget('ghcr.io', 'b'), ['b']);
  assert.deepEqual(await store.forget('ghcr.io', 'b'), []);
  assert.deepEqual(await store.forget('ghcr.io'), ['a']);
  assert.deepEqual(
    store.logins.map(({ host }) => host),
    ['quay.io'],
  );
});

test('the more the owner of a login says, the earlier it is used, whenever it was kept', async t => {
  const store = await openStore(join(await temporaryDirectory(t), 'credentials.json'));
  for (const owner of ['*', 'acme', 'a*', 'acme-*']) await store.keep({ ...loginOf(owner), owner });
  await store.keep({ ...loginOf('acme'), owner: 'acme' });
  assert.deepEqual(
    store.of('ghcr.io').map(({ owner }) => owner),
    ['acme', 'acme-*', 'a*', '*'],
  );
});

test('what another process changes is taken up, and told', async t => {
  const file = join(await temporaryDirectory(t), 'credentials.json');
  const [here, there] = [await openStore(file), await openStore(file)];
  let changes = 0;
  here.onChange(() => changes++);
  await here.refresh();
  assert.equal(changes, 0);
  await there.keep(loginOf('ci'));
  await here.refresh();
  await here.refresh();
  assert.deepEqual([changes, here.of('ghcr.io').length], [1, 1]);
  rmSync(file);
  await here.refresh();
  assert.deepEqual([changes, here.of('ghcr.io').length], [2, 0]);
});

test('a file that others can read is rejected with the command that mends it, and what was known stays', async t => {
  const file = join(await temporaryDirectory(t), 'credentials.json');
  const store = await openStore(file);
  await store.keep(loginOf('ci'));
  for (const mode of [0o644, 0o640, 0o604, 0o620]) {
    chmodSync(file, mode);
    const message = `${file} holds tokens, and others can read it (mode 0${mode.toString(8)}); run: chmod 600 ${file}`;
    await assert.rejects(openStore(file), { message });
    await assert.rejects(store.refresh(), { message });
    await assert.rejects(store.keep(loginOf('another')), { message });
    assert.equal(store.of('ghcr.io').length, 1);
  }
  chmodSync(file, 0o600);
  await store.refresh();
  await store.keep(loginOf('another'));
});

test('a file that is not ours is told without what is in it', async t => {
  const file = join(await temporaryDirectory(t), 'credentials.json');
  const texts = ['', SECRET, `{"logins":[{"token":"${SECRET}"}]}`, `{"logins":"${SECRET}"}`, 'null', '[]'];
  for (const text of texts) {
    writeFileSync(file, text, { mode: 0o600 });
    await assert.rejects(openStore(file), {
      message: `${file} is not as "ghcr-cache login" writes it; remove it, and log in again`,
    });
  }
  rmSync(file);
  mkdirSync(file, { mode: 0o700 });
  await assert.rejects(openStore(file), { message: `${file}: it is a directory, not a file` });
});

test('a file that cannot be written is a sentence, and stays as it was', async t => {
  const directory = await temporaryDirectory(t);
  const file = join(directory, 'credentials.json');
  const store = await openStore(file);
  await store.keep(loginOf('ci'));
  const before = readFileSync(file, 'utf8');
  // Nothing can be put in the place of a directory.
  mkdirSync(`${file}.new`);
  await assert.rejects(store.keep(loginOf('another')), { message: /credentials\.json cannot be written: / });
  assert.equal(readFileSync(file, 'utf8'), before);
  utimesSync(file, 1, 1);
  await store.refresh();
  assert.deepEqual(
    store.logins.map(({ name }) => name),
    ['ci'],
  );
});
