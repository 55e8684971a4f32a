// What is asked of every request, whatever its path, before anything happens: that it was meant for this cache, and that
// it does not come from a web page of another site. Such a page may send requests to this machine from the browser of
// somebody who works on it, and in open mode they would use the stored credentials. Registry clients send a Host and
// none of the other headers that are looked at here.
import type { IncomingMessage } from 'node:http';
import type { HostCheck } from '../access/hosts.ts';
import { RegistryError } from '../oci/errors.ts';

const HOST = 'host';

/**
 * Rewrites a request target in absolute-form to a path and a Host, as which it is handled (RFC 9112, section 3.2.2); a
 * user in it is dropped.
 */
export function toOriginForm(incoming: IncomingMessage): void {
  const { url = '' } = incoming;
  if (url.startsWith('/')) return;
  const [, authority, path] = /^https?:\/\/(?:[^/?#]*@)?([^/?#]*)(.*)$/i.exec(url) ?? [];
  if (authority === undefined || path === undefined) return;
  incoming.url = path.startsWith('/') ? path : `/${path}`;
  incoming.headers.host = authority;
}

/** Returns why a request is not answered: REQUEST_INVALID, MISDIRECTED or DENIED; undefined when it may go on. */
export function checkRequest(incoming: IncomingMessage, isOurs: HostCheck): RegistryError | undefined {
  if (countOfHosts(incoming.rawHeaders) > 1) {
    return new RegistryError('REQUEST_INVALID', 'the request has more than one Host header');
  }
  const { host = '', origin, 'sec-fetch-site': site } = incoming.headers;
  // HTTP/1.0 knows no Host: health checks of load balancers come without one, and no browser does.
  if (host === '' && incoming.httpVersion !== '1.0') {
    return new RegistryError('REQUEST_INVALID', 'the request has an empty Host header');
  }
  if (host !== '' && !isOurs(host)) {
    const how = 'an IP address, localhost or a name of one word is always answered; add further names to listen.hosts';
    return new RegistryError('MISDIRECTED', `${quote(host)} is not a name of this cache: ${how}`);
  }
  if (origin !== undefined && !isOwn(origin, incoming, host)) return foreign(`Origin: ${quote(origin)}`);
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return foreign(`Sec-Fetch-Site: ${quote(String(site))}`);
  }
  return undefined;
}

function countOfHosts(rawHeaders: readonly string[]): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? '';
    if (name.length === HOST.length && name.toLowerCase() === HOST) count++;
  }
  return count;
}

/**
 * Whether the page is of this cache, under the Host that it asks. Compared as URLs: an Origin never has the default port
 * of its scheme, and a Host may.
 */
function isOwn(origin: string, { socket }: IncomingMessage, host: string): boolean {
  const ours = URL.parse(`${'encrypted' in socket ? 'https' : 'http'}://${host}`);
  return ours !== null && ours.origin === origin;
}

function foreign(sign: string): RegistryError {
  const how = 'only its own pages may use this cache, under its address or a name in listen.hosts';
  return new RegistryError('DENIED', `the request comes from a web page of another site (${sign}): ${how}`);
}

function quote(header: string): string {
  return JSON.stringify(header.slice(0, 100));
}
