// The listening sockets: stopped and restarted on the same ports, plain or TLS.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOOPBACK_TLS } from '../tls.ts';
import { ask } from './ask.ts';
import { BLOB, layerBytes, pullLayer, startFilled } from './fixture.ts';

test('stop closes and refuses connections, restart takes the same ports', async () => {
  await using ghcr = await startFilled();
  const fault = ghcr.fault({ endpoint: 'blobhost', stallAfter: 10 });
  const cut = pullLayer(ghcr);
  await fault.reached();
  await ghcr.stop();
  assert.equal((await cut).complete, false);
  assert.equal((await ask(ghcr.url + BLOB)).code, 'ECONNREFUSED');
  await ghcr.restart();
  ghcr.clearFaults();
  assert.deepEqual((await pullLayer(ghcr)).body, layerBytes);
  await ghcr.stop('blobhost');
  assert.equal((await pullLayer(ghcr)).code, 'ECONNREFUSED');
  assert.equal((await ask(ghcr.url + BLOB)).status, 307);
});

test('either origin can be https', async () => {
  await using ghcr = await startFilled({}, { tls: LOOPBACK_TLS });
  assert.match(ghcr.url, /^https:/);
  assert.match(ghcr.blobUrl, /^http:/);
  assert.deepEqual((await pullLayer(ghcr)).body, layerBytes);
  await using both = await startFilled({}, { tls: LOOPBACK_TLS, blobTls: LOOPBACK_TLS, hostname: 'localhost' });
  assert.match(both.blobUrl, /^https:\/\/localhost:/);
  assert.deepEqual((await pullLayer(both)).body, layerBytes);
});
