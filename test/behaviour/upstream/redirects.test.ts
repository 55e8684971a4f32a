// Where an upstream may send us, as a client sees it. The rules themselves are in src/upstream/transport/destinations.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { errorOf } from '../../support/http-client.ts';
import { bytesOf, randomContent } from '../../support/images.ts';

const blob = randomContent(10_000);
const BLOB = `/v2/owner/app/blobs/${blob.digest}`;

test('a registry on this machine may redirect to this machine, and never to a metadata service', async t => {
  const forbidden = [
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:169.254.169.254]/',
    'http://2852039166/',
    'http://[fe80::1]/',
    'http://0.0.0.0:80/',
    'http://metadata.google.internal/',
  ];
  for (const address of forbidden) {
    const { ghcr, cache } = await startBoth(t);
    ghcr.addBlob('owner/app', blob);
    ghcr.switches.redirectTo = () => address;
    const reply = await cache.get(BLOB);
    assert.equal(reply.status, 502);
    assert.match(errorOf(reply).message, /^127\.0\.0\.1:\d+ sends us to .*, where it may not send us$/, address);
    ghcr.switches.redirectTo = url => url;
    assert((await cache.get(BLOB)).body.equals(bytesOf(blob)), 'another redirect is followed');
  }
});

test('an upload goes to no such place either', async t => {
  const { ghcr, cache } = await startBoth(t, {
    upstream: { credentials: [{ name: 'ci', owner: '*', username: 'u', token: 'ghp_secret' }] },
  });
  ghcr.addUser({ username: 'u', token: 'ghp_secret', scopes: ['write:packages'], packages: ['owner/*'] });
  ghcr.switches.uploadLocation = path => `https://169.254.169.254${path}`;
  const put = `/v2/owner/app/blobs/uploads/?digest=${blob.digest}`;
  const reply = await cache.get(put, { method: 'POST', body: bytesOf(blob) });
  assert.equal(reply.status, 502);
  assert.match(errorOf(reply).message, /sends us to 169\.254\.169\.254, which no registry may send us to/);
});
