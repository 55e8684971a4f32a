// What the registry does beside serving manifests and blobs: tags in pages, and deletions.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ask, errorOf, type Got } from './ask.ts';
import { image, layer, NAME, Pusher, startFilled, startOpen } from './fixture.ts';

test('tags come in pages, oldest first, with the odd Link of ghcr.io', async () => {
  await using ghcr = await startFilled();
  for (let i = 250; i > 1; i--) ghcr.setTag(NAME, `v${i}`, image.manifest.digest);
  const url = `${ghcr.url}/v2/${NAME}/tags/list`;
  const pages: string[][] = [];
  for (let path: string | undefined = url; path; ) {
    const { headers, body }: Got = await ask(path);
    pages.push(JSON.parse(body.toString()).tags);
    const [, next] = /^<(.+)>; rel="next"$/.exec(String(headers.link)) ?? [];
    if (pages.length === 1) assert.equal(next, `/v2/${NAME}/tags/list?last=v152&n=0`);
    path = next && ghcr.url + next;
  }
  assert.deepEqual(
    pages.map(page => page.length),
    [100, 100, 50],
  );
  assert.deepEqual(pages.flat().slice(0, 3), ['latest', 'v250', 'v249']);
  const everything = await ask(`${url}?n=10000`);
  assert.equal(everything.headers.link, undefined);
  assert.equal(JSON.parse(everything.body.toString()).tags.length, 250);
  assert.match(String((await ask(`${url}?n=2`)).headers.link), /\?last=v250&n=2>/);
  ghcr.switches.tagsOrder = 'lexical';
  assert.deepEqual(JSON.parse((await ask(`${url}?n=2&last=v0`)).body.toString()).tags, ['v10', 'v100']);
});

describe('deleting through /v2/', () => {
  test('ghcr.io does not support it', async () => {
    await using ghcr = await startOpen();
    ghcr.push(NAME, image, 'v1');
    const pusher = new Pusher(ghcr);
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${layer.digest}`]) {
      const got = await pusher.ask('DELETE', path);
      assert.deepEqual([got.status, errorOf(got).code], [405, 'UNSUPPORTED']);
    }
  });

  test('an ordinary registry deletes a tag alone, a manifest with its tags, and blobs', async () => {
    await using ghcr = await startOpen({ allowDelete: true });
    ghcr.push(NAME, image, 'v1', 'v2', 'v3');
    const pusher = new Pusher(ghcr);
    const statuses: unknown[] = [];
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${layer.digest}`]) {
      statuses.push((await pusher.ask('DELETE', path)).status);
      const { body } = await pusher.ask('GET', 'tags/list');
      statuses.push(JSON.parse(body.toString()).tags.length);
      statuses.push((await pusher.ask('DELETE', path)).status);
    }
    assert.deepEqual(statuses, [202, 2, 404, 202, 0, 404, 202, 0, 404]);
  });
});
