// What is retried, who we are on each try, and what an error response becomes.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { type ScriptedReply, type Seen, startScripted } from '../../test/support/scripted-server.ts';
import { APP, CREDENTIAL, connectTo, fails, PassingClock, SECRET } from '../../test/support/upstream-clients.ts';
import { RegistryError } from '../oci/errors.ts';
import { PUSH } from './auth/access.ts';
import type { RequestSpec } from './requests.ts';

const UNAVAILABLE = new RegistryError('UPSTREAM_UNAVAILABLE', 'no');
const GET: RequestSpec = { method: 'GET', path: 'x', what: 'ghcr.io/owner/app', notFound: 'BLOB_UNKNOWN' };
const PUT: RequestSpec = { ...GET, method: 'PUT', access: PUSH };
const limitOf = (retryAfterMs: number) => new RegistryError('TOOMANYREQUESTS', 'slow down', { retryAfterMs });

describe('retries', () => {
  /** Work that throws these in turn, and then resolves. */
  function setUp(t: TestContext, errors: readonly Error[], clock = new TestClock()) {
    const { requests } = connectTo(t, 'http://127.0.0.1:1', { clock });
    const left = [...errors];
    const calls = { count: 0 };
    const work = async () => {
      calls.count++;
      const error = left.shift();
      if (error !== undefined) throw error;
      return 'done';
    };
    return { requests, clock, calls, work };
  }

  test('are made when the upstream is unavailable, with growing pauses', async t => {
    const { requests, clock, work } = setUp(t, [UNAVAILABLE, UNAVAILABLE]);
    assert.equal(await requests.withRetry(work), 'done');
    assert.deepEqual(clock.sleptMs, [100, 200]);
  });

  test('end after three attempts, or as many as are asked for', async t => {
    for (const attempts of [1, 2, 3]) {
      const { requests, calls, work } = setUp(t, Array(9).fill(UNAVAILABLE));
      await assert.rejects(requests.withRetry(work, undefined, attempts), UNAVAILABLE);
      assert.equal(calls.count, attempts);
    }
  });

  for (const error of [
    new RegistryError('UPSTREAM_TIMEOUT', 'has cost enough time'),
    new RegistryError('UPSTREAM_INVALID', 'would say the same again'),
    new RegistryError('DENIED', 'no'),
    new RegistryError('BLOB_UNKNOWN', 'no'),
    new Error('ours'),
  ]) {
    test(`are not made after ${error instanceof RegistryError ? error.code : 'an error of our own'}`, async t => {
      const { requests, calls, work } = setUp(t, [error]);
      await assert.rejects(requests.withRetry(work), error);
      assert.equal(calls.count, 1);
    });
  }

  test('wait for a short rate limit to be over, and a moment longer', async t => {
    const { requests, clock, work } = setUp(t, [limitOf(0.88), limitOf(2_000)], new PassingClock());
    assert.equal(await requests.withRetry(work), 'done');
    assert.deepEqual(clock.sleptMs, [3, 2_002]);
  });

  test('do not wait for a longer one, during which nothing is sent', async t => {
    const { requests, clock, calls, work } = setUp(t, [limitOf(2_001)]);
    await assert.rejects(requests.withRetry(work), fails('TOOMANYREQUESTS', /slow down/));
    await assert.rejects(requests.withRetry(work), fails('TOOMANYREQUESTS', /asked again in 3 s/));
    clock.set(-3_600_000);
    clock.advance(2_000);
    await assert.rejects(requests.withRetry(work), fails('TOOMANYREQUESTS', /asked again in 1 s/));
    clock.advance(1);
    assert.equal(await requests.withRetry(work), 'done');
    assert.equal(calls.count, 2);
  });

  test('end with the signal, during a pause too', async t => {
    const { requests, calls, work } = setUp(t, [UNAVAILABLE]);
    const reason = new Error('shutting down');
    await assert.rejects(requests.withRetry(work, AbortSignal.abort(reason)), reason);
    assert.equal(calls.count, 1);
  });
});

describe('a request', () => {
  /** A registry that takes credentials themselves, and answers as the test says. */
  async function setUp(t: TestContext, reply: (seen: Seen) => ScriptedReply, withCredential = true) {
    const { origin, seen } = await startScripted(t, reply, { challenge: 'Basic realm="r"' });
    const clients = connectTo(t, origin, withCredential ? { credentials: [CREDENTIAL] } : {});
    const send = async (spec: RequestSpec) => {
      const { status, body } = await clients.requests.send(APP, spec);
      body.abandon();
      return status;
    };
    const asWho = () => seen.map(({ headers }) => headers.authorization?.split(' ')[0] ?? 'anonymous');
    return { ...clients, seen, send, asWho };
  }

  /** The upstream lets in no one but anonymous clients. */
  const denyCredential = ({ headers }: Seen) => ({
    status: headers.authorization === undefined ? 200 : 401,
    body: `no ${headers.authorization}`,
  });

  test('that a read makes goes on anonymously when our credential is denied, for a minute without it', async t => {
    const { send, asWho, clock } = await setUp(t, denyCredential);
    assert.equal(await send(GET), 200);
    assert.equal(await send(GET), 200);
    assert.deepEqual(asWho(), ['Basic', 'anonymous', 'anonymous']);
    clock.set(-3_600_000);
    clock.advance(60_000);
    assert.equal(await send(GET), 200);
    assert.deepEqual(asWho().slice(3), ['Basic', 'anonymous']);
  });

  test('that a write makes does not', async t => {
    const { send, asWho } = await setUp(t, denyCredential);
    await assert.rejects(send(PUT), fails('DENIED', /Credential "ci" was denied.*write:packages/));
    assert.deepEqual(asWho(), ['Basic']);
  });

  for (const status of [401, 403]) {
    test(`that is denied with ${status} is DENIED: by our credential first, and never a 401 to clients`, async t => {
      const { send, asWho } = await setUp(t, ({ headers }) => ({
        status,
        body: headers.authorization === undefined ? 'who are you' : 'not you',
      }));
      await assert.rejects(send(GET), (error: unknown) => {
        fails('DENIED', new RegExp(`${status} "not you"\\. Credential "ci" was denied`))(error);
        assert.deepEqual((error as RegistryError).detail, { credential: 'ci' });
        return true;
      });
      assert.deepEqual(asWho(), ['Basic', 'anonymous']);
      const anonymous = await setUp(t, () => ({ status }), false);
      await assert.rejects(anonymous.send(GET), (error: unknown) => {
        fails('DENIED', /private or does not exist.*add one, by /)(error);
        assert.equal((error as RegistryError).detail, undefined);
        return true;
      });
    });
  }

  test('whose secrets are echoed does not repeat them', async t => {
    const basic = Buffer.from(`octocat:${SECRET}`).toString('base64');
    const { send } = await setUp(t, () => ({ status: 418, body: `you sent ${basic}, which is ${SECRET}` }));
    await assert.rejects(send(GET), fails('UPSTREAM_INVALID', /418 "you sent \*\*\*, which is \*\*\*"$/));
  });

  test('is redirected to another host without our Authorization, and once more when that refuses it', async t => {
    const other = await startScripted(t, () => ({ status: 403, body: 'expired' }), { tls: true });
    const { send, seen } = await setUp(t, () => ({
      status: 307,
      headers: { location: `${other.origin}/blob` },
    }));
    await assert.rejects(send(GET), fails('UPSTREAM_UNAVAILABLE', /^127\.0\.0\.1:\d+ does not serve .*403 expired$/));
    assert.equal(other.seen[0]?.headers.authorization, undefined);
    assert.equal(await send({ ...GET, stopAtRedirect: true }), 307);
    assert.deepEqual([seen.length, other.seen.length], [3, 2]);
  });

  test('has the code that was asked for when it is 404', async t => {
    const { send } = await setUp(t, () => ({ status: 404 }));
    await assert.rejects(send(GET), fails('BLOB_UNKNOWN', /^ghcr\.io\/owner\/app is not found at ghcr\.io: 404$/));
  });
});
