import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { temporaryDirectory } from '../../test/support/local-stores.ts';
import { openLogins } from './logins.ts';

test('of logins that are kept at the same time none is lost', async t => {
  const data = join(await temporaryDirectory(t), 'data');
  const stores = await Promise.all(Array.from({ length: 8 }, () => openLogins({ data })));
  await Promise.all(
    stores.map((store, i) =>
      store.keep({
        ...{ host: 'ghcr.io', name: `login ${i}`, owner: '*', username: 'octocat', token: 'ghp_x' },
        checkedAt: '2026-01-01T00:00:00.000Z',
      }),
    ),
  );
  const { logins } = await openLogins({ data });
  assert.deepEqual(
    logins.map(({ name }) => name).toSorted(),
    stores.map((_, i) => `login ${i}`),
  );
});
