// Whatever an upstream says, wherever it says it, no secret of ours and nothing that acts on a terminal reaches a client or
// the log.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import type { Answer, FaultMatch } from '../../support/ghcr/ghcr.ts';
import { bytesOf, makeImage, randomContent } from '../../support/images.ts';

const SECRET = 'ghp_0123456789Secret';
const BASIC = Buffer.from(`u:${SECRET}`).toString('base64');
const image = makeImage({ layers: [] });
const blob = randomContent(1_000);

const V1 = '/v2/owner/app/manifests/v1';
const BLOB = `/v2/owner/app/blobs/${blob.digest}`;
const TAGS = '/v2/owner/app/tags/list';
const REFERRERS = `/v2/owner/app/referrers/${image.manifest.digest}`;
const says = (status: number, headers: Record<string, string>, body = ''): Answer => ({ status, headers, body });

/** `%` is what an upstream may echo. */
const table: [what: string, endpoint: FaultMatch['endpoint'], path: string, answer: Answer][] = [
  ['the type of an error', 'manifest', V1, says(418, { 'content-type': 'text/%' }, '<html>')],
  ['the type of an error of the token endpoint', 'token', V1, says(500, { 'content-type': 'text/%' }, '<html>')],
  ['the type of a manifest', 'manifest', V1, says(200, { 'content-type': 'text/%' }, '{"not":"one"}')],
  ['the type of a blob', 'blobhost', BLOB, says(200, { 'content-type': 'text/%', 'content-length': '5' }, 'wrong')],
  ['the error of a blob host', 'blobhost', BLOB, says(403, { 'content-type': 'text/%' }, '<%>')],
  ['an error', 'manifest', V1, says(500, {}, '{"errors":[{"code":"%","message":"%"}]}')],
  ['an error of the token endpoint', 'token', V1, says(403, {}, '{"errors":[{"code":"%","message":"%"}]}')],
  ['a realm', 'manifest', V1, says(401, { 'www-authenticate': 'Bearer realm="https://%.example/token"' })],
  ['the scheme of a realm', 'manifest', V1, says(401, { 'www-authenticate': 'Bearer realm="%://a.example/"' })],
  ['the host of a redirect', 'blob', BLOB, says(307, { location: 'ftp://%.example/' })],
  ['the host of a redirect to nowhere', 'blob', BLOB, says(307, { location: 'http://%.localhost/' })],
  ['a tag', 'tags', TAGS, says(200, {}, '{"tags":["%"]}')],
  ['what should be tags', 'tags', TAGS, says(200, {}, '{"tags":{"%":1}}')],
  ['the next page', 'tags', TAGS, says(200, { link: '</%>; rel="next"' }, '{"tags":["a"]}')],
  ['an error of referrers', 'referrers', REFERRERS, says(500, { 'content-type': 'text/%' }, '<html>')],
  ['a digest', 'manifest', V1, says(200, { 'docker-content-digest': 'sha256:%' }, '{}')],
];

const replaced = (answer: Answer, by: string): Answer => ({
  status: answer.status,
  headers: Object.fromEntries(
    Object.entries(answer.headers ?? {}).map(([name, value]) => [name, value.replaceAll('%', by)]),
  ),
  body: String(answer.body).replaceAll('%', by),
});

for (const [what, endpoint, path, answer] of table) {
  test(`an upstream that echoes our credential in ${what} does not make us repeat it`, async t => {
    for (const echoed of [SECRET, BASIC]) {
      const { ghcr, cache } = await startBoth(t, {
        upstream: { credentials: [{ name: 'ci', owner: '*', username: 'u', token: SECRET }] },
      });
      ghcr.addUser({ username: 'u', token: SECRET });
      ghcr.push('owner/app', image, 'v0');
      ghcr.addBlob('owner/app', blob);
      // So that our credential has been used.
      assert.equal((await cache.get('/v2/owner/app/manifests/v0')).status, 200);
      cache.clock.advance(120_000);
      const { hits } = ghcr.fault({ endpoint, answer: replaced(answer, echoed) });
      assert.equal(hits, 0);
      const reply = await cache.get(path);
      await cache.settled();
      const heard = [reply.body.toString('latin1'), JSON.stringify(reply.headers), reply.phrase, cache.log()].join(
        '\n',
      );
      assert.doesNotMatch(heard, new RegExp(`${SECRET}|${BASIC.replaceAll('=', '')}`, 'i'));
    }
  });
}

test('nothing that acts on a terminal reaches the log', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  const bad = '\u001b]0;title\u0007\u202e\u2028';
  ghcr.fault({
    endpoint: 'manifest',
    answer: says(500, {}, JSON.stringify({ errors: [{ code: bad, message: bad }] })),
  });
  const reply = await cache.get(V1);
  assert.equal(reply.status, 502);
  for (const text of [cache.log(), reply.body.toString()]) {
    assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\p{Cf}\p{Zl}]|\\u/u);
  }
});

test('bytes that are right are not touched', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.addBlob('owner/app', blob);
  assert(((await cache.get(BLOB)).body as Buffer).equals(bytesOf(blob)));
});
