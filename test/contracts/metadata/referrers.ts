// What every implementation of ReferrerStore owes, as tests.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { APP, type MakeMetadata, OTHERS, row, suiteOf } from './suite.ts';

export function referrerStoreSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of ReferrerStore:`, make);

  suite('referrers are found as they were last saved, for their subject and repository alone', async (metadata, clock, reopen) => {
    const [subject, other] = [row('subject').digest, row('other').digest];
    assert.equal(await metadata.findReferrers(APP, subject), undefined);
    await metadata.saveReferrers(APP, subject, [{ digest: 'first' }]);
    clock.advance(10);
    const descriptors = [
      {
        mediaType: 'a',
        digest: 'b',
        size: 2 ** 50,
        annotations: { "'": '"\u{1f600}\u0000', __proto: 'c' },
      },
      JSON.parse('{"__proto__":{"polluted":true}}'),
      ...[null, false, 0, '', [], {}, [[[]]], "'); DROP TABLE referrers; --"],
    ];
    await metadata.saveReferrers(APP, subject, descriptors);
    const savedMs = clock.now();
    clock.advance(10);
    await metadata.saveReferrers(APP, other, []);
    for (const opened of [async () => metadata, reopen]) {
      const store = await opened();
      assert.deepEqual(await store.findReferrers(APP, subject), { descriptors, checkedAtMs: savedMs });
      assert.deepEqual(await store.findReferrers(APP, other), {
        descriptors: [],
        checkedAtMs: savedMs + 10,
      });
      for (const repository of OTHERS) {
        assert.equal(await store.findReferrers(repository, subject), undefined);
      }
    }
  });

  suite('referrers are whatever JSON an upstream gave', async metadata => {
    const { digest } = row('subject');
    await fc.assert(
      fc.asyncProperty(fc.array(fc.jsonValue()), async descriptors => {
        await metadata.saveReferrers(APP, digest, descriptors);
        const saved = JSON.parse(JSON.stringify(descriptors));
        assert.deepEqual((await metadata.findReferrers(APP, digest))?.descriptors, saved);
      }),
      { numRuns: 50 },
    );
  });
}
