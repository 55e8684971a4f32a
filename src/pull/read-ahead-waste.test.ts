import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { ReadAheadWaste } from './read-ahead-waste.ts';

const MIB = 1024 * 1024;
const MINUTE_MS = 60_000;
const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };

function setUp() {
  const clock = new TestClock();
  const lines: string[] = [];
  const info = (_: object, message: string) => lines.push(message);
  const waste = new ReadAheadWaste({ clock, log: { debug: info, info, warn: info, error: info } });
  let count = 0;
  const digest = (): Digest => digestOf(Buffer.from(String(++count)));
  return { clock, lines, waste, digest };
}

describe('what is read ahead', () => {
  test('is used when it is asked for, and wasted when it is not for ten minutes', () => {
    const { clock, waste, lines, digest } = setUp();
    const [used, unused] = [digest(), digest()];
    waste.fetched(APP, used, 5);
    waste.fetched(APP, unused, 7);
    waste.used(used);
    waste.used(used);
    waste.used(digest());
    clock.advance(10 * MINUTE_MS);
    waste.sweep();
    assert.deepEqual([waste.usedBytes, waste.wastedBytes], [5, 0]);
    clock.advance(1);
    waste.sweep();
    assert.deepEqual([waste.usedBytes, waste.wastedBytes], [5, 7]);
    assert.deepEqual(lines, [`ghcr.io/owner/app@${unused} was read ahead, and no client has asked for it`]);
    waste.used(unused);
    assert.equal(waste.usedBytes, 5);
  });

  test('of a repository is wasteful for a day when more is wasted than used, and that is much', () => {
    const { clock, waste, lines, digest } = setUp();
    const waste33 = () => {
      waste.fetched(APP, digest(), 33 * MIB);
      clock.advance(11 * MINUTE_MS);
      waste.sweep();
    };
    waste.fetched(APP, digest(), 30 * MIB);
    clock.advance(11 * MINUTE_MS);
    assert.equal(waste.isWasteful(APP), false, 'that is little');
    const used = digest();
    waste.fetched(APP, used, 40 * MIB);
    waste.used(used);
    assert.equal(waste.isWasteful(APP), false);
    waste33();
    assert.equal(waste.isWasteful(APP), true);
    assert.equal(waste.isWasteful(OTHER), false);
    assert.equal(lines.filter(line => /owner\/app is not read ahead for a day/.test(line)).length, 1);
    waste33();
    assert.equal(lines.filter(line => /not read ahead for a day/.test(line)).length, 1);
    clock.advance(24 * 60 * MINUTE_MS);
    assert.equal(waste.isWasteful(APP), false);
  });

  test('is remembered of so many blobs, the newest', () => {
    const { waste, digest } = setUp();
    const first = digest();
    waste.fetched(APP, first, 1);
    for (let i = 0; i < 10_000; i++) waste.fetched(APP, digest(), 1);
    waste.used(first);
    assert.deepEqual([waste.usedBytes, waste.wastedBytes], [0, 1]);
  });
});
