// Looks after the tokens of a running cache: one that GitHub does not know any more, or that is about to end, is said in the
// log once a day, before pulls fail. What cannot be found out now is found out another day, and is nobody's trouble.
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { OwnedCredential } from '../credentials/credential.ts';
import { kindOf, NEW_TOKEN_URL } from '../credentials/kinds.ts';
import { Mask } from '../upstream/auth/mask.ts';
import { accountOf } from '../upstream/github/account.ts';
import type { Dialer } from '../upstream/transport/dialer.ts';

export interface WatchedUpstream {
  readonly name: string;
  /** GitHub's. */
  readonly api: URL;
  readonly dialer: Dialer;
  /** As they are now. */
  credentials(): readonly OwnedCredential[];
}

const TICK_MS = 60_000;
const DAY_MS = 86_400_000;
const WARNED_MS = 14 * DAY_MS;

/** Looks a minute after the start, and then once a day, until the function is called that this returns. */
export function watchTokens(upstreams: readonly WatchedUpstream[], clock: Clock, log: Log): () => void {
  let nextMs = 0;
  return clock.every(TICK_MS, () => {
    if (clock.monotonic() < nextMs) return;
    nextMs = clock.monotonic() + DAY_MS;
    for (const upstream of upstreams) {
      for (const credential of upstream.credentials()) {
        void look(upstream, credential, clock, log).catch(() => {});
      }
    }
  });
}

async function look(
  { name, api, dialer }: WatchedUpstream,
  credential: OwnedCredential,
  clock: Clock,
  log: Log,
): Promise<void> {
  const { secret } = await credential.read();
  // What has no such prefix may be none of GitHub's business.
  if (kindOf(secret) === undefined) return;
  const account = await accountOf({ api, dialer, mask: new Mask() }, secret);
  const what = `credential "${credential.name}" for ${name}`;
  const fields = { upstream: name, credential: credential.name };
  if (account === undefined) {
    log.error(fields, `${what} is not known to ${api.host} any more, it has expired or was revoked: ${NEW_TOKEN_URL}`);
    return;
  }
  const { expiresAt } = account;
  if (expiresAt === undefined || expiresAt.getTime() - clock.now() > WARNED_MS) return;
  const days = Math.max(0, Math.floor((expiresAt.getTime() - clock.now()) / DAY_MS));
  const when = `on ${expiresAt.toISOString().slice(0, 10)}, in ${days} ${days === 1 ? 'day' : 'days'}`;
  log.warn(fields, `${what} expires ${when}; make another in time: ${NEW_TOKEN_URL}`);
}
