// GitHub's API for packages, as its client meets it: that of the fake ghcr.io, or one that answers as a test says.
import type { TestContext } from 'node:test';
import { credentialsOf, type OwnedCredential } from '../../src/credentials/credential.ts';
import { Packages } from '../../src/upstream/github/packages.ts';
import { TestClock } from './clock.ts';
import { type Ghcr, startGhcr, type User } from './ghcr/ghcr.ts';
import { makeImage } from './images.ts';
import { startScripted } from './scripted-server.ts';
import { APP, CREDENTIAL, dialerOf, SECRET } from './upstream-clients.ts';

export function packagesAt(
  t: TestContext,
  api: string,
  credentials: readonly OwnedCredential[] = [CREDENTIAL],
): Packages {
  const dialer = dialerOf(t);
  return new Packages({
    ...{ api: new URL(api), credentials: credentialsOf(credentials), dialer, clock: new TestClock() },
  });
}

/** The API of the fake ghcr.io, where the user may do anything unless `user` says otherwise. */
export async function packagesOfGhcr(
  t: TestContext,
  options: { user?: Partial<User>; credentials?: readonly OwnedCredential[] } = {},
): Promise<{ ghcr: Ghcr; packages: Packages }> {
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  const scopes = ['read:packages', 'delete:packages'];
  ghcr.addUser({ username: 'octocat', token: SECRET, scopes, packages: ['*'], ...options.user });
  return { ghcr, packages: packagesAt(t, ghcr.apiUrl, options.credentials) };
}

/** An API that answers each `METHOD path` as the test says; anything else is 404. */
export async function scriptedApi(
  t: TestContext,
  reply: (call: string) => { status: number; headers?: Record<string, string>; body?: unknown } | undefined,
) {
  const calls: string[] = [];
  const { origin } = await startScripted(t, ({ method, url }) => {
    const call = `${method} ${url.pathname}${url.search}`;
    calls.push(call);
    const { status, headers = {}, body = '' } = reply(call) ?? { status: 404 };
    return { status, headers, body: typeof body === 'string' ? body : JSON.stringify(body) };
  });
  return { url: origin, calls, packages: packagesAt(t, origin) };
}

const imageOf = (seed: string) => makeImage({ layers: [], seed });
/** Two versions, of which the first has two tags. */
export const [one, two] = [imageOf('one'), imageOf('two')];

export function pushBoth(ghcr: Ghcr, name = APP.name): void {
  ghcr.push(name, one, 'v1', 'latest');
  ghcr.push(name, two, 'v2');
}
