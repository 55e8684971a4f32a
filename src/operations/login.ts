// Logging in to an upstream: what is found out about a login, in words, before it is kept.
import type { Clock } from '../base/clock.ts';
import type { Login } from '../credentials/credential.ts';
import { adviceOn, kindOf } from '../credentials/kinds.ts';
import type { CredentialStore } from '../credentials/store.ts';
import { checkLogin } from '../upstream/auth/login-check.ts';
import { Mask } from '../upstream/auth/mask.ts';
import { type Account, accountOf } from '../upstream/github/account.ts';
import type { Dialer } from '../upstream/transport/dialer.ts';

export interface Registry {
  /** As in the config. */
  readonly name: string;
  readonly url: URL;
  /** GitHub's API, where it is GitHub's registry. */
  readonly api: URL | undefined;
  readonly realms: readonly string[];
  readonly dialer: Dialer;
  readonly clock: Clock;
}

/** A login that the registry takes. */
export interface GoodLogin {
  /** A sentence: whose it is, of which kind, and what it may do. */
  readonly summary: string;
  /** What a person should know of it; sentences. */
  readonly cautions: readonly string[];
  readonly expiresAt: Date | undefined;
}

/** Throws a sentence when the registry does not take the login, and when that cannot be found out. */
export async function checkNewLogin(registry: Registry, login: Login): Promise<GoodLogin> {
  const { name, url } = registry;
  const kind = registry.api && kindOf(login.secret);
  // A password for a mirror is none of GitHub's business.
  const api = kind !== undefined || url.host === name ? registry.api : undefined;
  if (kind?.unusable !== undefined) throw new Error(`that is a ${kind.name}: ${kind.unusable}`);
  const mask = new Mask();
  const { account, error } = await askGitHub({ ...registry, api }, login.secret, mask);
  if (api !== undefined && account === undefined && error === undefined) {
    throw new Error(`${api.host} does not know that token: it is mistyped, has expired, or was revoked`);
  }
  const checked = await checkLogin({ ...registry, mask }, login);
  if (checked.verdict === 'denied') throw new Error(`${name} denies that login: ${checked.said}`);
  const cautions = kind?.caution === undefined ? [] : [sentence(kind.caution)];
  if (checked.verdict === 'unasked') cautions.push(`${name} asks nobody for a login, so that this says nothing of it.`);
  if (error !== undefined) cautions.push(`What the token may do could not be found out: ${error}`);
  const { scopes, user } = account ?? {};
  if (user !== undefined && user.toLowerCase() !== login.username.toLowerCase()) {
    cautions.push(`The token is of the user ${user}, and not of ${login.username}; GitHub minds the token alone.`);
  }
  const advice = scopes && adviceOn(scopes);
  cautions.push(...(advice?.cautions ?? []).map(sentence));
  const may = advice?.may === undefined ? '' : ` that may ${advice.may} packages`;
  const what = kind === undefined ? 'it' : `a ${kind.name}${may}`;
  return { summary: `${name} accepts ${user ?? login.username}: ${what}.`, cautions, expiresAt: account?.expiresAt };
}

/** Keeps it. `name`: what logs call it. Throws a sentence when there is another of that name, for other repositories. */
export async function keepLogin(
  store: CredentialStore,
  { name: host, clock }: Pick<Registry, 'name' | 'clock'>,
  { username, secret }: Login,
  { name, owner, expiresAt }: { name: string; owner: string; expiresAt: Date | undefined },
): Promise<void> {
  const same = store.logins.find(each => each.host === host && each.name === name);
  if (same !== undefined && same.owner !== owner) {
    throw new Error(`there is a login "${name}" for the owner ${same.owner}; give this one another --name`);
  }
  await store.keep({
    ...{ host, name, owner, username, token: secret },
    checkedAt: new Date(clock.now()).toISOString(),
    ...(expiresAt && { expiresAt: expiresAt.toISOString() }),
  });
}

async function askGitHub(
  { api, dialer }: Registry,
  secret: string,
  mask: Mask,
): Promise<{ account?: Account | undefined; error?: string }> {
  if (api === undefined) return {};
  try {
    return { account: await accountOf({ api, dialer, mask }, secret) };
  } catch (error) {
    return { error: mask.clean((error as Error).message) };
  }
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}
