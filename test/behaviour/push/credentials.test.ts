// Where the credential for pushes goes, and where it must never appear.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { TestCache } from '../../support/cache.ts';
import { type Ghcr, startGhcr } from '../../support/ghcr/ghcr.ts';
import { makeImage, randomContent } from '../../support/images.ts';
import { assertError, MIB, NAME, SECRET, sentenceOf, startPushing, WRITER } from '../../support/push-client.ts';
import { LOOPBACK_TLS } from '../../support/tls.ts';

describe('credentials', () => {
  /** The secret is in no file and no log line, and was sent to the realm, the package API and, if `basic`, the registry only. */
  function assertNothingLeaked(cache: TestCache, ghcr: Ghcr, basic = false): void {
    const encoded = Buffer.from(`${WRITER.username}:${SECRET}`).toString('base64');
    const files = readdirSync(cache.data, { recursive: true, withFileTypes: true })
      .filter(entry => entry.isFile())
      .map(entry => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
    for (const text of [cache.log(), ...files]) assert(!text.includes(SECRET) && !text.includes(encoded));
    for (const { endpoint, headers, path } of ghcr.requests) {
      const sent = JSON.stringify(headers) + path;
      if (sent.includes(SECRET)) assert.equal(endpoint, 'api');
      if (sent.includes(encoded)) assert(endpoint === 'token' || (basic && endpoint !== 'blobhost'), endpoint);
    }
  }

  test('go to the realm for a token to push, which goes to the registry', async t => {
    const { ghcr, cache, client } = await startPushing(t);
    const images = ['a', 'b'].map(seed => makeImage({ layers: [1000, 2 * MIB], seed }));
    for (const [i, image] of images.entries()) await client.image(image, `v${i}`);
    assert.equal((await client.delete('manifests/v0')).status, 202);
    assert((await client.get(`blobs/${images[1]?.config.digest}`)).status === 200);
    const scopes = ghcr.requests
      .filter(({ endpoint }) => endpoint === 'token')
      .map(({ path }) => new URL(path, ghcr.url).searchParams.get('scope'));
    // One token each, however many uploads there were.
    assert.equal(scopes.filter(scope => scope === `repository:${NAME}:pull,push`).length, 1);
    assert.equal(new Set(scopes).size, scopes.length);
    assert(ghcr.count({ endpoint: 'api' }) > 0);
    assertNothingLeaked(cache, ghcr);
  });

  test('go to a registry that wants them on every request, and to no blob host', async t => {
    const { ghcr, cache, client } = await startPushing(t, { fake: { switches: { auth: 'basic' } } });
    await client.image(makeImage({ layers: [2 * MIB] }), 'v1');
    const blob = randomContent(10, 'pulled');
    ghcr.addBlob(NAME, blob);
    assert.equal((await client.get(`blobs/${blob.digest}`)).status, 200);
    assertNothingLeaked(cache, ghcr, true);
  });

  test('do not follow an upload to another host, and the upload itself never goes there over plain HTTP', async t => {
    const elsewhere = await startGhcr({ tls: LOOPBACK_TLS, hostname: 'localhost' });
    const plain = await startGhcr();
    t.after(() => Promise.all([elsewhere.close(), plain.close()]));
    for (const [host, ca] of [
      [elsewhere, 'ca.pem'],
      [plain, undefined],
    ] as const) {
      for (const sizeBytes of [1000, 2 * MIB]) {
        const { ghcr, cache, client } = await startPushing(t, {
          fake: { switches: { uploadLocation: path => host.url + path } },
          ...(ca && { upstream: { ca }, files: { [ca]: LOOPBACK_TLS.cert } }),
        });
        const got = await client.put(randomContent(sizeBytes, 'elsewhere'));
        assert.equal(got.status, 502, sentenceOf(got));
        assertNothingLeaked(cache, ghcr);
        assert.equal(host.requests.length > 0, host === elsewhere);
        for (const { authorization } of host.requests) assert.equal(authorization, 'none');
        host.resetCounters();
      }
    }
  });

  test('are in no response, even if the upstream repeats them', async t => {
    const encoded = Buffer.from(`${WRITER.username}:${SECRET}`).toString('base64');
    for (const endpoint of ['upload-start', 'token', 'api'] as const) {
      const { ghcr, cache, client } = await startPushing(t);
      const message = `not ${SECRET}${endpoint === 'api' ? '' : `, nor ${encoded}`}`;
      const body = endpoint === 'api' ? { message } : { errors: [{ code: 'DENIED', message }] };
      ghcr.fault({ endpoint, answer: { status: 403, body } });
      const got = await (endpoint === 'api' ? client.delete('manifests/v1') : client.start());
      assertError(got, 403, 'DENIED', /[Cc]redential "ci"/);
      assert(!got.body.includes(SECRET) && !got.body.includes(encoded));
      assertNothingLeaked(cache, ghcr);
    }
  });
});
