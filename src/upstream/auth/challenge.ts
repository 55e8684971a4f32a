// The WWW-Authenticate header (RFC 9110, section 11.6.1), as far as registries use it, and whether to follow it.
import { RegistryError } from '../../oci/errors.ts';

export type Challenge =
  | { readonly scheme: 'basic' }
  | { readonly scheme: 'bearer'; readonly realm: string; readonly service: string | undefined };

const PARAMETER = /([A-Za-z0-9_-]{1,64})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g;
/** A scheme: a word at the start or behind a comma that is followed by parameters or by nothing, not by `=`. */
const SCHEME = /(?:^|,)\s*([A-Za-z][A-Za-z0-9-]*)(?=\s+[A-Za-z]|\s*(?:,|$))/g;
const HEADER_LIMIT = 8192;

/** The challenge to answer: Bearer before Basic; undefined when the header holds neither, well formed. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  if (header === undefined || header.length > HEADER_LIMIT) return undefined;
  // What is quoted may look like anything; it is blanked out while schemes are looked for.
  const bare = header.replace(/"(?:[^"\\]|\\.)*"/g, quoted => '"'.repeat(quoted.length));
  const schemes = [...bare.matchAll(SCHEME)];
  for (const [i, found] of schemes.entries()) {
    if (found[1]?.toLowerCase() !== 'bearer') continue;
    const parameters = parseParameters(header.slice(found.index + found[0].length, schemes[i + 1]?.index));
    const realm = parameters.get('realm');
    if (realm !== undefined) return { scheme: 'bearer', realm, service: parameters.get('service') };
  }
  return schemes.some(found => found[1]?.toLowerCase() === 'basic') ? { scheme: 'basic' } : undefined;
}

function parseParameters(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const [, name = '', quoted, plain] of text.matchAll(PARAMETER)) {
    const value = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
    if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), value);
  }
  return parameters;
}

/**
 * The address of a challenge's realm, if it may be told our credentials. A challenge can name any address: only the
 * upstream's own host and `realms`, which are `host` or `host:port`, are trusted. Throws UPSTREAM_INVALID for another
 * host, and for plain HTTP where the upstream itself uses TLS.
 */
export function trustedRealm(realm: string, upstream: URL, realms: readonly string[]): URL {
  const url = URL.parse(realm);
  const isNamed = url !== null && (realms.includes(url.host) || realms.includes(url.hostname));
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && upstream.protocol === 'http:');
  if (url !== null && url.username === '' && isSafe && (url.host === upstream.host || isNamed)) return url;
  const shown = url === null ? 'no valid address' : `${url.protocol}//${url.host}`;
  throw new RegistryError(
    'UPSTREAM_INVALID',
    `${upstream.host} sends us to ${shown} for a token, which is not trusted with our credentials; ` +
      'if it is right, add its host to realms of this upstream in the config',
  );
}
