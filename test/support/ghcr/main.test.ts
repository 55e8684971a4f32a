// The fake as a program: what it prints, what its options do, and that it exits on SIGTERM.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { makeImage } from '../images.ts';
import { ask, basic, bearer } from './ask.ts';
import { Pusher } from './fixture.ts';

function start(...options: string[]) {
  const script = new URL('./main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return { child, nextLine: async () => JSON.parse((await lines.next()).value ?? '') };
}

test('it prints what it holds, and counts requests', async () => {
  const { child, nextLine } = start('--big', 'owner/big:v1=2MiB', '--private', '--user', 'u:t');
  const { url, images } = await nextLine();
  assert.deepEqual([images[0].name, images[0].tag, images[0].blobs[1].size], ['owner/big', 'v1', 2 ** 21]);
  const scope = `${url}/token?scope=repository:owner/big:pull`;
  assert.equal((await ask(scope)).status, 401);
  assert.equal((await ask(scope, { headers: basic('u', 't') })).status, 200);
  child.kill('SIGUSR2');
  assert.equal((await nextLine()).token.requests, 2);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('it redirects to where something leads to its blob host', async () => {
  const { child, nextLine } = start('--open', '--blob-url', 'http://127.0.0.1:1');
  const { url, blobUrl, images } = await nextLine();
  const [{ name, blobs }] = images;
  const { location = '' } = (await ask(`${url}/v2/${name}/blobs/${blobs[1].digest}`)).headers;
  assert.equal(new URL(location).origin, 'http://127.0.0.1:1');
  const { body } = await ask(location.replace('http://127.0.0.1:1', blobUrl));
  assert.equal(body.length, blobs[1].size);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('it accepts pushes, and counts them', async () => {
  const { child, nextLine } = start('--open', '--spec', '--user', 'u:t');
  const { url, apiUrl } = await nextLine();
  const pusher = new Pusher({ url }, 'any/where');
  const sha512 = makeImage({ layers: [1000], algorithm: 'sha512' });
  assert.equal((await pusher.image(sha512, sha512.manifest.digest)).status, 201);
  assert.equal((await pusher.ask('GET', `referrers/${sha512.manifest.digest}`)).status, 200);
  assert.equal((await pusher.ask('DELETE', `manifests/${sha512.manifest.digest}`)).status, 202);
  const user = await ask(`${apiUrl}/user`, { headers: { ...bearer('t'), 'user-agent': 'test' } });
  assert.equal(user.headers['x-oauth-scopes'], 'read:packages, write:packages, delete:packages');
  child.kill('SIGUSR2');
  const { upload } = await nextLine();
  assert.deepEqual(upload, { requests: 2, bytes: 0, received: 1000 + sha512.config.sizeBytes });
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});
