// Lists in pages: the tags of a repository, and the referrers of a manifest.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { randomContent } from '../../test/support/images.ts';
import { type ScriptedReply, type Seen, startScripted } from '../../test/support/scripted-server.ts';
import { APP, CREDENTIAL, connectTo, fails } from '../../test/support/upstream-clients.ts';

const { digest } = randomContent(1_000);

async function setUp(t: TestContext, reply: (seen: Seen) => ScriptedReply) {
  const { origin, seen } = await startScripted(t, reply);
  return { ...connectTo(t, origin), origin, seen };
}

/** A list in pages by the `last` of the query: the page, and the Link to the next. */
async function pagesOf(
  t: TestContext,
  pages: Record<string, { body: unknown; link?: string }>,
  headers: Record<string, string> = {},
) {
  return setUp(t, ({ url }) => {
    const { body, link } = pages[url.searchParams.get('last') ?? ''] ?? assert.fail(`no page ${url}`);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return { status: 200, headers: { ...headers, ...(link && { link }) }, body: text };
  });
}

describe('the tags of a repository', () => {
  const next = (last: string) => `</v2/owner/app/tags/list?last=${last}&n=0>; rel="next"`;

  test('are those of all pages, in the order of the upstream', async t => {
    const { reads, seen } = await pagesOf(t, {
      '': { body: { tags: ['b', 'a'] }, link: next('a') },
      a: { body: { tags: ['c'] }, link: '<?last=c>; rel=next' },
      c: { body: { tags: ['d'] } },
    });
    assert.deepEqual(await reads.listTags(APP), ['b', 'a', 'c', 'd']);
    assert.equal(seen[0]?.url.search, '?n=1000');
  });

  const prefixes: [what: string, before: string][] = [
    ['another host', 'http://127.0.0.1:9'],
    ['another scheme', 'https://internal'],
    ['a path with a prefix', '/registry'],
  ];
  for (const [what, before] of prefixes) {
    test(`are read on where a Link leads to the same list by ${what}`, async t => {
      const { reads } = await pagesOf(t, {
        '': { body: { tags: ['a'] }, link: `<${before}/v2/owner/app/tags/list?last=a>; rel="next"` },
        a: { body: { tags: ['b'] } },
      });
      assert.deepEqual(await reads.listTags(APP), ['a', 'b']);
    });
  }

  const links: [what: string, link: string][] = [
    ['in several values', '<?last=x>; rel="first", <?last=a>; rel="next"'],
    ['behind another parameter', '<?last=a>; title="a, b; c"; rel="next"'],
    ['with several relations', '<?last=a>; rel="alternate next"'],
    ['in capital letters', '<?last=a>; REL=NEXT'],
  ];
  for (const [what, link] of links) {
    test(`are read on where a Link is ${what}`, async t => {
      const { reads } = await pagesOf(t, { '': { body: { tags: ['a'] }, link }, a: { body: { tags: ['b'] } } });
      assert.deepEqual(await reads.listTags(APP), ['a', 'b']);
    });
  }

  const elsewhere: [what: string, link: string][] = [
    ['leads to another repository', '</v2/other/app/tags/list?last=x>; rel="next"'],
    ['leads to another list', '</v2/owner/app/referrers/x?last=x>; rel="next"'],
    ['is no address', '<http://[>; rel="next"'],
  ];
  for (const [what, link] of elsewhere) {
    test(`are an error, and not cut, where a Link ${what}`, async t => {
      const { reads, seen } = await pagesOf(t, { '': { body: { tags: ['a'] }, link } });
      await assert.rejects(
        reads.listTags(APP),
        fails('UPSTREAM_INVALID', /next page is said to be one of another list/),
      );
      assert.equal(seen.length, 1);
    });
  }

  test('end where a Link is not for the next page', async t => {
    const link = '</v2/owner/app/tags/list?last=x>; rel="prev"';
    const { reads, seen } = await pagesOf(t, { '': { body: { tags: ['a'] }, link } });
    assert.deepEqual(await reads.listTags(APP), ['a']);
    assert.equal(seen.length, 1);
  });

  test('go on behind an empty page, and end where it leads to itself', async t => {
    const { reads } = await pagesOf(t, {
      '': { body: { tags: ['a'] }, link: next('a') },
      a: { body: { tags: [] }, link: next('b') },
      b: { body: { tags: ['c'] }, link: next('c') },
      c: { body: { tags: [] }, link: next('c') },
    });
    assert.deepEqual(await reads.listTags(APP), ['a', 'c']);
  });

  test('are an error, and not cut, where pages lead in a circle or never end', async t => {
    const circle = await pagesOf(t, {
      '': { body: { tags: ['a'] }, link: next('a') },
      a: { body: { tags: ['b'] }, link: next('a') },
    });
    await assert.rejects(circle.reads.listTags(APP), fails('UPSTREAM_INVALID', /lead in a circle/));
    const endless = await setUp(t, ({ url }) => {
      const last = Number(url.searchParams.get('last') ?? 0);
      return { status: 200, headers: { link: `<?last=${last + 1}>; rel="next"` }, body: '{"tags":["a"]}' };
    });
    await assert.rejects(endless.reads.listTags(APP), fails('UPSTREAM_INVALID', /more than 1000 pages/));
  });

  test('are an error where a further page is not found, which does not tell that there are none', async t => {
    const { reads } = await setUp(t, ({ url }) => {
      const isFirst = url.searchParams.get('last') === null;
      return isFirst ? { status: 200, headers: { link: next('a') }, body: '{"tags":["a"]}' } : { status: 404 };
    });
    await assert.rejects(reads.listTags(APP), fails('UPSTREAM_INVALID', /a further page of it is missing/));
  });

  test('are 100,000 and 16 MiB at most', async t => {
    const many = await pagesOf(t, { '': { body: { tags: Array(100_001).fill('a') } } });
    await assert.rejects(many.reads.listTags(APP), fails('UPSTREAM_INVALID', /more than 100000 entries/));
    const long = 'a'.repeat(6_000_000);
    const large = await pagesOf(t, {
      '': { body: { tags: [long] }, link: next('a') },
      a: { body: { tags: [long] }, link: next('b') },
      b: { body: { tags: [long] } },
    });
    await assert.rejects(large.reads.listTags(APP), fails('UPSTREAM_INVALID', /larger than 16 MiB/));
  });

  test('do not repeat our secrets', async t => {
    const { origin } = await startScripted(
      t,
      ({ headers }) => {
        const [, secret] = Buffer.from(headers.authorization?.slice(6) ?? '', 'base64')
          .toString()
          .split(':');
        return { status: 200, body: JSON.stringify({ tags: ['a', secret] }) };
      },
      { challenge: 'Basic realm="r"' },
    );
    const { reads } = connectTo(t, origin, { credentials: [CREDENTIAL] });
    assert.deepEqual(await reads.listTags(APP), ['a', '***']);
  });

  test('may be none, as Go writes that', async t => {
    const { reads } = await pagesOf(t, { '': { body: { tags: null } } });
    assert.deepEqual(await reads.listTags(APP), []);
  });

  test('may be very many', async t => {
    const tags = Array(100_000).fill('a');
    const { reads } = await pagesOf(t, { '': { body: { tags } } });
    assert.equal((await reads.listTags(APP)).length, tags.length);
  });

  for (const body of ['', '<html>', '{}', '{"tags":"a"}', '{"tags":[1]}', 'null', ' '.repeat(9_000_000)]) {
    test(`are not ${body.trim() || (body === '' ? 'nothing' : 'more than a page can be')}`, async t => {
      const { reads } = await pagesOf(t, { '': { body } });
      await assert.rejects(reads.listTags(APP), fails('UPSTREAM_INVALID', /it is not a list of tags/));
    });
  }
});

describe('the referrers of a manifest', () => {
  const index = { 'content-type': 'application/vnd.oci.image.index.v1+json' };
  const path = `/v2/owner/app/referrers/${digest}`;

  test('are those of all pages', async t => {
    const { reads, seen } = await pagesOf(
      t,
      {
        '': { body: { manifests: [{ a: 1 }] }, link: `<${path}?last=a>; rel="next"` },
        a: { body: { manifests: [{ b: 2 }] } },
      },
      index,
    );
    assert.deepEqual(await reads.listReferrers(APP, digest), [{ a: 1 }, { b: 2 }]);
    assert.equal(seen[0]?.url.pathname, path);
  });

  test('are an error, and not none, where a further page is not found or is something else', async t => {
    const replies = [{ status: 404 }, { status: 200, body: '<html>' }, { status: 405 }];
    for (const further of replies) {
      const { reads } = await setUp(t, ({ url }) => {
        if (url.search !== '') return further;
        return { status: 200, headers: { ...index, link: '<?last=a>; rel="next"' }, body: '{"manifests":[{}]}' };
      });
      await assert.rejects(reads.listReferrers(APP, digest), fails('UPSTREAM_INVALID'));
    }
  });

  test('are an error, and not none, where a Link leads to another list', async t => {
    const { reads } = await pagesOf(
      t,
      { '': { body: { manifests: [{}] }, link: '</v2/other/app/referrers/x?last=a>; rel="next"' } },
      index,
    );
    await assert.rejects(reads.listReferrers(APP, digest), fails('UPSTREAM_INVALID', /another list/));
  });

  const without: [what: string, reply: ScriptedReply][] = [
    ['404', { status: 404 }],
    ['405', { status: 405 }],
    ['a redirect to a web page, which is not followed', { status: 303, headers: { location: '/page' } }],
    ['a page', { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' }],
    ['JSON of another type', { status: 200, headers: { 'content-type': 'application/json' }, body: '{}' }],
  ];
  for (const [what, reply] of without) {
    test(`are undefined where the upstream has no such API: ${what}`, async t => {
      const { reads, seen } = await setUp(t, () => reply);
      assert.equal(await reads.listReferrers(APP, digest), undefined);
      assert.equal(seen.length, 1);
    });
  }

  test('are not known when the upstream is unavailable, or sends what is no index', async t => {
    const failing = await setUp(t, () => ({ status: 503 }));
    await assert.rejects(failing.reads.listReferrers(APP, digest), fails('UPSTREAM_UNAVAILABLE'));
    const wrong = await pagesOf(t, { '': { body: 'nonsense' } }, index);
    await assert.rejects(wrong.reads.listReferrers(APP, digest), fails('UPSTREAM_INVALID', /it is not an image index/));
  });
});
