import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseJson, parseJsonObject } from './json.ts';

const bytesOf = (text: string) => Buffer.from(text);

describe('parseJson', () => {
  test('parses what JSON.parse does', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 20 }), text => {
        assert.deepEqual(parseJson(bytesOf(text)), JSON.parse(text));
      }),
    );
  });

  test('counts no bracket and no comma that is in a string', () => {
    const text = JSON.stringify({ '[{,:"\\': `${'[{,:'.repeat(1000)}"\\` });
    assert.deepEqual(parseJson(bytesOf(text), 3), JSON.parse(text));
  });

  const rejected: [what: string, bytes: Uint8Array, said: RegExp][] = [
    ['nothing', bytesOf(''), /^it is not JSON$/],
    ['a page', bytesOf('<html>'), /^it is not JSON$/],
    ['text that breaks off in a string', bytesOf('{"a":"\\'), /^it is not JSON$/],
    ['brackets that only close', bytesOf(']]]]'), /^it is not JSON$/],
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xff, 0x22]), /^it is not UTF-8$/],
    ['65 lists in each other', bytesOf('['.repeat(65) + ']'.repeat(65)), /nested more than 64 levels/],
    ['objects in each other without an end', bytesOf('{"a":'.repeat(100_000)), /nested more than 64 levels/],
    ['empty objects beyond number', bytesOf(`[${'{},'.repeat(100_000)}{}]`), /more than 200000 members/],
    ['numbers beyond number', bytesOf(`[${'1,'.repeat(200_000)}1]`), /more than 200000 members/],
  ];
  for (const [what, bytes, said] of rejected) {
    test(`rejects ${what}`, () => assert.throws(() => parseJson(bytes), { message: said }));
  }

  test('takes what is just within its limits', () => {
    assert.equal((parseJson(bytesOf(`[${'1,'.repeat(9)}1]`), 10) as unknown[]).length, 10);
    assert.throws(() => parseJson(bytesOf(`[${'1,'.repeat(10)}1]`), 10), /more than 10 members/);
    assert.ok(parseJson(bytesOf('['.repeat(64) + ']'.repeat(64))));
  });
});

test('parseJsonObject gives objects alone', () => {
  assert.deepEqual(parseJsonObject(bytesOf('{"a":1}')), { a: 1 });
  for (const text of ['[]', 'null', '7', '"a"', '', '{', '{"a":1,"b":2}']) {
    assert.equal(parseJsonObject(bytesOf(text), 2), undefined, text);
  }
});
