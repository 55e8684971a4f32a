import assert from 'node:assert/strict';
import { test } from 'node:test';
import { turns, until } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { startGhcr } from '../../test/support/ghcr/ghcr.ts';
import { dialerOf } from '../../test/support/upstream-clients.ts';
import type { OwnedCredential } from '../credentials/credential.ts';
import { watchTokens } from './token-watch.ts';

const DAY_MS = 86_400_000;
const LINK = 'https://github.com/settings/tokens/new?scopes=write:packages';

test('a token that is about to end, or is not known any more, is said a minute after the start and once a day', async t => {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  const clock = new TestClock();
  const lines: string[] = [];
  const write = (_fields: object, message: string) => lines.push(message);
  const log = { debug: write, info: write, warn: write, error: write };
  const credential = (name: string, read: OwnedCredential['read']): OwnedCredential => ({ name, owner: '*', read });
  const of = (secret: string) => async () => ({ username: 'x', secret });
  const credentials = [
    credential('soon', of('ghp_soon')),
    credential('late', of('ghp_late')),
    credential('never', of('ghp_never')),
    credential('gone', of('ghp_gone')),
    credential('mirror', of('a password for a mirror')),
    credential('unreadable', () => Promise.reject(new Error('no such file'))),
  ];
  // It is the first of January 2026.
  ghcr.addUser({ username: 'soon', token: 'ghp_soon', expiration: '2026-01-11 12:00:00 UTC' });
  ghcr.addUser({ username: 'late', token: 'ghp_late', expiration: '2026-02-01 12:00:00 UTC' });
  ghcr.addUser({ username: 'never', token: 'ghp_never' });
  const upstream = { name: 'ghcr.io', api: new URL(ghcr.apiUrl), dialer: dialerOf(t), credentials: () => credentials };
  const stop = watchTokens([upstream], clock, log);
  const asked = () => ghcr.count({ endpoint: 'api-user', state: 'finished' });
  clock.advance(59_999);
  await turns(20);
  assert.equal(asked(), 0);
  clock.advance(1);
  await until(() => lines.length === 2 && asked() === 4);
  const gone = `credential "gone" for ghcr.io is not known to ${new URL(ghcr.apiUrl).host} any more, it has expired or was revoked: ${LINK}`;
  const soon = `credential "soon" for ghcr.io expires on 2026-01-11, in 10 days; make another in time: ${LINK}`;
  assert.deepEqual(lines.toSorted(), [soon, gone].toSorted());
  assert.ok(ghcr.requests.every(({ headers }) => !headers.authorization?.includes('password')));
  clock.advance(DAY_MS - 60_000);
  await turns(20);
  assert.equal(asked(), 4);
  clock.advance(60_000);
  await until(() => lines.length === 4);
  assert.match(lines.join(), /expires on 2026-01-11, in 9 days/);
  await ghcr.stop();
  clock.advance(DAY_MS);
  await turns(50);
  assert.equal(lines.length, 4, 'that GitHub cannot be asked is nothing to be told');
  stop();
});
