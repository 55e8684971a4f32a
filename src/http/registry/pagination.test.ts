import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Page, pageOf } from './pagination.ts';

const TAGS = ['10', '9', 'B', 'a', 'a-b', 'a.b', 'b'];
const page = (query: string, tags: readonly string[] = TAGS): Page => pageOf(new URLSearchParams(query))(tags);

const letters = fc.string({ unit: fc.constantFrom(...'aAbB01._-'), minLength: 1, maxLength: 4 });
const lists = fc.uniqueArray(letters, { maxLength: 30 }).map(tags => tags.sort());

describe('a page of tags', () => {
  const table: [query: string, found: string[], next: string | undefined][] = [
    ['', TAGS, undefined],
    ['n=3', ['10', '9', 'B'], 'n=3&last=B'],
    ['n=3&last=B', ['a', 'a-b', 'a.b'], 'n=3&last=a.b'],
    ['n=3&last=a.b', ['b'], undefined],
    ['n=7', TAGS, undefined],
    ['n=8', TAGS, undefined],
    ['n=999999999', TAGS, undefined],
    ['n=0', [], undefined],
    ['n=0&last=a', [], undefined],
    ['last=a', ['a-b', 'a.b', 'b'], undefined],
    ['last=', TAGS, undefined],
    ['last=A', ['B', 'a', 'a-b', 'a.b', 'b'], undefined],
    ['last=b', [], undefined],
    ['n=2&last=zzz', [], undefined],
    ['n=1&other=x', ['10'], 'n=1&last=10'],
  ];
  for (const [query, found, next] of table) {
    test(`of ?${query} has ${found.length} of 7${next === undefined ? ', and is the last' : ''}`, () => {
      const fetched = page(query);
      assert.deepEqual(fetched.found, found);
      assert.equal(fetched.next?.toString(), next);
    });
  }

  test('has at most 10,000 entries, whatever is asked for', () => {
    const tags = Array.from({ length: 10_001 }, (_, i) => `v${i}`).sort();
    for (const query of ['', 'n=10001', 'n=999999999']) {
      const { found, next } = page(query, tags);
      assert.deepEqual(found, tags.slice(0, 10_000));
      assert.deepEqual(page(`${next}`, tags), { found: tags.slice(10_000), next: undefined });
    }
  });

  test('of an empty list is empty, and the last', () => {
    for (const query of ['', 'n=0', 'n=5', 'n=5&last=x']) {
      assert.deepEqual(page(query, []), { found: [], next: undefined });
    }
  });

  for (const n of ['', 'x', '-1', '1.5', '1e3', '0x1', ' 1', '1 ', '９', '1234567890', '1,2']) {
    test(`is rejected for n=${JSON.stringify(n)}, before there is a list`, () => {
      assert.throws(() => pageOf(new URLSearchParams({ n })), { code: 'PAGINATION_NUMBER_INVALID' });
    });
  }

  test('and those that follow it are the whole list, each tag once, in order', () => {
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 35 }), (tags, n) => {
        const walked: string[] = [];
        let query: URLSearchParams | undefined = new URLSearchParams({ n: `${n}` });
        let pages = 0;
        while (query !== undefined) {
          // As it goes through a Link header.
          const fetched: Page = page(query.toString(), tags);
          assert.ok(fetched.found.length <= n);
          walked.push(...fetched.found);
          query = fetched.next;
          pages++;
        }
        assert.deepEqual(walked, tags);
        assert.equal(pages, Math.max(1, Math.ceil(tags.length / n)), 'no page is empty but that of an empty list');
      }),
    );
  });

  test('begins behind `last`, be it in the list or not', () => {
    fc.assert(
      fc.property(lists, letters, (tags, last) => {
        const { found } = page(new URLSearchParams({ last }).toString(), tags);
        assert.deepEqual(
          found,
          tags.filter(tag => tag > last),
        );
      }),
    );
  });
});
