// What is accepted; what becomes of it is in credentials/sources.test.ts.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { assertRejected, directory, load, upstreamOf } from '../../../test/support/config.ts';

const CREDENTIALS = 'upstreams:\n  ghcr.io:\n    credentials:\n      ';
const KEY = 'upstreams.ghcr.io.credentials';

test('every key is understood', async () => {
  writeFileSync(join(directory, 'token'), 'def\n');
  const config = load(`${CREDENTIALS}
      - { name: ci, owner: Octo*, username: octocat, token: abc }
      - { username: other, tokenFile: token }
`);
  const { credentials } = upstreamOf(config, 'ghcr.io');
  assert.deepEqual(
    credentials.map(({ name, owner }) => [name, owner]),
    [
      ['ci', 'octo*'],
      ['credential 2', '*'],
    ],
  );
  assert.deepEqual(await Promise.all(credentials.map(credential => credential.read())), [
    { username: 'octocat', secret: 'abc' },
    { username: 'other', secret: 'def' },
  ]);
});

test('what is no credential is rejected, and never quoted', () => {
  writeFileSync(join(directory, 'empty-token'), '\n');
  assertRejected([
    [`${CREDENTIALS}s3cret`, `3: ${KEY}: the value is not a list of credentials, nor the word docker or gh`],
    [
      `${CREDENTIALS}- ghp_s3cret`,
      `4: ${KEY}[0]: the value is not a map; it may have the keys name, owner, username, token, tokenFile`,
    ],
    [
      `${CREDENTIALS}- { user: me }`,
      `4: ${KEY}[0].user: unknown key; known here are name, owner, username, token, tokenFile`,
    ],
    [`${CREDENTIALS}- name: ci`, `4: ${KEY}[0]: a credential needs a token or a tokenFile`],
    [`${CREDENTIALS}- { token: a, tokenFile: b }`, `4: ${KEY}[0]: token and tokenFile are mutually exclusive`],
    [`${CREDENTIALS}- token: ""`, `4: ${KEY}[0].token: the value is empty`],
    [
      `${CREDENTIALS}- token: "s3\\ncret"`,
      `4: ${KEY}[0].token: the value has a line break or another control character in it`,
    ],
    [`${CREDENTIALS}- name: ci\n        token: 12345`, `5: ${KEY}[0].token: the value is not text; put it in quotes`],
    [`${CREDENTIALS}- token: [s3cret]`, `4: ${KEY}[0].token: the value is not text`],
    [
      `${CREDENTIALS}- { owner: a/b, token: x }`,
      `4: ${KEY}[0].owner: "a/b" is not a glob over owners; its only wildcard is *, which matches anything`,
    ],
    [`${CREDENTIALS}- { username: "a:b", token: x }`, `4: ${KEY}[0].username: "a:b" is not a user name`],
    [`${CREDENTIALS}- { username: 12345, token: x }`, `4: ${KEY}[0].username: 12345 is not text; put it in quotes`],
    [
      `${CREDENTIALS}- { name: a, token: x }\n      - { name: a, token: y }`,
      `5: ${KEY}[1]: two credentials are named a; logs could not tell them apart`,
    ],
    [`${CREDENTIALS}- tokenFile: none`, `4: ${KEY}[0].tokenFile: DIRECTORY/none: there is no such file`],
    [`${CREDENTIALS}- tokenFile: .`, `4: ${KEY}[0].tokenFile: DIRECTORY: it is a directory, not a file`],
    [`${CREDENTIALS}- tokenFile: ghp_s3cret`, `4: ${KEY}[0].tokenFile: DIRECTORY/ghp_…: there is no such file`],
    [`${CREDENTIALS}- tokenFile: empty-token`, `4: ${KEY}[0].tokenFile: DIRECTORY/empty-token is empty`],
    [
      'upstreams:\n  quay.io:\n    credentials: gh',
      '3: upstreams.quay.io.credentials[0]: gh has logins to GitHub alone, and quay.io has no "api", which GitHub has',
    ],
    [
      'upstreams:\n  quay.io:\n    credentials:\n      - token: x',
      '4: upstreams.quay.io.credentials[0].username: missing',
    ],
  ]);
});
