// Which realm may be told our credentials. A challenge can name any address, so a registry, or someone in between, could
// send them anywhere: only the upstream's own host and the hosts that the config names are trusted.
import { RegistryError } from '../../oci/errors.ts';

/**
 * The address of a challenge's realm. `realms` are `host` or `host:port`. Throws UPSTREAM_INVALID for a realm that is
 * not trusted: another host, or plain HTTP where the upstream itself uses TLS.
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
