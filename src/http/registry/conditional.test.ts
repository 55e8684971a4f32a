import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from '../../oci/digest.ts';
import { entityTag, isKnownToClient, rangeFor } from './conditional.ts';

const digest = digestOf(Buffer.from('this'));
const other = digestOf(Buffer.from('other'));
const [tag, otherTag] = [entityTag(digest), entityTag(other)];

test('the entity tag is the digest in quotes', () => assert.equal(tag, `"${digest}"`));

describe('If-None-Match', () => {
  const table: [what: string, header: string | undefined, known: boolean][] = [
    ['no header', undefined, false],
    ['an empty one', '', false],
    ['the tag', tag, true],
    ['another tag', otherTag, false],
    ['the tag, weak, since the comparison is weak', `W/${tag}`, true],
    ['the tag among others', `${otherTag}, W/"x" ,${tag}`, true],
    ['others alone', `${otherTag}, "x"`, false],
    ['any', '*', true],
    ['the digest without quotes', digest, true],
    ['a part of the tag', tag.slice(0, -2), false],
    ['the tag and more', `${tag}x`, false],
    ['the digest of another algorithm', `"sha512:${'0'.repeat(128)}"`, false],
  ];
  for (const [what, header, known] of table) {
    test(`with ${what} ${known ? 'says' : 'does not say'} that the client has it`, () =>
      assert.equal(isKnownToClient(header, digest), known));
  }
});

describe('If-Range', () => {
  const table: [what: string, header: string | undefined, kept: boolean][] = [
    ['no header', undefined, true],
    ['the tag', tag, true],
    ['the tag and space', ` ${tag} `, true],
    ['another tag', otherTag, false],
    ['the tag, weak, since the comparison is strong', `W/${tag}`, false],
    ['a date, which nothing here has', 'Thu, 01 Jan 2026 00:00:00 GMT', false],
    ['an empty one', '', false],
  ];
  for (const [what, header, kept] of table) {
    test(`with ${what} ${kept ? 'keeps' : 'drops'} the range`, () =>
      assert.equal(rangeFor('bytes=0-1', header, digest), kept ? 'bytes=0-1' : undefined));
  }

  test('makes no range where there is none', () => assert.equal(rangeFor(undefined, tag, digest), undefined));
});
