// The contract of Content, and what is more than that: which verdicts are remembered.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { contentSuite, verdictOn } from '../../test/contracts/content.ts';
import { TestClock } from '../../test/support/clock.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { openLocal } from '../../test/support/local-stores.ts';
import { put } from '../../test/support/stores.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import type { Content } from './content.ts';
import type { Ingest } from './ingest.ts';
import { rememberVerdicts } from './verdicts.ts';

const withVerdicts = (content: Content) =>
  rememberVerdicts(content, { clock: new TestClock(), verifyEveryMs: Infinity });

contentSuite('LocalContent with remembered verdicts', t => openLocal(t, withVerdicts));

const MIB = 1024 * 1024;

/** Known to be right, with no hashing and no wait. */
async function assertKnown(content: Content, digest: Digest): Promise<void> {
  const source = (await content.open(digest)) ?? assert.fail();
  source.close();
  assert.equal(source.verify(), true);
}

/** The verdict of a hashing that must be in progress. */
async function pendingVerdict(content: Content, digest: Digest): Promise<boolean> {
  const source = (await content.open(digest)) ?? assert.fail();
  const verdict = source.verify();
  assert.ok(verdict instanceof Promise, 'a verdict on other bytes must not count');
  source.close();
  return verdict;
}

describe('verdicts on files', () => {
  test('are known of what this process has published, with no wait', async t => {
    const stores = await openLocal(t, withVerdicts);
    await assertKnown(stores.content, await put(stores, bytesOf(randomContent(MIB, 'known'))));
  });

  test('are given once on what was here before, and then known', async t => {
    const stores = await openLocal(t, withVerdicts);
    const digest = await put(stores, bytesOf(randomContent(MIB, 'before')));
    const { content } = await stores.reopen();
    const sources = await Promise.all([1, 2, 3].map(async () => (await content.open(digest)) ?? assert.fail()));
    const verdicts = sources.map(source => source.verify());
    for (const source of sources) source.close();
    for (const verdict of verdicts) assert.ok(verdict instanceof Promise);
    assert.deepEqual(await Promise.all(verdicts), [true, true, true]);
    await assertKnown(content, digest);
  });

  test('are given again when the bytes have changed, and bad ones are not remembered', async t => {
    const stores = await openLocal(t, withVerdicts);
    const { content } = stores;
    const bytes = bytesOf(randomContent(MIB, 'running'));
    const digest = await put(stores, bytes);
    await assertKnown(content, digest);
    await stores.overwrite(digest, Buffer.alloc(bytes.length));
    assert.equal(await pendingVerdict(content, digest), false);
    assert.equal(await pendingVerdict(content, digest), false);
    await stores.overwrite(digest, bytes);
    assert.equal(await pendingVerdict(content, digest), true);
    await assertKnown(content, digest);
  });

  test('are forgotten with the content', async t => {
    const stores = await openLocal(t, withVerdicts);
    const { content, overwrite } = stores;
    const digest = await put(stores, Buffer.from('removed'));
    await content.remove(digest);
    await overwrite(digest, Buffer.from('another'));
    assert.equal(await verdictOn(content, digest), false);
  });
});

const DAY_MS = 24 * 60 * 60_000;

/** Content of one digest, whose hashings the test counts and ends. */
function testContent() {
  const state = {
    version: 1,
    hashings: [] as ((isRight: boolean) => void)[],
    closed: 0,
    openFails: false,
    isInMemory: undefined as boolean | undefined,
    /** How long it takes to ask whether it is. */
    askingMs: 0,
    asked: 0,
  };
  const clock = new TestClock();
  const verbs: Pick<Content, 'open' | 'publish'> = {
    open: () => {
      if (state.openFails) throw new Error('EIO');
      return {
        sizeBytes: 5,
        version: state.version,
        verify: () => new Promise(resolve => state.hashings.push(resolve)),
        isInMemory: () => {
          state.asked++;
          clock.advance(state.askingMs);
          return state.isInMemory;
        },
        read: async () => 0,
        close: () => {
          state.closed++;
        },
      };
    },
    publish: async () => true,
  };
  const content = rememberVerdicts(verbs as Content, { clock, verifyEveryMs: DAY_MS });
  return { inner: state, content, clock };
}

describe('a verdict', () => {
  const digest = digestOf(Buffer.from('bytes'));
  const open = async (content: Content) => (await content.open(digest)) ?? assert.fail();

  test('is shared by all that ask meanwhile, as far as they have the same version open', async () => {
    const { inner, content } = testContent();
    const [one, two] = [(await open(content)).verify(), (await open(content)).verify()];
    inner.version = 2;
    const changed = (await open(content)).verify();
    assert.equal(inner.hashings.length, 2);
    inner.hashings[0]?.(true);
    inner.hashings[1]?.(false);
    assert.deepEqual(await Promise.all([one, two, changed]), [true, true, false]);
    assert.ok((await open(content)).verify() instanceof Promise, 'the version of now is wrong');
    inner.version = 1;
    assert.equal((await open(content)).verify(), true);
  });

  test('on what was published is on the version that is there then, which is closed again', async () => {
    const { inner, content } = testContent();
    assert.equal(await content.publish({} as Ingest, digest), true);
    assert.equal(inner.closed, 1);
    assert.equal((await open(content)).verify(), true);
    inner.version = 2;
    assert.notEqual((await open(content)).verify(), true);
  });

  test('is not there when what was published cannot be opened, and nothing else is wrong', async () => {
    const { inner, content } = testContent();
    inner.openFails = true;
    assert.equal(await content.publish({} as Ingest, digest), true);
    inner.openFails = false;
    assert.notEqual((await open(content)).verify(), true);
  });

  /** The content is published, and in memory or not. */
  async function published(isInMemory: boolean | undefined) {
    const { inner, content, clock } = testContent();
    inner.isInMemory = isInMemory;
    await content.publish({} as Ingest, digest);
    const isKnown = async () => (await open(content)).verify() === true;
    /** It must be in doubt; it is hashed. */
    const hash = async (isRight = true) => {
      const verdict = (await open(content)).verify();
      assert.ok(verdict instanceof Promise);
      inner.isInMemory = isInMemory;
      inner.hashings.pop()?.(isRight);
      assert.equal(await verdict, isRight);
    };
    return { inner, clock, isKnown, hash };
  }

  test('ends with its age, on a clock that is never set, and the next one with its own', async () => {
    const { clock, isKnown, hash } = await published(true);
    clock.advance(DAY_MS - 1);
    clock.set(DAY_MS);
    assert.equal(await isKnown(), true);
    for (let times = 0; times < 3; times++) {
      clock.advance(times === 0 ? 1 : DAY_MS);
      await hash();
      assert.equal(await isKnown(), true);
    }
    clock.advance(DAY_MS);
    await hash(false);
    await hash();
  });

  test('ends when the bytes have left memory, for all that ask until they are hashed', async () => {
    const { inner, isKnown, hash } = await published(true);
    assert.equal(await isKnown(), true);
    inner.isInMemory = false;
    assert.equal(await isKnown(), false);
    // The hashing has brought them back.
    inner.isInMemory = true;
    assert.equal(await isKnown(), false);
    assert.equal(inner.hashings.length, 1);
    await hash();
    assert.equal(await isKnown(), true);
  });

  test('does not end that way again within ten minutes', async () => {
    const { inner, clock, isKnown, hash } = await published(true);
    for (let times = 0; times < 3; times++) {
      inner.isInMemory = false;
      await hash();
      inner.isInMemory = false;
      assert.equal(await isKnown(), true);
      clock.advance(10 * 60_000 - 1);
      assert.equal(await isKnown(), true);
      clock.advance(1);
    }
  });

  for (const isInMemory of [undefined, false]) {
    test(`ends with its age alone where being in memory is ${isInMemory} right after the hashing`, async () => {
      const { inner, clock, isKnown, hash } = await published(isInMemory);
      inner.isInMemory = false;
      assert.equal(await isKnown(), true);
      assert.equal(inner.asked, 1);
      clock.advance(DAY_MS);
      await hash();
      inner.isInMemory = false;
      assert.equal(await isKnown(), true);
    });
  }

  test('costs a hundredth of the time at most to be held against memory', async () => {
    const { inner, clock, isKnown } = await published(true);
    inner.askingMs = 2;
    const askedBefore = inner.asked;
    const startedMs = clock.monotonic();
    while (clock.monotonic() - startedMs < 1_000) {
      assert.equal(await isKnown(), true);
      clock.advance(1);
    }
    assert.ok(inner.asked - askedBefore <= 5, `asked ${inner.asked - askedBefore} times`);
  });
});
