import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { digestOf } from '../oci/digest.ts';
import { LocalReferrers } from './local-referrers.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const OTHER = { upstream: 'ghcr.io', name: 'owner/other' };
const GRACE_MS = 60_000;
const digest = (text: string) => digestOf(Buffer.from(text));
const entry = (text: string) => ({ digest: digest(text), size: 1 });
const SUBJECT = digest('subject');

function setUp() {
  const clock = new TestClock();
  const referrers = new LocalReferrers(clock, GRACE_MS);
  const pushed = (text: string) => referrers.pushed(APP, SUBJECT, digest(text), entry(text));
  const completed = (...listed: unknown[]) => referrers.completed(APP, SUBJECT, listed);
  return { clock, referrers, pushed, completed };
}

test('what was pushed is added, and what was deleted is left out', () => {
  const { clock, referrers, pushed, completed } = setUp();
  pushed('a');
  referrers.deleted(APP, SUBJECT, digest('b'));
  assert.deepEqual(completed(), [entry('a')]);
  assert.deepEqual(completed(entry('b'), entry('c')), [entry('c'), entry('a')]);
  pushed('b');
  assert.deepEqual(completed(entry('a')), [entry('a'), entry('b'), entry('c')], 'c was shown meanwhile');
  clock.advance(GRACE_MS);
  assert.deepEqual(completed(entry('c')), [entry('c')]);
});

test('what is listed is handed on as it is where nothing was written, and what has no digest always', () => {
  const { referrers, pushed, completed } = setUp();
  const odd = [null, 5, {}, { digest: 5 }, entry('a')];
  assert.deepEqual(completed(...odd), odd);
  pushed('a');
  assert.deepEqual(completed(...odd), odd);
  assert.deepEqual(referrers.completed(OTHER, SUBJECT, []), []);
  assert.deepEqual(referrers.completed(APP, digest('other'), []), []);
});

test('what others have pushed is kept until the upstream has not shown it for the grace time', () => {
  const { clock, pushed, completed } = setUp();
  pushed('a');
  completed(entry('theirs'));
  clock.advance(GRACE_MS - 1);
  pushed('b');
  assert.deepEqual(completed(), [entry('a'), entry('theirs'), entry('b')]);
  clock.advance(1);
  assert.deepEqual(completed(), [entry('b')]);
});

test('entries are remembered within bounds of their number and size', () => {
  const { referrers } = setUp();
  const large = { ...entry('large'), annotations: { text: 'x'.repeat(4 * 1024 * 1024) } };
  for (let i = 0; i < 10; i++) referrers.pushed(APP, digest(`${i}`), digest('large'), large);
  const remembered = Array.from({ length: 10 }, (_, i) => referrers.completed(APP, digest(`${i}`), []).length);
  assert(remembered.reduce((sum, count) => sum + count, 0) <= 4);
  assert.equal(remembered.at(-1), 1);
});
